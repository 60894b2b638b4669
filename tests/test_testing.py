"""What hosts use in their own tests."""

import pytest
from flask import Flask
from test_gate import ask

from l402.testing import PayingClient, without_payment


def test_the_paying_client_pays_once_and_repeats(app: Flask) -> None:
    """One purchase, then the token is shown again."""
    client = app.test_client()
    assert isinstance(client, PayingClient)
    assert client.get("/quote").status_code == 200
    assert client.get("/fact").status_code == 200
    assert client.payments == 1
    assert client.get("/dear").status_code == 200
    assert client.payments == 2


def test_a_view_can_be_tested_without_payment(app: Flask) -> None:
    """Within the block every paywall is open and current_payment falsy; behind it, shut."""
    with without_payment(app):
        assert ask(app).json == {"paid": 0, "token_id": None}
    assert ask(app).status_code == 402


def test_the_way_around_is_for_tests_only(app: Flask) -> None:
    """An app that is not under test cannot be opened."""
    app.testing = False
    with pytest.raises(RuntimeError, match="TESTING"), without_payment(app):
        pass

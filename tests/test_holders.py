"""A pass that opened a view is let in again after one look, and that look misses nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Clock
from flask import Flask
from test_gate import ask, buy

from l402 import current_payment, paywall


@pytest.fixture
def shop(make_app: Callable[..., Flask]) -> Flask:
    """Views of 10 sat, but for their terms; each says what was paid, and until when it is good."""
    app = make_app(L402_RATE_LIMIT="8/hour")

    def told() -> dict[str, Any]:
        return {"paid": current_payment.paid, "ends": current_payment.ends}

    def sell(path: str, **terms: Any) -> None:
        app.add_url_rule(f"/{path}", path, paywall(**terms)(told))

    app.extensions["asked"] = asked = []
    sell("this", sats=10)
    sell("other", sats=10)
    sell("brief", sats=10, valid_for=60)
    sell("elsewhere", sats=10, service="elsewhere", valid_for=60)
    sell("called", sats=lambda: 10)
    sell("checked", sats=10, validate=lambda: asked.append(1))
    return app


def paths(app: Flask, authorization: str, path: str, times: int = 2) -> list[int]:
    return [ask(app, authorization, path).status_code for _ in range(times)]


def set_price(app: Flask, endpoint: str, msat: int) -> None:
    gate = app.extensions["l402"]
    gate.store.prices.set(gate.defaults.service, endpoint, "GET", msat)
    gate.sync._read_at = float("-inf")  # a second has passed


def test_a_repeat_says_what_the_first_request_said(shop: Flask) -> None:
    """The view learns the same of what was paid, however the caller was let in."""
    _, authorization = buy(shop, "/this")
    answers = [ask(shop, authorization, "/this").json for _ in range(3)]
    assert answers[0]["paid"] == 10_000
    assert answers == answers[:1] * 3


def test_a_price_set_at_run_time_is_met_by_a_repeat(shop: Flask) -> None:
    """Where it was not sold a pass opens what it paid for; a price that rose shuts it again."""
    _, authorization = buy(shop, "/this")
    assert paths(shop, authorization, "/other") == [200, 200]
    set_price(shop, "other", 20_000)
    answers = [ask(shop, authorization, "/other").json for _ in range(2)]
    assert [answer["reason"] for answer in answers] == ["price_too_low"] * 2


def test_a_price_set_to_nothing_is_met_by_a_repeat(shop: Flask) -> None:
    """A view that became free asks for nothing, and says so."""
    _, authorization = buy(shop, "/this")
    assert ask(shop, authorization, "/this").json["paid"] == 10_000
    set_price(shop, "this", 0)
    assert [ask(shop, authorization, "/this").json["paid"] for _ in range(2)] == [0, 0]


def test_a_shorter_view_ends_sooner_for_a_repeat(shop: Flask, clock: Clock) -> None:
    """A pass of an hour opens a view that sells a minute for that minute."""
    _, authorization = buy(shop, "/this")
    assert paths(shop, authorization, "/brief") == [200, 200]
    clock.now += 600 + 60
    assert ask(shop, authorization, "/brief").json["reason"] == "expired"
    assert ask(shop, authorization, "/this").status_code == 200


def test_who_was_let_in_on_the_way_back_is_not_let_in_for_good(shop: Flask, clock: Clock) -> None:
    """A price that rose after a callable named it holds for a while only, for repeats too."""
    _, authorization = buy(shop, "/called")
    set_price(shop, "called", 20_000)
    assert paths(shop, authorization, "/called") == [200, 200]
    clock.now += 600 + 60
    assert ask(shop, authorization, "/called").json["reason"] == "price_too_low"


def test_a_limit_that_was_appended_is_asked_at_each_request(shop: Flask, clock: Clock) -> None:
    """Whoever was handed a pass until noon is refused at noon, also after a repeat."""
    from pymacaroons import Macaroon

    _, authorization = buy(shop, "/this")
    text, _, preimage = authorization.removeprefix("L402 ").partition(":")
    macaroon = Macaroon.deserialize(text)
    service = shop.extensions["l402"].defaults.service
    macaroon.add_first_party_caveat(f"{service}_valid_until={int(clock.now) + 30}")
    narrowed = f"L402 {macaroon.serialize()}:{preimage}"
    assert paths(shop, narrowed, "/this") == [200, 200]
    clock.now += 30
    assert ask(shop, narrowed, "/this").json["reason"] == "narrowed"


def test_the_hosts_own_check_runs_at_each_request(shop: Flask) -> None:
    """`validate=` is asked before every request, not before the first alone."""
    _, authorization = buy(shop, "/checked")
    before = len(shop.extensions["asked"])
    assert paths(shop, authorization, "/checked") == [200, 200]
    assert len(shop.extensions["asked"]) == before + 2


def test_each_repeat_counts_against_the_limit(shop: Flask) -> None:
    """The token's own limit is kept, and the other token of a header still opens the view."""
    _, first = buy(shop, "/this")
    _, second = buy(shop, "/this")
    both = f"{first}, {second}"
    assert paths(shop, both, "/this", 14) == [200] * 14
    assert ask(shop, both, "/this").json["reason"] == "rate_limited"
    assert ask(shop, first, "/this").json["reason"] == "rate_limited"


def test_a_token_of_a_request_under_way_is_asked_for_again(shop: Flask) -> None:
    """Revoked while a request holds it, a token that this request remembers opens nothing."""
    _, authorization = buy(shop, "/this")
    gate = shop.extensions["l402"]
    held = gate.holders.authentic(authorization)
    gate.store.revocations.revoke("token", held[0].token_id.hex(), why="test")
    gate.sync._read_at = float("-inf")  # a second has passed
    assert ask(shop, path="/this").status_code == 402
    gate.holders.verified.put(authorization, held)
    assert ask(shop, authorization, "/this").json["reason"] == "revoked"


def test_what_another_pass_of_the_account_opens_ends_with_that_pass(
    shop: Flask, clock: Clock
) -> None:
    """The token of an account is not remembered for what it does not hold itself."""
    client, first = buy(shop, "/this")
    assert client.get("/elsewhere").status_code == 200
    assert client.authorization != first
    assert paths(shop, first, "/elsewhere") == [200, 200]
    clock.now += 600 + 60
    assert [ask(shop, first, "/elsewhere").status_code for _ in range(2)] == [402, 402]

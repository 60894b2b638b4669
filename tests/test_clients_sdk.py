"""l402sdk, in an environment of its own, buys from the example."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clients.environments import sdk_python
from support.buyers import Desk, Wallet, buyer_in_process
from support.example_server import ExampleServer, example_server
from support.purchases import Purchases

pytestmark = pytest.mark.sdk
_SCRIPT = str(Path(__file__).parent / "clients" / "sdk.py")


@pytest.fixture(scope="module")
def python() -> str:
    return str(sdk_python())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleServer]:
    with example_server(tmp_path_factory.mktemp("example")) as running:
        yield running


@pytest.fixture
def buyer(server: ExampleServer, python: str) -> Iterator[Desk]:
    with buyer_in_process(Wallet(server), python, _SCRIPT, "{desk}", "00", "{desk}") as desk:
        yield desk


class TestSdk(Purchases):
    #: It keeps one token for each URL, with its query.
    one_token_per_host = False
    buys_again = True


def test_stand_in_wallet(server: ExampleServer, python: str) -> None:
    """The client pays at the stand-in wallet itself, which it takes for an lnd."""
    with buyer_in_process(Wallet(server), python, _SCRIPT, *server.wallet(), "{desk}") as desk:
        assert desk.fetch("/quote").status == 200
        assert desk.wallet.paid == []

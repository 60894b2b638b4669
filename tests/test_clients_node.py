"""lightning-tools, on Node, buys from the example."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clients.environments import node_modules, program
from support.buyers import Desk, Wallet, buyer_in_process
from support.example_server import ExampleServer, example_server
from support.purchases import Purchases

pytestmark = pytest.mark.node
_SCRIPT = str(Path(__file__).parent / "clients" / "node.mjs")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleServer]:
    with example_server(tmp_path_factory.mktemp("example")) as running:
        yield running


@pytest.fixture
def buyer(request: pytest.FixtureRequest, server: ExampleServer) -> Iterator[Desk]:
    command = [program("node"), _SCRIPT, request.cls.version, str(node_modules()), "{desk}"]
    with buyer_in_process(Wallet(server), *command) as desk:
        yield desk


class TestLightningTools9(Purchases):
    version = "9"
    #: Its caller keeps the token; ours shows it everywhere.
    one_token_per_host = True
    #: It never pays while it is handed a token.
    buys_again = False


class TestLightningTools5(Purchases):
    version = "5"
    #: It keeps one token for each URL, with its query.
    one_token_per_host = False
    #: It hands on the 402 that a kept token earns.
    buys_again = False

"""lightning-tools, in headless Chromium, buys from the example, which is of another origin."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clients.environments import node_modules, program
from support.buyers import Desk, Wallet, buyer_in_process
from support.example_server import ExampleServer, example_server
from support.purchases import Purchases

pytestmark = pytest.mark.browser
_HERE = Path(__file__).parent / "clients"
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleServer]:
    with example_server(tmp_path_factory.mktemp("example")) as running:
        yield running


@pytest.fixture
def buyer(server: ExampleServer, tmp_path: Path) -> Iterator[Desk]:
    library = node_modules() / "lightning-tools-9" / "dist" / "esm" / "402" / "l402.js"
    files = {
        "/": ("text/html", _HERE / "page.html"),
        "/lightning-tools.mjs": ("text/javascript", library),
        "/lightning_tools_9.mjs": ("text/javascript", _HERE / "lightning_tools_9.mjs"),
        "/orders.mjs": ("text/javascript", _HERE / "orders.mjs"),
    }
    command = [program("chromium"), *_FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "{desk}/"]
    with buyer_in_process(Wallet(server), *command, files=files) as desk:
        yield desk


class TestBrowser(Purchases):
    #: Its caller keeps the token; ours shows it everywhere.
    one_token_per_host = True
    #: It never pays while it is handed a token.
    buys_again = False

"""l402-requests, in this process, buys from the example."""

from collections.abc import Iterator

import pytest
from support.buyers import RequestsBuyer, Wallet
from support.example_server import ExampleServer, example_server
from support.purchases import Purchases


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleServer]:
    with example_server(tmp_path_factory.mktemp("example")) as running:
        yield running


@pytest.fixture
def buyer(server: ExampleServer) -> RequestsBuyer:
    return RequestsBuyer(Wallet(server))


class TestRequests(Purchases):
    #: It keeps one token for a host and the first two segments of the path.
    one_token_per_host = False
    buys_again = True

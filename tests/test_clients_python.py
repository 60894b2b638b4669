"""l402-requests, in this process, buys from the example."""

import json
from collections.abc import Iterator

import pytest
from l402_requests import L402Client
from l402_requests.wallets import WalletBase
from support.buyers import Answer, Wallet
from support.example_server import ExampleServer, example_server
from support.purchases import Purchases


class _Wallet(WalletBase):
    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet

    async def pay_invoice(self, bolt11: str) -> str:
        preimage: str = json.loads(self._wallet.pay(bolt11))["result"]["payment_preimage"]
        return preimage


class RequestsBuyer:
    def __init__(self, server: ExampleServer) -> None:
        self.wallet = Wallet(server)
        self._client = L402Client(_Wallet(self.wallet), trust_env=False, timeout=60)

    def fetch(self, path: str, body: object = None, *, afresh: bool = False) -> Answer:
        url = self.wallet.server.url + path
        response = self._client.get(url) if body is None else self._client.post(url, json=body)
        return Answer(response.status_code, response.text)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleServer]:
    with example_server(tmp_path_factory.mktemp("example")) as running:
        yield running


@pytest.fixture
def buyer(server: ExampleServer) -> RequestsBuyer:
    return RequestsBuyer(server)


class TestRequests(Purchases):
    #: It keeps one token for a host and the first two segments of the path.
    one_token_per_host = False
    buys_again = True

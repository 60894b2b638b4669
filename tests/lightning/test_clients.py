"""Unmodified clients buy for money of a real network; the payments are counted in lnd's records."""

import json
import subprocess
from pathlib import Path
from typing import ClassVar

import pymacaroons
import pytest
from clients.environments import node_modules, program, sdk_python
from lightning.binaries import binaries
from support.buyers import Answer, RequestsBuyer, Wallet, buyer_in_process
from support.http_servers import serving
from support.regtest import await_that
from support.relays import relay
from support.shops import WITHIN, selling_for

pytest_plugins = ["support.regtest"]
pytestmark = pytest.mark.lightning

SCRIPTS = Path(__file__).parents[1] / "clients"
CHEAP, DEAR = "/quote", "/report?rows=20"  # 10 and 20 sat


@pytest.fixture(scope="module")
def shop(regtest, tmp_path_factory):
    with selling_for(regtest.bob, tmp_path_factory.mktemp("shop")) as running:
        yield running


class AlicesWallet(Wallet):
    """Pays at alice."""

    def __init__(self, server, alice):
        super().__init__(server)
        self._alice = alice

    def pay(self, invoice):
        return json.dumps({"result": self._alice.send(invoice)}).encode()


@pytest.fixture
def wallet(regtest, shop):
    return AlicesWallet(shop, regtest.alice)


class Sales:
    """The tests of each client, whose class has the fixture `buyer`."""

    #: The client shows one token at every view of the host.
    one_token_per_host: ClassVar[bool]
    #: Where a kept token is refused, the client buys another by itself.
    buys_again: ClassVar[bool]

    def get(self, buyer, path):
        """Get a path; where its client hands on a refusal, the caller asks without the token."""
        answer = buyer.fetch(path)
        if answer.status == 402 and not self.buys_again:
            answer = buyer.fetch(path, afresh=True)
        return answer.status

    def test_first_purchase(self, buyer, books):
        """The first request is paid for once."""
        assert buyer.fetch(CHEAP).status == 200
        assert (books.payments, books.received) == (1, 10)

    def test_repeat(self, buyer, books):
        """A repeat costs nothing."""
        assert [buyer.fetch(CHEAP).status for _ in range(3)] == [200] * 3
        assert (books.payments, books.received) == (1, 10)

    def test_cheap_then_dear(self, buyer, books):
        """A dearer view of the host costs its price, once, and the cheaper one nothing more."""
        assert [self.get(buyer, path) for path in (CHEAP, DEAR, CHEAP, DEAR)] == [200] * 4
        assert (books.payments, books.received) == (2, 30)

    def test_dear_then_cheap(self, buyer, books):
        """A cheaper view costs nothing more to a client that shows its token there."""
        assert [self.get(buyer, path) for path in (DEAR, CHEAP, DEAR, CHEAP)] == [200] * 4
        expected = (1, 20) if self.one_token_per_host else (2, 30)
        assert (books.payments, books.received) == expected

    def test_post(self, buyer, books):
        """A POST arrives with its body after the payment, and again with the kept token."""
        for body in ({"say": "grüezi"}, {"rows": list(range(500))}):
            answer = buyer.fetch("/echo", body)
            assert (answer.status, answer.json) == (200, body)
        assert (books.payments, books.received) == (1, 10)

    def test_post_on_one_connection(self, buyer, shop, books):
        """The POST and its repetition after the payment come on one connection."""
        with serving(relay(shop.url)) as between:
            buyer.wallet.server = between
            assert buyer.fetch("/echo", {"a": 1}).status == 200
            asked = [(request.method, json.loads(request.body)) for request in between.requests]
            assert asked == [("POST", {"a": 1})] * 2
            assert between.connections == 1
        assert (books.payments, books.received) == (1, 10)

    def test_revoked(self, buyer, shop, books):
        """A kept token that was revoked is replaced with one payment."""
        assert buyer.fetch(CHEAP).status == 200
        shop.revoke(*books.payment_hashes)

        def noticed():  # a running server takes up to a second
            return buyer.fetch(CHEAP).status == 402 or books.payments == 2

        await_that("the revocation", noticed)
        assert [self.get(buyer, CHEAP) for _ in range(2)] == [200] * 2
        assert (books.payments, books.received) == (2, 20)

    def test_key_removed(self, buyer, shop, books):
        """A kept token whose key was removed is replaced with one payment."""
        assert buyer.fetch(CHEAP).status == 200
        shop.remove_key()
        assert [self.get(buyer, CHEAP) for _ in range(2)] == [200] * 2
        assert (books.payments, books.received) == (2, 20)


class TestL402Requests(Sales):
    #: It keeps one token for a host and the first two segments of the path.
    one_token_per_host = False
    buys_again = True

    @pytest.fixture
    def buyer(self, wallet):
        return RequestsBuyer(wallet)


class TestL402Sdk(Sales):
    #: It keeps one token for each URL, with its query.
    one_token_per_host = False
    buys_again = True

    @pytest.fixture
    def buyer(self, regtest, wallet):
        """The client pays at alice's REST interface by itself."""
        alice = regtest.alice
        admin = alice.macaroon().read_bytes().hex()
        command = [str(sdk_python()), str(SCRIPTS / "sdk.py"), alice.url, admin, "{desk}"]
        with buyer_in_process(wallet, *command) as desk:
            yield desk


class LightningTools(Sales):
    buys_again = False

    @pytest.fixture
    def buyer(self, wallet):
        command = [program("node"), SCRIPTS / "node.mjs", self.version, node_modules(), "{desk}"]
        with buyer_in_process(wallet, *map(str, command)) as desk:
            yield desk


class TestLightningTools9(LightningTools):
    version = "9"
    #: Its caller keeps the token; ours shows it everywhere.
    one_token_per_host = True


class TestLightningTools5(LightningTools):
    version = "5"
    #: It keeps one token for each URL, with its query.
    one_token_per_host = False


class GoBuyer:
    """A buyer of Lightning Labs' packages: a new process each time, on the same token store."""

    def __init__(self, wallet, alice, store, headers):
        self.wallet = wallet
        self._command = [binaries("buyer") / "buyer", "-headers", headers, "-store", store]
        self._command += ["-lnd", alice.grpc, "-tls", alice.tls_cert, "-macaroon", alice.macaroon()]
        self.authorization = []

    def fetch(self, path, body=None, *, afresh=False):
        post = [] if body is None else ["-post", json.dumps(body)]
        done = subprocess.run(
            [*self._command, *post, self.wallet.server.url + path],
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        self.authorization = said["authorization"]
        return Answer(said["status"], said["body"])


class Go(Sales):
    one_token_per_host = True
    buys_again = True

    @pytest.fixture
    def buyer(self, regtest, wallet, tmp_path):
        return GoBuyer(wallet, regtest.alice, tmp_path, self.headers)

    def test_preimage_caveat(self, buyer, books):
        """Its token carries the preimage in a caveat too, in each of its Authorization lines."""
        assert buyer.fetch(CHEAP).status == 200
        assert [line.split()[0] for line in buyer.authorization] == self.schemes
        for line in buyer.authorization:
            macaroon, _, preimage = line.split()[1].partition(":")
            caveats = pymacaroons.Macaroon.deserialize(macaroon).caveats
            assert caveats[-1].caveat_id_bytes == f"preimage={preimage}".encode()
        assert (books.payments, books.received) == (1, 10)


class TestGoTwoLines(Go):
    headers = "both"
    schemes = ["LSAT", "L402"]


class TestGoOneLine(Go):
    headers = "l402"
    schemes = ["L402"]

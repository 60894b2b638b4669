"""The example under gunicorn sells for money of a real network, and lnd's records agree."""

import json
import subprocess
from base64 import b64encode

import pymacaroons
import pytest
import requests
from lightning.binaries import binaries
from pymacaroons.serializers import BinarySerializer
from support.regtest import await_that
from support.shops import WITHIN, ask, buy, challenge, selling_for

pytest_plugins = ["support.regtest"]
pytestmark = pytest.mark.lightning


@pytest.fixture(scope="module")
def shop(regtest, tmp_path_factory):
    with selling_for(regtest.bob, tmp_path_factory.mktemp("shop")) as running:
        yield running


class TestPlainClient:
    def test_purchase(self, regtest, shop, books):
        """One payment opens the view for as long as the pass lasts."""
        credential = buy(regtest, ask(shop, "/quote"))
        assert [ask(shop, "/quote", credential).status_code for _ in range(3)] == [200] * 3
        assert (books.payments, books.received) == (1, 10)

    def test_other_view_of_the_price(self, regtest, shop, books):
        """What was paid opens another view of the same price."""
        credential = buy(regtest, ask(shop, "/quote"))
        assert ask(shop, "/fact", credential).status_code == 200
        assert (books.payments, books.received) == (1, 10)

    def test_dearer_view(self, regtest, shop, books):
        """A dearer view wants a payment of its own, which opens the cheaper one too."""
        credential = buy(regtest, ask(shop, "/quote"))
        refused = ask(shop, "/report?rows=20", credential)
        credential = buy(regtest, refused)
        assert len(ask(shop, "/report?rows=20", credential).json()["rows"]) == 20
        assert ask(shop, "/quote", credential).status_code == 200
        assert (books.payments, books.received) == (2, 30)

    def test_post_on_one_connection(self, regtest, shop, books):
        """A POST is paid for and repeated with its body on the same connection."""
        with requests.Session() as session:
            first = ask(shop, "/echo", method="POST", json={"a": 1}, session=session)
            credential = buy(regtest, first)
            body = {"said": "grüezi" * 1000}
            answer = ask(shop, "/echo", credential, "POST", session, json=body)
        assert answer.json() == body
        assert (books.payments, books.received) == (1, 10)

    def test_unpaid_invoice(self, regtest, shop, books):
        """An invoice that nobody pays costs nothing and opens nothing."""
        macaroon, _ = challenge(ask(shop, "/quote"))
        assert ask(shop, "/quote", f"L402 {macaroon}:{'00' * 32}").status_code == 402
        assert (books.payments, books.received) == (0, 0)


class TestGoBuyer:
    @pytest.fixture(params=["both", "l402"])
    def fetch(self, request, regtest, tmp_path):
        """Fetches URLs with the Go buyer and a token store of the test's own."""

        def run(*urls):
            alice = regtest.alice
            done = subprocess.run(
                [
                    *(binaries() / "buyer", "-headers", request.param, "-store", tmp_path),
                    *("-lnd", alice.grpc, "-tls", alice.tls_cert, "-macaroon", alice.macaroon()),
                    *urls,
                ],
                capture_output=True,
                text=True,
                timeout=WITHIN,
            )
            assert done.returncode == 0, done.stderr
            return [json.loads(line) for line in done.stdout.splitlines()]

        return run

    def test_purchase(self, shop, fetch, books):
        """The first URL is paid for; a second of the same price and a repeat are not."""
        said = fetch(shop.url + "/quote", shop.url + "/fact", shop.url + "/quote")
        assert [(one["status"], one["paid_msat"]) for one in said] == [
            (200, 10_000),
            (200, 0),
            (200, 0),
        ]
        assert (books.payments, books.received) == (1, 10)

    def test_kept_token(self, shop, fetch, books):
        """Its store's token serves the next process as well."""
        fetch(shop.url + "/quote")
        (said,) = fetch(shop.url + "/quote")
        assert (said["status"], said["paid_msat"]) == (200, 0)
        assert (books.payments, books.received) == (1, 10)

    def test_dearer_view(self, shop, fetch, books):
        """A dearer view is bought with one more payment, and the cheaper stays open."""
        said = fetch(*(shop.url + path for path in ("/quote", "/report?rows=20", "/quote")))
        assert [one["status"] for one in said] == [200] * 3
        assert [one["paid_msat"] for one in said] == [10_000, 20_000, 0]
        assert (books.payments, books.received) == (2, 30)


class Lnget:
    """The exchange of Lightning Labs' command-line client, request by request."""

    def __init__(self, regtest, shop):
        self.regtest, self.shop = regtest, shop
        self.token = None  # one for the host

    def get(self, path):
        """Fetch a path; a 402 deletes the token, and another challenge is asked for and paid."""
        response = ask(self.shop, path, self.token)
        if response.status_code == 402:
            self.token = None
            macaroon, invoice = challenge(ask(self.shop, path))
            preimage = self.regtest.alice.pay(invoice).hex()
            extended = pymacaroons.Macaroon.deserialize(macaroon)
            extended.add_first_party_caveat(f"preimage={preimage}")
            raw = BinarySerializer().serialize_raw(extended)
            encoded = b64encode(raw).decode()
            self.token = f"L402 {encoded}:{preimage}"
            response = ask(self.shop, path, self.token)
        return response

    def dry_run(self, path):
        """Ask for the price with HEAD."""
        return ask(self.shop, path, self.token, "HEAD")


class TestLnget:
    @pytest.fixture
    def lnget(self, regtest, shop):
        return Lnget(regtest, shop)

    def test_purchase(self, lnget, books):
        """Of two challenges the second is paid, and the extended macaroon opens the view."""
        assert lnget.get("/quote").status_code == 200
        assert (books.invoices, books.payments, books.received) == (2, 1, 10)

    def test_one_token_for_the_host(self, lnget, books):
        """Its one token is shown to every path; only a dearer one costs another payment."""
        paths = ("/quote", "/fact", "/quote", "/report?rows=20", "/quote", "/report?rows=20")
        assert [lnget.get(path).status_code for path in paths] == [200] * len(paths)
        assert (books.payments, books.received) == (2, 30)

    def test_dry_run(self, lnget, books):
        """HEAD shows the challenge and costs nothing, and with a token it is served."""
        told = lnget.dry_run("/quote")
        assert challenge(told)
        assert not told.content
        assert (books.payments, books.received) == (0, 0)
        assert lnget.get("/quote").status_code == 200
        assert lnget.dry_run("/quote").status_code == 200
        assert (books.payments, books.received) == (1, 10)

    def test_after_revocation(self, lnget, shop, books):
        """A revoked token is replaced with one payment."""
        assert lnget.get("/quote").status_code == 200
        shop.command("revoke", _payment_hash(lnget.token))

        def bought_again():  # a running server takes up to a second
            assert lnget.get("/quote").status_code == 200
            return books.payments == 2

        await_that("the revocation", bought_again)
        assert (books.payments, books.received) == (2, 20)


def _payment_hash(token):
    macaroon = pymacaroons.Macaroon.deserialize(token.removeprefix("L402 ").partition(":")[0])
    return macaroon.identifier_bytes[2:34].hex()

"""The example under gunicorn sells for money of a real network, and lnd's records agree."""

from base64 import b64encode

import pymacaroons
import pytest
import requests
from pymacaroons.serializers import BinarySerializer
from support.regtest import await_that
from support.shops import ask, buy, challenge, selling_for

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


class Lnget:
    """The exchange of Lightning Labs' command-line client, request by request.

    Told from its source: it keeps one token for each host and port and shows it at every path. A
    402 deletes the token; then another challenge, asked for without it, is paid, unless it costs
    more than the cap. The macaroon is sent with a caveat that repeats the preimage.
    """

    def __init__(self, alice, max_cost=1000):
        self.tokens = {}
        self._alice, self._max_cost = alice, max_cost

    def get(self, shop, path):
        """Fetch a path."""
        response = self._ask(shop, path)
        if response.status_code != 402:
            return response
        self.tokens.pop(shop.url, None)
        macaroon, invoice = challenge(self._ask(shop, path))
        if int(self._alice.call("GET", f"/v1/payreq/{invoice}")["num_satoshis"]) > self._max_cost:
            raise TooDear
        self.tokens[shop.url] = self._paid(macaroon, self._alice.pay(invoice).hex())
        return self._ask(shop, path)

    def dry_run(self, shop, path):
        """Ask for the price."""
        return self._ask(shop, path, "HEAD")

    def _ask(self, shop, path, method="GET"):
        return ask(shop, path, self.tokens.get(shop.url), method)

    def _paid(self, macaroon, preimage):
        extended = pymacaroons.Macaroon.deserialize(macaroon)
        extended.add_first_party_caveat(f"preimage={preimage}")
        raw = BinarySerializer().serialize_raw(extended)
        return f"L402 {b64encode(raw).decode()}:{preimage}"


class TooDear(Exception):
    """A challenge costs more than the client's cap."""


class TestLnget:
    @pytest.fixture
    def lnget(self, regtest):
        return Lnget(regtest.alice)

    def test_purchase(self, lnget, shop, books):
        """Of two challenges the second is paid, and the extended macaroon opens the view."""
        assert lnget.get(shop, "/quote").status_code == 200
        assert (books.invoices, books.payments, books.received) == (2, 1, 10)

    def test_one_token_for_the_host(self, lnget, shop, books):
        """Its one token is shown to every path; only a dearer one costs another payment."""
        paths = ("/quote", "/fact", "/quote", "/report?rows=20", "/quote", "/report?rows=20")
        assert [lnget.get(shop, path).status_code for path in paths] == [200] * len(paths)
        assert (books.payments, books.received) == (2, 30)

    def test_dear_then_cheap(self, lnget, shop, books):
        """The token of a dearer path opens the cheaper ones."""
        paths = ("/report?rows=20", "/quote", "/report?rows=20", "/fact")
        assert [lnget.get(shop, path).status_code for path in paths] == [200] * len(paths)
        assert (books.payments, books.received) == (1, 20)

    def test_one_token_for_each_port(self, regtest, lnget, shop, books, tmp_path):
        """Another port is another seller to it: each is paid once."""
        with selling_for(regtest.bob, tmp_path) as other:
            sellers = (shop, other, shop, other)
            assert [lnget.get(one, "/quote").status_code for one in sellers] == [200] * 4
        assert set(lnget.tokens) == {shop.url, other.url}
        assert (books.payments, books.received) == (2, 20)

    def test_dry_run(self, lnget, shop, books):
        """HEAD shows the challenge and costs nothing, and with a token it is served."""
        told = lnget.dry_run(shop, "/quote")
        assert challenge(told)
        assert not told.content
        assert (books.payments, books.received) == (0, 0)
        assert lnget.get(shop, "/quote").status_code == 200
        assert lnget.dry_run(shop, "/quote").status_code == 200
        assert (books.payments, books.received) == (1, 10)

    def test_cap(self, regtest, shop, books):
        """What costs more than its cap it does not pay, and a kept token is gone all the same."""
        lnget = Lnget(regtest.alice, max_cost=20)
        assert lnget.get(shop, "/report?rows=20").status_code == 200
        with pytest.raises(TooDear):
            lnget.get(shop, "/report?rows=21")
        assert lnget.tokens == {}
        assert (books.payments, books.received) == (1, 20)

    def test_revoked(self, lnget, shop, books):
        """A revoked token is replaced with one payment."""
        assert lnget.get(shop, "/quote").status_code == 200
        shop.revoke(*books.payment_hashes)

        def bought_again():  # a running server takes up to a second
            assert lnget.get(shop, "/quote").status_code == 200
            return books.payments == 2

        await_that("the revocation", bought_again)
        assert (books.payments, books.received) == (2, 20)

    def test_key_removed(self, lnget, shop, books):
        """A token whose key was removed is replaced with one payment."""
        assert lnget.get(shop, "/quote").status_code == 200
        shop.remove_key()
        assert [lnget.get(shop, "/quote").status_code for _ in range(2)] == [200] * 2
        assert (books.payments, books.received) == (2, 20)

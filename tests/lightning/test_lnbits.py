"""A sale through a real LNbits: whose wallets settle among themselves, and which may be down."""

import secrets
from datetime import UTC, datetime

import pytest
from support.daemons import NotYet, await_that
from support.lnbits import Lnbits
from support.shops import ask, challenge, selling

from l402.errors import NodeRefused
from l402.nodes.base import Settlement
from l402.nodes.desk import NodeDesk
from l402.nodes.url import make_node

pytestmark = pytest.mark.lightning

TEN_SAT, TEN_MINUTES = 10_000, 600


@pytest.fixture(scope="module")
def lnbits(tmp_path_factory):
    running = Lnbits(tmp_path_factory.mktemp("lnbits"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def buyer(lnbits):
    return lnbits.wallet("buyer", sats=100_000)


@pytest.fixture
def seller(lnbits):
    return lnbits.wallet("seller")


@pytest.fixture
def node(lnbits, seller):
    return make_node(lnbits.node_url(seller.invoice_key))


@pytest.fixture
def shop(lnbits, seller, tmp_path):
    with selling(tmp_path, lnbits.node_url(seller.invoice_key)) as running:
        yield running


def refusal(response):
    assert "WWW-Authenticate" not in response.headers
    assert int(response.headers["Retry-After"]) > 0
    return response.status_code, response.json()["reason"]


def buy(buyer, shop):
    macaroon, invoice = challenge(ask(shop, "/quote"))
    return f"L402 {macaroon}:{buyer.pay(invoice).hex()}"


class TestAdapter:
    def test_look_up(self, node, buyer):
        """An invoice is open until another wallet pays it, and settled from then on."""
        invoice = NodeDesk(node).create_invoice(TEN_SAT, "quotes", TEN_MINUTES)
        assert node.look_up(invoice.payment_hash) is Settlement.OPEN
        buyer.pay(invoice.bolt11)
        assert node.look_up(invoice.payment_hash) is Settlement.SETTLED

    def test_paid_by_oneself(self, lnbits, node, seller, buyer):
        """What the seller's own wallet pays is settled too, and leaves its balance as it was."""
        buyer.pay(NodeDesk(node).create_invoice(TEN_SAT, "", TEN_MINUTES).bolt11)
        invoice = NodeDesk(node).create_invoice(TEN_SAT, "", TEN_MINUTES)
        seller.pay(invoice.bolt11)
        assert node.look_up(invoice.payment_hash) is Settlement.SETTLED
        assert seller.sats == 10

    def test_unknown(self, node):
        """An invoice that LNbits never issued is gone."""
        assert node.look_up(secrets.token_bytes(32)) is Settlement.GONE

    def test_expiry(self, node):
        """An invoice that nobody paid in time is gone."""
        invoice = NodeDesk(node).create_invoice(TEN_SAT, "", 1)
        await_that("the expiry", lambda: node.look_up(invoice.payment_hash) is Settlement.GONE)

    @pytest.mark.parametrize("text", ["x" * 639, "€" * 213, '"\n\\ü'])
    def test_description(self, node, text):
        """Any description of up to 639 bytes of UTF-8 is taken."""
        NodeDesk(node).create_invoice(TEN_SAT, text, TEN_MINUTES)

    def test_refusal(self, node):
        """What LNbits refuses for its own reasons is said in its own words."""
        with pytest.raises(NodeRefused, match="status 520: Amountless invoices not supported"):
            node.create_invoice(0, "", TEN_MINUTES)

    def test_another_path(self, lnbits, seller):
        """An address of LNbits that is not its root is named as wrong."""
        url = lnbits.node_url(seller.invoice_key).replace("?", "/elsewhere?")
        with pytest.raises(NodeRefused, match="no LNbits at this address"):
            make_node(url).create_invoice(TEN_SAT, "", TEN_MINUTES)

    def test_key_of_no_wallet(self, lnbits, node, buyer):
        """A look-up with such a key counts for nothing, though LNbits says that it was paid."""
        invoice = NodeDesk(node).create_invoice(TEN_SAT, "", TEN_MINUTES)
        buyer.pay(invoice.bolt11)
        with pytest.raises(NodeRefused, match="the key is of no wallet of this LNbits"):
            make_node(lnbits.node_url(secrets.token_hex(16))).look_up(invoice.payment_hash)


class TestShop:
    def test_purchase(self, shop, seller, buyer):
        """A payment is confirmed by LNbits, recorded with the moment, and is the seller's."""
        before = datetime.now(UTC).replace(microsecond=0)
        credential = buy(buyer, shop)
        assert [ask(shop, "/quote", credential).status_code for _ in range(2)] == [200] * 2
        (payment,) = shop.payments()
        assert payment.msat == TEN_SAT
        assert before <= payment.settled_at <= datetime.now(UTC)
        assert seller.sats == 10

    def test_preimage_without_a_payment(self, shop, lnbits, seller, buyer):
        """Who knows the preimage before paying is told to wait, and then pays.

        LNbits shows it to whoever has the invoice key.
        """
        macaroon, invoice = challenge(ask(shop, "/quote"))
        (pending,) = lnbits.call("GET", "/api/v1/payments", None, {"X-Api-Key": seller.invoice_key})
        credential = f"L402 {macaroon}:{pending['preimage']}"
        assert refusal(ask(shop, "/quote", credential)) == (503, "unsettled")
        assert not shop.payments()
        assert buyer.pay(invoice).hex() == pending["preimage"]
        assert ask(shop, "/quote", credential).status_code == 200
        assert len(shop.payments()) == 1

    def test_down(self, shop, lnbits, buyer):
        """Without LNbits recorded payments open, others wait; once it is back all goes on."""
        recorded, paid = buy(buyer, shop), buy(buyer, shop)
        assert ask(shop, "/quote", recorded).status_code == 200
        lnbits.stop()
        try:
            for _ in range(3):
                assert refusal(ask(shop, "/quote")) == (503, "node_unavailable")
            assert refusal(ask(shop, "/quote", paid)) == (503, "unsettled")
            assert ask(shop, "/quote", recorded).status_code == 200
        finally:
            lnbits.start()
        await_that("a challenge", lambda: ask(shop, "/quote").status_code == 402)
        assert ask(shop, "/quote", paid).status_code == 200
        assert shop.said_of_node() == ["no connection (Connection refused)", "answers again"]


def test_wrong_key(lnbits, tmp_path):
    """A key of no wallet sells nothing, and its operator is told so once."""
    key = secrets.token_hex(16)
    with selling(tmp_path, lnbits.node_url(key)) as shop:
        for _ in range(3):
            assert refusal(ask(shop, "/quote")) == (503, "node_unavailable")
        assert shop.said_of_node() == [
            "the key is of no wallet of this LNbits; copy the wallet's invoice key"
        ]
        assert key not in (tmp_path / "gunicorn.log").read_text()


def test_invoice_key(lnbits, seller, buyer):
    """The key that the other tests sell with cannot spend."""
    desk = NodeDesk(make_node(lnbits.node_url(buyer.invoice_key)))
    invoice = desk.create_invoice(TEN_SAT, "", TEN_MINUTES)
    order = {"out": True, "bolt11": invoice.bolt11}
    with pytest.raises(NotYet, match="403"):
        lnbits.call("POST", "/api/v1/payments", order, {"X-Api-Key": seller.invoice_key})

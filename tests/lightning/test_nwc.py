"""A wallet over Nostr: its invoices are a real lnd's, and the relay is neither's nor ours."""

import logging
import secrets
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from support.nostr_relays import StoringRelay
from support.regtest import await_that
from support.shops import ask, buy, challenge, selling
from support.wallets import Wallet, WalletService, from_lnd

from l402.errors import NodeMismatch
from l402.nodes.base import Settlement
from l402.nodes.desk import NodeDesk
from l402.nodes.url import make_node

pytest_plugins = ["support.regtest"]
pytestmark = pytest.mark.lightning

TEN_SAT = 10_000
TEN_MINUTES = 600


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    with closing(StoringRelay(tmp_path_factory.mktemp("relay"))) as relay:
        yield relay


@pytest.fixture(scope="module")
def wallet(regtest, relay):
    with serving_as(Wallet(relay.url), regtest.bob) as service:
        yield service


@contextmanager
def serving_as(wallet, lnd):
    with closing(WalletService(wallet, from_lnd(lnd))) as service:
        yield service


@pytest.fixture(scope="module")
def uri(wallet):
    return wallet.connection(network="regtest")


@pytest.fixture(scope="module")
def shop(uri, tmp_path_factory):
    """The example, with nothing said about strictness."""
    with selling(tmp_path_factory.mktemp("shop"), uri) as running:
        yield running


@pytest.fixture
def desk(uri):
    return NodeDesk(make_node(uri))


def said_of_node(shop):
    """Return what its log says of the wallet, in which no secret is."""
    log = shop._log.read_text()
    assert shop.settings["FLASK_L402_NODE"].partition("secret=")[2].partition("&")[0] not in log
    return [line.partition("): ")[2] for line in log.splitlines() if line.startswith("NWC wallet")]


def is_refused(response, reason):
    """See that a request is put off with 503, and is not billed."""
    assert (response.status_code, response.json()["reason"]) == (503, reason)
    assert "WWW-Authenticate" not in response.headers
    assert int(response.headers["Retry-After"]) > 0
    return True


def test_purchase(regtest, shop, books):
    """A request is billed, paid over Lightning, and served; the wallet confirmed the payment."""
    credential = buy(regtest, ask(shop, "/quote"))
    assert [ask(shop, "/quote", credential).status_code for _ in range(2)] == [200] * 2
    (payment,) = shop.payments()
    assert (payment.msat, payment.settled_at is not None) == (TEN_SAT, True)
    assert (books.payments, books.received, books.invoices) == (1, 10, 1)


def test_preimage_without_a_payment(regtest, shop, books):
    """A wallet is verified without being told to: who has the preimage and did not pay must."""
    macaroon, invoice = challenge(ask(shop, "/quote"))
    payment_hash = regtest.alice.call("GET", f"/v1/payreq/{invoice}")["payment_hash"]
    stored = regtest.bob.call("GET", f"/v1/invoice/{payment_hash}")
    credential = f"L402 {macaroon}:{b64decode(stored['r_preimage']).hex()}"
    assert is_refused(ask(shop, "/quote", credential), "unsettled")
    assert (books.payments, books.invoices) == (0, 1)
    regtest.alice.pay(invoice)
    assert ask(shop, "/quote", credential).status_code == 200
    assert (books.payments, books.received) == (1, 10)


def test_many_at_once(shop, books):
    """Threads that are billed at the same time get an invoice each, or are told to come again."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(shop, "/quote"), range(24)))
    sold = [challenge(answer)[1] for answer in answers if answer.status_code == 402]
    assert len(set(sold)) == len(sold) == books.invoices > 0
    assert all(is_refused(a, "node_unavailable") for a in answers if a.status_code != 402)


def test_wallet_down(regtest, relay, tmp_path, books):
    """Without its wallet a shop serves whose payment is recorded, and later goes on by itself."""
    with serving_as(Wallet(relay.url), regtest.bob) as service:
        uri = service.connection(network="regtest")
        with selling(tmp_path, uri) as shop:
            recorded, paid = (buy(regtest, ask(shop, "/quote")) for _ in range(2))
            assert ask(shop, "/quote", recorded).status_code == 200
            service.close()
            assert is_refused(ask(shop, "/quote"), "node_unavailable")
            assert is_refused(ask(shop, "/quote", paid), "unsettled")
            assert ask(shop, "/quote", recorded).status_code == 200
            (line,) = said_of_node(shop)
            assert line.startswith("the wallet: no answer in time; is it running")
            service.start()
            await_that("a sale", lambda: ask(shop, "/quote").status_code == 402)
            assert ask(shop, "/quote", paid).status_code == 200
    assert (books.payments, books.received) == (2, 20)


def test_relay_down(regtest, relay, wallet, shop, books):
    """The same without the relay, to which wallet and shop come back."""
    recorded, paid = (buy(regtest, ask(shop, "/quote")) for _ in range(2))
    assert ask(shop, "/quote", recorded).status_code == 200
    relay.process.stop()
    assert is_refused(ask(shop, "/quote"), "node_unavailable")
    assert is_refused(ask(shop, "/quote", paid), "unsettled")
    assert ask(shop, "/quote", recorded).status_code == 200
    relay.start()
    await_that("a sale", lambda: ask(shop, "/quote").status_code == 402)
    assert ask(shop, "/quote", paid).status_code == 200
    assert (books.payments, books.received) == (2, 20)
    assert "the relay: no connection (Connection refused)" in said_of_node(shop)
    assert said_of_node(shop)[-1] == "answers again"


def test_unknown_connection(wallet, tmp_path):
    """A connection that the wallet does not know sells nothing, and the log tells what to do."""
    wallet.await_listening()
    with selling(tmp_path, wallet.wallet.uri(network="regtest")) as shop:
        assert is_refused(ask(shop, "/quote"), "node_unavailable")
        (line,) = said_of_node(shop)
    assert line.startswith("the wallet does not know this connection")


def test_older_wallet(regtest, relay, books):
    """A wallet of before NIP-44 is spoken to as it understands."""
    with serving_as(Wallet(relay.url, encryption=None), regtest.bob) as service:
        desk = NodeDesk(make_node(service.connection(network="regtest")))
        invoice = desk.create_invoice(TEN_SAT, "quotes", TEN_MINUTES)
        assert desk.look_up(invoice.payment_hash) is Settlement.OPEN
        regtest.alice.pay(invoice.bolt11)
        assert desk.look_up(invoice.payment_hash) is Settlement.SETTLED
    assert (books.payments, books.received) == (1, 10)


def test_create(regtest, desk):
    """The payer's lnd reads in the invoice what was ordered, be the description the longest."""
    text = "€" * 213
    invoice = desk.create_invoice(TEN_SAT, text, TEN_MINUTES)
    read = regtest.alice.call("GET", f"/v1/payreq/{invoice.bolt11}")
    assert read["payment_hash"] == invoice.payment_hash.hex()
    assert (read["num_msat"], read["expiry"], read["description"]) == ("10000", "600", text)


def test_gone(desk):
    """An invoice that the wallet never issued, or that nobody paid in time, is gone."""
    assert desk.look_up(secrets.token_bytes(32)) is Settlement.GONE
    invoice = desk.create_invoice(TEN_SAT, "", 1)
    await_that("the expiry", lambda: desk.look_up(invoice.payment_hash) is Settlement.GONE)


def test_another_network(wallet, caplog):
    """A wallet on another network than the one named sells nothing."""
    desk = NodeDesk(make_node(wallet.connection()))
    with caplog.at_level(logging.WARNING, "l402.node"), pytest.raises(NodeMismatch):
        desk.create_invoice(TEN_SAT, "", TEN_MINUTES)
    assert caplog.messages[0].endswith("network: asked for mainnet, its invoice has regtest")

"""The adapter on a real lnd, through the desk as the gate uses it."""

import logging
import secrets
import time
from base64 import b64encode

import pymacaroons
import pytest
import requests
from pymacaroons.serializers import BinarySerializer
from support.http_servers import Certificate, http_answer, serving
from support.regtest import await_that

from l402.errors import ConfigurationError, NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.desk import NodeDesk
from l402.nodes.lnd import LndNode
from l402.nodes.url import make_node
from l402.protocol import bolt11

pytest_plugins = ["support.regtest"]
pytestmark = pytest.mark.lightning

TEN_SAT = 10_000
TEN_MINUTES = 600


@pytest.fixture(scope="module")
def macaroon(regtest, tmp_path_factory):
    """A macaroon that can do what the adapter needs, and nothing else."""
    folder = tmp_path_factory.mktemp("macaroon")
    return regtest.bob.bake(folder, "invoices:read", "invoices:write")


@pytest.fixture
def desk(regtest, macaroon):
    return NodeDesk(make_node(regtest.bob.node_url(macaroon)))


def order(desk):
    return desk.create_invoice(TEN_SAT, "quotes", TEN_MINUTES)


def test_create(regtest, desk):
    """The payer's lnd reads in the invoice what was ordered."""
    invoice = order(desk)
    read = regtest.alice.call("GET", f"/v1/payreq/{invoice.bolt11}")
    assert read["payment_hash"] == invoice.payment_hash.hex()
    assert (read["num_msat"], read["expiry"], read["description"]) == ("10000", "600", "quotes")
    assert int(read["timestamp"]) + TEN_MINUTES == invoice.expires_at


def test_least_amount(regtest, desk, books):
    """One satoshi can be sold and paid."""
    regtest.alice.pay(desk.create_invoice(1000, "", TEN_MINUTES).bolt11)
    assert books.received == 1


def test_look_up(regtest, desk, books):
    """An invoice is open until it is paid, and settled as soon as the payer holds the preimage."""
    invoice = order(desk)
    assert desk.look_up(invoice.payment_hash) is Settlement.OPEN
    regtest.alice.pay(invoice.bolt11)
    assert desk.look_up(invoice.payment_hash) is Settlement.SETTLED
    assert (books.payments, books.received) == (1, 10)


def test_unknown(desk):
    """An invoice that lnd never issued is gone."""
    assert desk.look_up(secrets.token_bytes(32)) is Settlement.GONE


def test_expiry(desk):
    """An invoice that nobody paid in time is gone."""
    invoice = desk.create_invoice(TEN_SAT, "", 1)
    await_that("the expiry", lambda: desk.look_up(invoice.payment_hash) is Settlement.GONE)
    assert time.time() >= invoice.expires_at


@pytest.mark.parametrize("text", ["x" * 639, "ü" * 319 + "x", "€" * 213])
def test_longest_description(regtest, desk, text):
    """A description of 639 bytes of UTF-8 arrives whole."""
    assert len(text.encode()) == 639
    invoice = desk.create_invoice(TEN_SAT, text, TEN_MINUTES)
    read = regtest.alice.call("GET", f"/v1/payreq/{invoice.bolt11}")
    assert read["description"] == text


def test_description_too_long(desk):
    """A longer one than the adapter may be given is refused by lnd, in its own words."""
    with pytest.raises(NodeRefused, match="lnd refused with status 500: data length"):
        desk.create_invoice(TEN_SAT, "x" * 640, TEN_MINUTES)


def test_private(regtest, desk, macaroon, books):
    """With private=true an invoice names the unannounced channels, without it none."""
    regtest.open_channel(private=True)
    private = NodeDesk(make_node(regtest.bob.node_url(macaroon, private="true")))

    def hinted(desk):
        invoice = order(desk)
        read = regtest.alice.call("GET", f"/v1/payreq/{invoice.bolt11}")
        return invoice.bolt11 if read["route_hints"] else None

    invoice = await_that("the hint", lambda: hinted(private))
    assert hinted(desk) is None
    regtest.alice.pay(invoice)
    assert (books.payments, books.received) == (1, 10)


def test_macaroon_of_two_permissions(regtest, macaroon):
    """The macaroon that the other tests work with can do no more than they need."""
    for path in ("/v1/getinfo", "/v1/balance/channels", "/v1/payments", "/v1/newaddress"):
        answer = requests.get(
            regtest.bob.url + path,
            headers={"Grpc-Metadata-macaroon": macaroon.read_bytes().hex()},
            verify=str(regtest.bob.tls_cert),
            timeout=10,
        )
        assert answer.json()["message"] == "permission denied", path


def refusal(caplog, node, error, *, call=order):
    """Return what is logged, once, when the node fails with `error`; the caller is told the same.

    No log line names a credential.
    """
    desk = NodeDesk(node)
    with caplog.at_level(logging.WARNING, "l402.node"):
        for _ in range(2):
            with pytest.raises(error):
                call(desk)
    (line,) = caplog.messages
    assert node._secret not in line
    return line


def test_read_only_macaroon(regtest, caplog):
    """A macaroon that may only read can look up, and is told how to get one that can sell."""
    node = make_node(regtest.bob.node_url(regtest.bob.macaroon("readonly")))
    assert NodeDesk(node).look_up(secrets.token_bytes(32)) is Settlement.GONE
    line = refusal(caplog, node, NodeRefused)
    assert line.endswith(
        "the macaroon lacks a permission; bake one: lncli bakemacaroon invoices:read invoices:write"
    )


def test_write_only_macaroon(regtest, caplog, tmp_path):
    """A macaroon that may only write can sell, but not look up."""
    node = make_node(regtest.bob.node_url(regtest.bob.bake(tmp_path, "invoices:write")))
    invoice = order(NodeDesk(node))
    line = refusal(caplog, node, NodeRefused, call=lambda desk: desk.look_up(invoice.payment_hash))
    assert "lacks a permission" in line


def test_macaroon_of_another_node(regtest, caplog):
    """Another lnd's macaroon is named as such."""
    node = make_node(regtest.bob.node_url(regtest.alice.macaroon("invoice")))
    line = refusal(caplog, node, NodeRefused)
    assert "the macaroon is not of this lnd or was withdrawn" in line


@pytest.mark.parametrize(
    ("caveat", "meaning"),
    [
        ("time-before 2020-01-01T00:00:00Z", "the macaroon has expired"),
        ("ipaddr 192.0.2.1", "the macaroon is bound to an IP address"),
    ],
)
def test_narrowed_macaroon(regtest, caplog, macaroon, tmp_path, caveat, meaning):
    """A macaroon that is over, or bound to another address, is named as such."""
    narrowed = pymacaroons.Macaroon.deserialize(b64encode(macaroon.read_bytes()).decode())
    narrowed.add_first_party_caveat(caveat)
    path = tmp_path / "narrowed.macaroon"
    path.write_bytes(BinarySerializer().serialize_raw(narrowed))
    line = refusal(caplog, make_node(regtest.bob.node_url(path)), NodeRefused)
    assert meaning in line


def test_not_a_macaroon(regtest, caplog):
    """What lnd cannot read as a macaroon is named as such."""
    node = LndNode(regtest.bob.url, "ff" * 60, network="regtest", ca_file=regtest.bob.tls_cert)
    assert "lnd could not read the macaroon as one" in refusal(caplog, node, NodeRefused)


def test_no_macaroon(regtest):
    """A node URL without a macaroon is refused before anything is asked."""
    url = f"lnd+{regtest.bob.url}?tls_cert_path={regtest.bob.tls_cert}"
    with pytest.raises(ConfigurationError, match="macaroon_path is missing"):
        make_node(url)


def test_macaroon_lost_on_the_way(regtest, caplog, macaroon, tmp_path):
    """A proxy that strips the macaroon is suspected."""

    def strip(request):
        answer = requests.post(
            regtest.bob.url + request.path,
            request.body,
            verify=str(regtest.bob.tls_cert),
            timeout=10,
        )
        return http_answer(answer.status_code, answer.content)

    certificate = Certificate.make(tmp_path)
    with serving(strip, certificate) as proxy:
        node = LndNode(proxy.url, macaroon.read_bytes().hex(), ca_file=certificate.cert)
        line = refusal(caplog, node, NodeRefused)
    assert line.endswith("no macaroon reached lnd; does a proxy strip Grpc-Metadata-macaroon?")


def test_wrong_certificate(regtest, caplog, macaroon):
    """Another node's tls.cert is not taken for this one's."""
    url = regtest.bob.node_url(macaroon, tls_cert_path=regtest.alice.tls_cert)
    line = refusal(caplog, make_node(url), NodeUnreachable)
    assert line.endswith("its certificate is not trusted: name the node's own with tls_cert_path")


def test_no_certificate(regtest, caplog, macaroon):
    """Without its tls.cert, no self-signed certificate is trusted."""
    node = LndNode(regtest.bob.url, macaroon.read_bytes().hex(), network="regtest")
    line = refusal(caplog, node, NodeUnreachable)
    assert "its certificate is not trusted" in line


@pytest.mark.parametrize("network", ["mainnet", "testnet", "signet"])
def test_another_network(regtest, caplog, macaroon, network):
    """A node on another network than the one named sells nothing."""
    node = make_node(regtest.bob.node_url(macaroon, network=network))
    line = refusal(caplog, node, NodeMismatch)
    assert line.endswith(f"network: asked for {network}, its invoice has regtest")


def test_invoice_is_checked_as_lnd_writes_it(desk):
    """Our decoder reads in a real invoice what the desk handed out."""
    invoice = order(desk)
    read = bolt11.decode(invoice.bolt11)
    assert (read.network, read.msat, read.expiry) == ("regtest", TEN_SAT, TEN_MINUTES)

"""The list of a node's invoices: as lnd writes it, and as the desk hands it out."""

import json
from pathlib import Path

import pytest
from support.http_servers import Certificate, http_answer, serving
from support.listing import ListingNode

from l402.errors import NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes import lnd
from l402.nodes.base import Listed, Settlement
from l402.nodes.desk import NodeDesk
from l402.nodes.lnd import LndNode
from l402.nodes.simulated import SimulatedNode

ANSWERS = json.loads((Path(__file__).parent / "data" / "lnd_answers.json").read_text())
MACAROON = "02" + "c0ffee" * 20
HASH = bytes.fromhex("40d86d75cd9be44c1654d09a6ab51109b5d22d48517ffda85f72713c0bf9f9f9")
STATES = ("open", "settled", "canceled", "expired")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate):
    with serving(lambda _: http_answer(404, {}), certificate) as server:
        yield server


@pytest.fixture
def node(server, certificate):
    return LndNode(server.url, MACAROON, network="regtest", ca_file=certificate.cert)


def say(server, *invoices, status=200, **page):
    body = {"invoices": list(invoices), "first_index_offset": "1", "last_index_offset": "9"} | page
    server.behaviour = lambda _: http_answer(status, body)


def invoice(name="settled", /, **changes):
    body = {**ANSWERS[name]["body"], **changes}
    return {key: value for key, value in body.items() if value is not None}


def test_list(node, server):
    """A page is asked for by position, and each recorded state of an invoice is understood."""
    say(server, *(invoice(state) for state in STATES))
    listed = node.invoices(41)
    assert (server.requests[0].method, server.requests[0].path) == (
        "GET", "/v1/invoices?index_offset=41&num_max_invoices=100",
    )  # fmt: skip
    assert listed[1] == Listed(2, HASH, "L402", Settlement.SETTLED, 10_000, 10_000, 1_795_362_231)
    assert [(each.settled, each.pending) for each in listed] == [
        (False, True), (True, False), (False, False), (False, False),
    ]  # fmt: skip
    preimages = [invoice(state)["r_preimage"] for state in STATES]
    assert not [preimage for preimage in preimages if preimage in repr(listed)]


def test_held_and_underpaid(node, server):
    """What is held may still settle; what arrived counts, be it enough or not."""
    say(server, invoice(state="ACCEPTED"), invoice(amt_paid_msat="9999"))
    held, under = node.invoices(0)
    assert (held.settled, held.pending) == (False, True)
    assert (under.settled, under.pending, under.received) == (True, False, 9_999)


def test_spontaneous_payment(node, server):
    """What anybody sent without an invoice has no hash with lnd, and does not spoil the list."""
    sent = {"r_hash": "", "payment_request": "", "memo": "", "is_amp": True}
    say(server, invoice(**sent), invoice(add_index="3"))
    spontaneous, other = node.invoices(0)
    assert (spontaneous.description, spontaneous.payment_hash) == ("", bytes(32))
    assert other.payment_hash == HASH


def test_end(node, server):
    """Behind the last invoice, and at a node without any, the page is empty."""
    say(server)
    assert node.invoices(7) == []


@pytest.mark.parametrize(
    "page",
    [
        {"invoices": None},
        {"invoices": "none"},
        {"invoices": ["one"]},
        *(
            {"invoices": [invoice(**{name: value})]}
            for name in ("add_index", "r_hash", "memo", "state", "value_msat", "settle_date")
            for value in (None, 7)
        ),
        {"invoices": [invoice(settle_date=str(1 << 36))]},
    ],
)
def test_a_list_of_another_shape(node, server, page):
    """A list that cannot be read to its last part is a broken answer."""
    say(server, **page)
    with pytest.raises(NodeUnreachable, match="not of lnd's shape"):
        node.invoices(0)


def test_refused(node, server):
    """A macaroon that may not read invoices is named as such."""
    body = ANSWERS["no permission"]
    server.behaviour = lambda _: http_answer(body["status"], body["body"])
    with pytest.raises(NodeRefused, match="bake one: lncli bakemacaroon invoices:read"):
        node.invoices(0)


def test_large(node, server, monkeypatch):
    """A page may be larger than what is said of one invoice, within limits."""
    say(server, *(invoice(position=each, features="x" * 40_000) for each in range(50)))
    assert len(node.invoices(0)) == 50
    monkeypatch.setattr(lnd, "_LARGEST_PAGE", 1 << 20)
    with pytest.raises(NodeUnreachable, match="larger than 1 MiB"):
        node.invoices(0)


@pytest.mark.parametrize(("after", "positions"), [(3, [3, 4]), (3, [1]), (0, [2, 1]), (0, [1, 1])])
def test_out_of_order(after, positions):
    """A list that goes back, or begins before what was asked for, is refused."""
    node = ListingNode(b"s" * 32)
    one = Listed(1, HASH, "", Settlement.OPEN, 1, 0, 0)
    node.invoices = lambda _after: [one._replace(position=each) for each in positions]
    with pytest.raises(NodeMismatch, match=f"goes back behind position {after}"):
        NodeDesk(node).invoices(after)


def test_in_order():
    """The desk hands out what the node lists, gaps and all."""
    node = ListingNode(b"s" * 32)
    for number in range(3):
        node.add(bytes([number] * 32), "")
    del node.list[2]
    assert [each.position for each in NodeDesk(node).invoices(0)] == [1, 3]


def test_a_node_that_cannot():
    """A node can list its invoices only if it says so."""
    assert LndNode.can_list
    assert not SimulatedNode.can_list
    with pytest.raises(NotImplementedError):
        SimulatedNode(b"s" * 32).invoices(0)

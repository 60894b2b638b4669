import json
import time
from pathlib import Path

import pytest
from support.http_servers import Certificate, http_answer, serving

from l402.errors import NodeError, NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.cln import ClnNode

RUNE = "canary-rune_OTQ3OTM4MjM4NDc="
HASH = "2d" * 32
PREIMAGE = "9e" * 32
CREATED = {
    "payment_hash": HASH,
    "expires_at": 1_800_000_600,
    "bolt11": "lnbcrt1…",
    "payment_secret": "5e" * 32,
    "created_index": 7,
    "warning_capacity": "Insufficient incoming channel capacity to pay invoice",
}
UNPAID = {
    "label": "l402-1",
    "bolt11": "lnbcrt1…",
    "payment_hash": HASH,
    "amount_msat": 10_000,
    "status": "unpaid",
    "description": "tea",
    "expires_at": 1_800_000_600,
    "created_index": 7,
}
PAID = UNPAID | {
    "status": "paid",
    "pay_index": 3,
    "amount_received_msat": 10_000,
    "paid_at": 1_800_000_001,
    "payment_preimage": PREIMAGE,
    "updated_index": 2,
}


@pytest.fixture
def server():
    with serving(lambda _: http_answer(404, "")) as server:
        yield server


@pytest.fixture
def node(server):
    return ClnNode(server.url, RUNE, network="regtest")


def look_up(node, server, *invoices):
    server.behaviour = lambda _: http_answer(201, {"invoices": invoices})
    return node.look_up(bytes.fromhex(HASH))


def refusal(node, server, status, code, message):
    server.behaviour = lambda _: http_answer(status, {"code": code, "message": message})
    said = []
    for call in (lambda: node.create_invoice(1000, "", 600), lambda: node.look_up(b"h" * 32)):
        with pytest.raises(NodeRefused) as caught:
            call()
        said.append(str(caught.value))
    assert RUNE not in said[0] + said[1]
    assert said[0] == said[1]
    return said[0]


def test_create(node, server):
    """An order is written as CLN's invoice command reads it, under a label of its own."""
    server.behaviour = lambda _: http_answer(201, CREATED)
    for _ in range(2):
        issued = node.create_invoice(10_000, "tea", 600)
        assert (issued.bolt11, issued.payment_hash.hex()) == ("lnbcrt1…", HASH)
    orders = [json.loads(seen.body) for seen in server.requests]
    labels = [order.pop("label") for order in orders]
    assert orders == [{"amount_msat": 10_000, "description": "tea", "expiry": 600}] * 2
    assert len(set(labels)) == 2
    for seen in server.requests:
        assert (seen.method, seen.path) == ("POST", "/v1/invoice")
        assert seen.headers["rune"] == RUNE
        assert seen.headers["content-type"] == "application/json"


def test_look_up(node, server):
    """An invoice is looked up by its hash alone."""
    assert look_up(node, server, UNPAID) is Settlement.OPEN
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("POST", "/v1/listinvoices")
    assert json.loads(seen.body) == {"payment_hash": HASH}


@pytest.mark.parametrize(
    ("invoices", "settlement"),
    [
        ([UNPAID], Settlement.OPEN),
        ([UNPAID | {"status": "expired"}], Settlement.GONE),
        ([], Settlement.GONE),
        ([PAID], Settlement.SETTLED),
        ([PAID | {"amount_received_msat": 20_000}], Settlement.SETTLED),
        ([PAID | {"amount_received_msat": 9_999}], Settlement.UNDERPAID),
    ],
)
def test_states(node, server, invoices, settlement):
    """Each state of an invoice has its meaning; what arrived is compared with what was asked."""
    assert look_up(node, server, *invoices) is settlement


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "settled"},
        {"status": None},
        {"payment_hash": "2d"},
        {"payment_hash": None},
        {"amount_received_msat": "10000"},
        {"amount_received_msat": "10000msat"},
        {"amount_received_msat": True},
        {"amount_received_msat": -1},
        {"amount_received_msat": 1e9},
        {"amount_msat": None},
    ],
)
def test_an_odd_look_up(node, server, changes):
    """A look-up that cannot be read never counts as paid."""
    with pytest.raises(NodeUnreachable, match="not of CLN's shape"):
        look_up(node, server, PAID | changes)


@pytest.mark.parametrize("invoices", [None, {}, [PAID, PAID], ["paid"], [[]]])
def test_an_odd_list(node, server, invoices):
    """A list of anything but one invoice or none is odd."""
    server.behaviour = lambda _: http_answer(201, {"invoices": invoices})
    with pytest.raises(NodeUnreachable, match="not of CLN's shape: invoices"):
        node.look_up(bytes.fromhex(HASH))


def test_another_invoice(node, server):
    """An answer about another invoice than the one asked for is worth nothing."""
    with pytest.raises(NodeMismatch, match="payment hash"):
        look_up(node, server, PAID | {"payment_hash": "3d" * 32})


@pytest.mark.parametrize(
    ("status", "code", "message", "meaning"),
    [
        (403, 1501, "Not authorized: Missing rune", "no rune reached CLN; does a proxy strip"),
        (401, 1501, "Not authorized: Not derived from master", "not of this CLN; make one: light"),
        (401, 1503, "Not authorized: Blacklisted rune", "the rune was blacklisted; make one: lig"),
        (401, -32602, f"rune: should be base64 string: invalid token '{RUNE}'", "is none that CLN"),
        (401, 1502, "Not permitted: method is not equal to pay", "not suffice (Not permitted: me"),
        (401, 1502, "Not permitted: too soon", "not suffice (Not permitted: too soon); make one"),
        (401, [], None, "does not suffice (None)"),
        (500, 900, "Duplicate label", "CLN refused with status 500: Duplicate label"),
        (500, -1, f"odd\n{RUNE}", "CLN refused with status 500: odd?(rune)"),
        (404, -32601, "Unknown command 'invoic'", "no CLN at this address; correct host, port"),
    ],
)
def test_refusals(node, server, status, code, message, meaning):
    """Each refusal becomes a message that names the fix, or quotes it without the rune."""
    assert meaning in refusal(node, server, status, code, message)


@pytest.mark.parametrize("status", [200, 201, 401, 500, 502])
def test_something_other_than_json(node, server, status):
    """A proxy's page is a broken answer."""
    server.behaviour = lambda _: http_answer(status, "<html>Bad Gateway</html>")
    with pytest.raises(NodeError, match=f"answered {status} with something"):
        node.look_up(b"h" * 32)


def test_no_answer_leaks_a_preimage(node, server):
    """The preimage of a paid invoice goes nowhere."""
    assert PREIMAGE not in repr(look_up(node, server, PAID)) + repr(node) + repr(vars(node))


def test_its_own_authority(tmp_path):
    """A certificate of CLN's own is trusted when it is named, and else it is said how to."""
    certificate = Certificate.make(tmp_path)
    with serving(lambda _: http_answer(201, {"invoices": []}), certificate) as server:
        trusting = ClnNode(server.url, RUNE, ca_file=certificate.cert)
        assert trusting.look_up(b"h" * 32) is Settlement.GONE
        with pytest.raises(NodeUnreachable, match="not trusted: name the node's own with ca_path"):
            ClnNode(server.url, RUNE).look_up(b"h" * 32)


def test_its_certificate_is_told(tmp_path: Path) -> None:
    """The doctor learns when the certificate ends that the node shows, as of every such node."""
    certificate = Certificate.make(tmp_path / "a", days=20)
    with serving(lambda _: http_answer(200, {}), certificate) as server:
        end = ClnNode(server.url, RUNE, ca_file=certificate.cert).certificate_end()
    assert end is not None
    assert abs(end - time.time() - 20 * 86400) < 60

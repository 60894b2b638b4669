from base64 import b64encode
from urllib.parse import parse_qs

import pytest
from support.http_servers import http_answer, serving

from l402.errors import NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.eclair import EclairNode

PASSWORD = "canary0c0ffee"
HASH = "2d" * 32
PREIMAGE = "9e" * 32
INVOICE = {
    "prefix": "lnbcrt",
    "timestamp": 1_800_000_000,
    "nodeId": "02" + "ab" * 32,
    "serialized": "lnbcrt1…",
    "description": "tea",
    "paymentHash": HASH,
    "expiry": 600,
    "minFinalCltvExpiry": 48,
    "amount": 10_000,
    "features": {"activated": {"payment_secret": "mandatory"}, "unknown": []},
    "routingInfo": [],
}
RECEIVED = {
    "type": "received",
    "amount": 10_000,
    "receivedAt": {"iso": "2027-01-15T08:00:01Z", "unix": 1_800_000_001},
}


def described(status, **invoice):
    return {
        "invoice": INVOICE | invoice,
        "paymentPreimage": PREIMAGE,
        "paymentType": "Standard",
        "createdAt": {"iso": "2027-01-15T08:00:00Z", "unix": 1_800_000_000},
        "status": status,
    }


@pytest.fixture
def server():
    with serving(lambda _: http_answer(404, "")) as server:
        yield server


@pytest.fixture
def node(server):
    return EclairNode(server.url, PASSWORD, network="regtest")


def look_up(node, server, body, status=200):
    server.behaviour = lambda _: http_answer(status, body)
    return node.look_up(bytes.fromhex(HASH))


def test_create(node, server):
    """An order is a form, and its password stands in Basic without a user."""
    server.behaviour = lambda _: http_answer(200, INVOICE)
    issued = node.create_invoice(10_000, "tea & 1+1=ü", 600)
    assert (issued.bolt11, issued.payment_hash.hex()) == ("lnbcrt1…", HASH)
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("POST", "/createinvoice")
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert seen.headers["authorization"] == "Basic " + b64encode(b":canary0c0ffee").decode()
    assert parse_qs(seen.body.decode(), strict_parsing=True) == {
        "amountMsat": ["10000"],
        "description": ["tea & 1+1=ü"],
        "expireIn": ["600"],
    }


@pytest.mark.parametrize(
    ("status", "settlement"),
    [
        ({"type": "pending"}, Settlement.OPEN),
        ({"type": "expired"}, Settlement.GONE),
        (RECEIVED, Settlement.SETTLED),
        (RECEIVED | {"amount": 20_000}, Settlement.SETTLED),
        (RECEIVED | {"amount": 9_999}, Settlement.UNDERPAID),
    ],
)
def test_states(node, server, status, settlement):
    """Each state of an invoice has its meaning; what arrived is compared with what was asked."""
    assert look_up(node, server, described(status)) is settlement
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("POST", "/getreceivedinfo")
    assert seen.body == f"paymentHash={HASH}".encode()


def test_unknown(node, server):
    """An invoice that Eclair does not know is gone, whichever way it spaces its JSON."""
    assert look_up(node, server, {"error": "Not found"}, 404) is Settlement.GONE
    assert look_up(node, server, '{\n  "error" : "Not found"\n}', 404) is Settlement.GONE


@pytest.mark.parametrize(
    "body",
    [
        described({"type": "paid"}),
        described({"type": None}),
        described(None),
        described("received"),
        described(RECEIVED | {"amount": "10000"}),
        described(RECEIVED | {"amount": None}),
        described(RECEIVED, amount=None),
        described(RECEIVED, paymentHash="2d"),
        {"paymentRequest": INVOICE, "status": RECEIVED},
        {},
    ],
)
def test_an_odd_look_up(node, server, body):
    """A look-up that cannot be read never counts as paid."""
    with pytest.raises(NodeUnreachable, match="not of Eclair's shape"):
        look_up(node, server, body)


def test_another_invoice(node, server):
    """An answer about another invoice than the one asked for is worth nothing."""
    with pytest.raises(NodeMismatch, match="payment hash"):
        look_up(node, server, described(RECEIVED, paymentHash="3d" * 32))


@pytest.mark.parametrize(
    ("status", "said", "error", "meaning"),
    [
        (401, "The supplied authentication is invalid", NodeRefused, "copy eclair.api.password"),
        (404, "The requested resource could not be found.", NodeRefused, "no Eclair at this"),
        (404, "<html>404 Not Found</html>", NodeRefused, "no Eclair at this address"),
        (400, {"error": f"bad\n{PASSWORD}"}, NodeRefused, "status 400: bad?(password)"),
        (500, {"error": "invoice expiry"}, NodeRefused, "Eclair refused with status 500: invoice"),
        (502, "<html>Bad Gateway</html>", NodeUnreachable, "answered 502 with something that is"),
        (200, "[]", NodeUnreachable, "answered 200 with something that is no JSON"),
    ],
)
def test_refusals(node, server, status, said, error, meaning):
    """Each refusal becomes a message that names the fix, or quotes it without the password."""
    server.behaviour = lambda _: http_answer(status, said)
    for call in (lambda: node.create_invoice(1000, "", 600), lambda: node.look_up(b"h" * 32)):
        with pytest.raises(error) as caught:
            call()
        assert meaning in str(caught.value)
        assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("status", [{"type": "pending"}, RECEIVED])
def test_no_answer_leaks_a_preimage(node, server, status):
    """The preimages that Eclair shows, paid or not, go nowhere."""
    settlement = look_up(node, server, described(status))
    assert PREIMAGE not in repr(settlement) + repr(node) + repr(vars(node))

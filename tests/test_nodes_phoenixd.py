from base64 import b64encode
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_servers import http_answer, serving

from l402.errors import NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.phoenixd import PhoenixdNode, _shortened

PASSWORD = "canary0c0ffee"
SENT = b64encode(f":{PASSWORD}".encode()).decode()
HASH = "2d" * 32
PREIMAGE = "9e" * 32
HANDLE = "l402:0123456789abcdef:01234567"
PENDING = {
    "type": "incoming_payment",
    "subType": "lightning",
    "paymentHash": HASH,
    "preimage": PREIMAGE,
    "description": "tea",
    "invoice": "lnbcrt1…",
    "isPaid": False,
    "isExpired": False,
    "requestedSat": 10,
    "receivedSat": 0,
    "fees": 0,
    "expiresAt": 1_800_000_600_000,
    "createdAt": 1_800_000_000_000,
}
PAID = PENDING | {"isPaid": True, "receivedSat": 10, "completedAt": 1_800_000_001_000}


@pytest.fixture
def server():
    with serving(lambda _: http_answer(404, "")) as server:
        yield server


@pytest.fixture
def node(server):
    return PhoenixdNode(server.url, PASSWORD, network="regtest")


def look_up(node, server, body, status=200):
    server.behaviour = lambda _: http_answer(status, body)
    return node.look_up(bytes.fromhex(HASH))


def test_create(node, server):
    """An order is a form, and its password stands in Basic without a user."""
    created = {"amountSat": 10, "paymentHash": HASH, "serialized": "lnbcrt1…"}
    server.behaviour = lambda _: http_answer(200, created)
    issued = node.create_invoice(10_000, "tea & 1+1=ü", 600)
    assert (issued.bolt11, issued.payment_hash.hex()) == ("lnbcrt1…", HASH)
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("POST", "/createinvoice")
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert seen.headers["authorization"] == "Basic " + b64encode(b":canary0c0ffee").decode()
    assert parse_qs(seen.body.decode(), strict_parsing=True) == {
        "amountSat": ["10"],
        "description": ["tea & 1+1=ü"],
        "expirySeconds": ["600"],
    }


@pytest.mark.parametrize(
    ("front", "shortened"),
    [
        ("tea", "tea"),
        ("x" * 97, "x" * 97),
        ("x" * 98, "x" * 97),
        ("a b " * 150, "a b " * 24 + "a"),
        ("🍵" * 99, "🍵" * 48),  # two units of UTF-16 each
        ("é" * 300, "é" * 97),
    ],
)
def test_the_handle_stays_whole(front, shortened):
    """A description is cut to 128 units before the handle that a sale is recognised by."""
    assert _shortened(f"{front} {HANDLE}") == f"{shortened} {HANDLE}"


def test_a_description_of_one_word():
    """A word that is too long itself is cut, and no letter in two."""
    assert _shortened("x" * 200) == "x" * 128
    assert _shortened("tea " + "x" + "🍵" * 99) == "tea x" + "🍵" * 61


@given(st.text())
def test_descriptions(text):
    """Any text is cut to 128 units of UTF-16 at most, and none that is short enough."""
    text = text.encode("utf-16-le", "ignore").decode("utf-16-le")
    found = _shortened(text)
    assert len(found.encode("utf-16-le")) <= 256
    assert found == text or len(text.encode("utf-16-le")) > 256


@pytest.mark.parametrize(
    ("changes", "settlement"),
    [
        ({}, Settlement.SETTLED),
        ({"receivedSat": 20}, Settlement.SETTLED),
        ({"receivedSat": 9}, Settlement.UNDERPAID),
        ({"receivedSat": 4, "fees": 6_000}, Settlement.SETTLED),
        ({"receivedSat": 4, "fees": 5_700}, Settlement.SETTLED),
        ({"receivedSat": 4, "fees": 5_000}, Settlement.UNDERPAID),
        ({"isExpired": True}, Settlement.SETTLED),
        ({"isPaid": False}, Settlement.OPEN),
        ({"isPaid": False, "isExpired": True}, Settlement.GONE),
    ],
)
def test_states(node, server, changes, settlement):
    """What arrived counts with what a new channel took of it, to the satoshi."""
    assert look_up(node, server, PAID | changes) is settlement
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("GET", f"/payments/incoming/{HASH}")


def test_unknown(node, server):
    """A payment that phoenixd does not know is gone."""
    assert look_up(node, server, "Not found", 404) is Settlement.GONE


@pytest.mark.parametrize("name", ["isPaid", "receivedSat", "requestedSat", "fees", "paymentHash"])
@pytest.mark.parametrize("value", [None, "10", [], 1.5])
def test_an_odd_look_up(node, server, name, value):
    """A look-up that cannot be read never counts as paid."""
    with pytest.raises(NodeUnreachable, match=f"not of phoenixd's shape: {name}"):
        look_up(node, server, PAID | {name: value})


def test_another_payment(node, server):
    """An answer about another payment than the one asked for is worth nothing."""
    with pytest.raises(NodeMismatch, match="payment hash"):
        look_up(node, server, PAID | {"paymentHash": "3d" * 32})


@pytest.mark.parametrize(
    ("status", "said", "error", "meaning"),
    [
        (401, "Invalid authentication (use basic", NodeRefused, "copy http-password-limited-acc"),
        (404, "Unknown endpoint (check api doc)", NodeRefused, "no phoenixd at this address"),
        (400, f"bad\n{PASSWORD}", NodeRefused, "refused with status 400: bad?(password)"),
        (400, f"Authorization: Basic {SENT}", NodeRefused, "400: Authorization: Basic (password)"),
        (500, "", NodeRefused, "phoenixd refused with status 500: "),
        (502, "<html>Bad Gateway</html>", NodeUnreachable, "a proxy answered for it with status"),
        (200, "<html>Hello</html>", NodeUnreachable, "answered 200 with something that is no JS"),
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
        assert SENT not in str(caught.value)


def test_no_answer_leaks_a_preimage(node, server):
    """The preimages that phoenixd shows, paid or not, go nowhere."""
    for body in (PAID, PENDING):
        assert PREIMAGE not in repr(look_up(node, server, body)) + repr(node) + repr(vars(node))

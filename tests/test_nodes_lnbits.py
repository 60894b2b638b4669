import json

import pytest
from support.http_servers import http_answer, serving

from l402.errors import NodeError, NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.lnbits import LnbitsNode

KEY = "canary0c0ffee0c0ffee0c0ffee0c0ff"
HASH = "2d" * 32
PREIMAGE = "9e" * 32
DETAILS = {
    "checking_id": HASH,
    "payment_hash": HASH,
    "wallet_id": "a" * 32,
    "amount": 10_000,
    "fee": 0,
    "bolt11": "lnbc100n1…",
    "status": "success",
    "memo": "tea",
    "expiry": "2027-01-15T08:10:00+00:00",
    "preimage": PREIMAGE,
}
PAID = {"paid": True, "preimage": PREIMAGE, "details": DETAILS}
PENDING = {"paid": False, "status": "pending", "preimage": None}
PENDING |= {"details": DETAILS | {"status": "pending"}}
FAILED = {"paid": False, "status": "failed", "details": DETAILS | {"status": "failed"}}


@pytest.fixture
def server():
    with serving(lambda _: http_answer(404, "")) as server:
        yield server


@pytest.fixture
def node(server):
    return LnbitsNode(server.url, KEY)


def look_up(node, server, body, status=200):
    server.behaviour = lambda _: http_answer(status, body)
    return node.look_up(bytes.fromhex(HASH))


def test_create(node, server):
    """An order is written as LNbits reads it, in satoshis."""
    server.behaviour = lambda _: http_answer(201, DETAILS | {"status": "pending"})
    issued = node.create_invoice(10_000, "tea", 600)
    assert (issued.bolt11, issued.payment_hash.hex()) == ("lnbc100n1…", HASH)
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("POST", "/api/v1/payments")
    assert seen.headers["x-api-key"] == KEY
    assert json.loads(seen.body) == {"out": False, "amount": 10, "memo": "tea", "expiry": 600}


@pytest.mark.parametrize(
    ("status", "body", "settlement"),
    [
        (200, PAID, Settlement.SETTLED),
        (200, PENDING, Settlement.OPEN),
        (200, FAILED, Settlement.GONE),
        (404, {"detail": "Payment does not exist."}, Settlement.GONE),
    ],
)
def test_states(node, server, status, body, settlement):
    """Each recorded state of a payment has its meaning."""
    assert look_up(node, server, body, status) is settlement
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("GET", f"/api/v1/payments/{HASH}")
    assert seen.headers["x-api-key"] == KEY


@pytest.mark.parametrize(
    "body",
    [
        PAID | {"paid": False},
        PENDING | {"paid": True},
        PAID | {"paid": "true"},
        PAID | {"paid": None},
        PAID | {"details": None},
        PAID | {"details": []},
        PAID | {"details": DETAILS | {"status": "paid"}},
        PAID | {"details": DETAILS | {"status": None}},
        PAID | {"details": DETAILS | {"payment_hash": 7}},
        PAID | {"details": DETAILS | {"payment_hash": "x" * 64}},
    ],
)
def test_an_odd_look_up(node, server, body):
    """A look-up that cannot be read, or contradicts itself, never counts as paid."""
    with pytest.raises(NodeUnreachable, match="not of LNbits's shape"):
        look_up(node, server, body)


def test_another_payment(node, server):
    """An answer about another payment than the one asked for is worth nothing."""
    with pytest.raises(NodeMismatch, match="payment hash"):
        look_up(node, server, PAID | {"details": DETAILS | {"payment_hash": "3d" * 32}})


@pytest.mark.parametrize("body", [{"paid": True, "preimage": PREIMAGE}, {"paid": False}])
def test_what_strangers_are_told(node, server, body):
    """LNbits tells anybody whether a payment was made; that counts for nothing."""
    with pytest.raises(NodeRefused, match="the key is of no wallet of this LNbits"):
        look_up(node, server, body)


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (401, {"detail": "No Api Key provided."}, "no key reached LNbits; does a proxy strip"),
        (429, {"error": "Rate limit exceeded: 200 per 1 minute"}, "asked too often; raise its"),
        (404, {"detail": "Not Found"}, "no LNbits at this address; correct host, port or path"),
        (403, {"detail": f"User of {KEY} is blocked"}, "status 403: User of (key) is blocked"),
        (520, {"detail": "Wallet balance cannot exceed 9 sats."}, "status 520: Wallet balance can"),
        (400, {"detail": [{"loc": ["body", "memo"]}]}, "status 400: [{'loc': ['body', 'memo']}]"),
    ],
)
def test_refusals(node, server, status, body, meaning):
    """Each refusal becomes a message that names the fix, or quotes it without the key."""
    server.behaviour = lambda _: http_answer(status, body)
    for call in (lambda: node.create_invoice(1000, "", 600), lambda: node.look_up(b"h" * 32)):
        with pytest.raises(NodeRefused) as caught:
            call()
        assert meaning in str(caught.value)
        assert KEY not in str(caught.value)


def test_the_key_of_no_wallet(node, server):
    """A key that LNbits does not know is named."""
    server.behaviour = lambda _: http_answer(404, {"detail": "Wallet not found."})
    with pytest.raises(NodeRefused, match="copy the wallet's invoice key"):
        node.create_invoice(1000, "", 600)


def test_a_rate_limit_takes_its_time(node, server):
    """Who comes while LNbits is asked too often is told to come in a minute."""
    server.behaviour = lambda _: http_answer(429, {"error": "Rate limit exceeded"})
    with pytest.raises(NodeRefused) as caught:
        node.create_invoice(1000, "", 600)
    assert caught.value.retry_after == 60


def test_not_installed_yet(node, server):
    """An LNbits that was never set up leads every call to its page for that."""
    server.behaviour = lambda _: http_answer(307, "", "Location: /first_install")
    with pytest.raises(NodeUnreachable, match="redirect"):
        node.create_invoice(1000, "", 600)


@pytest.mark.parametrize("status", [200, 201, 404, 520])
def test_something_other_than_json(node, server, status):
    """A proxy's page is a broken answer."""
    server.behaviour = lambda _: http_answer(status, "<html>Bad Gateway</html>")
    with pytest.raises(NodeError, match=f"answered {status} with something"):
        node.look_up(b"h" * 32)


def test_no_answer_leaks_a_preimage(node, server):
    """The preimages that LNbits shows, paid or not, go nowhere."""
    for body in (PAID, PENDING):
        assert PREIMAGE not in repr(look_up(node, server, body)) + repr(node) + repr(vars(node))

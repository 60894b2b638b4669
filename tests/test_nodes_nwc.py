import gc
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from support.daemons import await_that, free_port
from support.http_servers import http_answer, serving
from support.nostr_relays import local_relay, staged_relay
from support.wallets import Wallet, WalletService

from l402.errors import NodeError, NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.desk import NodeDesk
from l402.nodes.nwc_url import nwc_node
from l402.nodes.simulated import SimulatedNode
from l402.protocol import bolt11

TEN_SAT = 10_000
SECRET = "5ec2e7" * 10 + "5ec2"
HASH = bytes.fromhex("40d86d75cd9be44c1654d09a6ab51109b5d22d48517ffda85f72713c0bf9f9f9")

_MINT = SimulatedNode(b"s" * 32)


def backend(method, params):
    """Issue what is asked for, and say of everything that it was settled."""
    if method == "lookup_invoice":
        return {"type": "incoming", **params, "amount": TEN_SAT, "settled_at": 1700000000}
    issued = _MINT.create_invoice(params["amount"], params["description"], params["expiry"])
    return {"invoice": issued.bolt11, "payment_hash": issued.payment_hash.hex()}


@pytest.fixture
def relay():
    with staged_relay() as relay:
        yield relay


@pytest.fixture
def wallet(relay):
    """A wallet of which the relay knows, and that answers as `backend` does."""
    wallet = Wallet(relay.url)
    relay.stored = [wallet.info()]
    say(relay, wallet, lambda method, params: {"result": backend(method, params)})
    return wallet


@pytest.fixture
def node(wallet):
    return nwc_node(wallet.uri(SECRET, network="regtest"))


@pytest.fixture
def impatient(monkeypatch):
    """Have calls that nobody answers end soon."""
    monkeypatch.setattr("l402.nodes.nwc.CREATE_WITHIN", 0.4)
    monkeypatch.setattr("l402.nodes.nwc.LOOK_UP_WITHIN", 0.4)


def accepted(request):
    return ["OK", request["id"], True, ""]


def say(relay, wallet, answer):
    """Have `wallet` answer each request with what `answer` makes of method and parameters."""

    def reply(request):
        method, params = wallet.read(request)
        body = {"result_type": method, "error": None, **answer(method, params)}
        return [accepted(request), ["EVENT", "answers", wallet.answer(request, body)]]

    relay.reply = reply


def say_of_invoice(relay, wallet, **changes):
    """Have `wallet` say this of any invoice; None leaves a field out."""

    def answer(method, params):
        said = {"type": "incoming", **params, "amount": TEN_SAT, "created_at": 1, **changes}
        return {"result": {name: value for name, value in said.items() if value is not None}}

    say(relay, wallet, answer)


def order(node):
    return node.create_invoice(TEN_SAT, "quotes", 600)


def fault_of(error, call, *arguments):
    """Return what the operator is told; the secret is nowhere in it."""
    with pytest.raises(error) as caught:
        call(*arguments)
    assert type(caught.value) is error or error is NodeRefused
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_create(node, wallet):
    """An order reaches the wallet in NIP-47's words, and its invoice comes back."""
    issued = NodeDesk(node).create_invoice(TEN_SAT, "quotes", 600)
    request = bolt11.decode(issued.bolt11)
    assert (request.payment_hash, request.msat) == (issued.payment_hash, TEN_SAT)
    expected = {"amount": TEN_SAT, "description": "quotes", "expiry": 600}
    assert wallet.requests == [("make_invoice", expected)]


def test_invoice_names_its_own_hash(node, relay, wallet):
    """A wallet may leave out the payment hash, which the invoice has."""
    issued = _MINT.create_invoice(TEN_SAT, "", 600)
    say(relay, wallet, lambda *_: {"result": {"invoice": issued.bolt11}})
    assert order(node) == issued


def test_nature(node):
    """The money may be somebody else's to keep, so payments are verified by default."""
    assert (node.custodial, node.can_look_up) == (True, True)
    assert (node.network, node.invoice_network) == ("regtest", "regtest")


def test_repr(node, wallet):
    """The node is named by its key's beginning and its relay; the secret is not shown."""
    assert repr(node) == f"NWC wallet {wallet.key[:8]} over 127.0.0.1 (regtest)"
    assert SECRET not in repr(vars(node)["_correspondence"])


@pytest.mark.parametrize(
    ("said", "settlement"),
    [
        ({"state": "pending"}, Settlement.OPEN),
        ({"state": "pending", "settled_at": 1700000000}, Settlement.OPEN),
        ({"state": "accepted"}, Settlement.IN_FLIGHT),
        ({"state": "expired"}, Settlement.GONE),
        ({"state": "failed"}, Settlement.GONE),
        ({"state": "settled"}, Settlement.SETTLED),
        ({"state": "settled", "amount": TEN_SAT * 2}, Settlement.SETTLED),
        ({"state": "settled", "amount": 0}, Settlement.UNDERPAID),
        ({}, Settlement.OPEN),
        ({"settled_at": 0}, Settlement.OPEN),
        ({"settled_at": 1700000000}, Settlement.SETTLED),
        ({"settled_at": 1700000000, "expires_at": 1}, Settlement.SETTLED),
        ({"expires_at": 1}, Settlement.GONE),
        ({"expires_at": 1 << 40}, Settlement.OPEN),
        ({"expires_at": 0}, Settlement.OPEN),
        ({"state": "settled", "type": None}, Settlement.SETTLED),
    ],
)
def test_settlement(node, relay, wallet, said, settlement):
    """A state counts before the times, which are all that older wallets tell."""
    say_of_invoice(relay, wallet, **said)
    assert node.look_up(HASH) is settlement
    assert wallet.requests == [("lookup_invoice", {"payment_hash": HASH.hex()})]


@pytest.mark.parametrize(
    ("paid", "settlement"),
    [(TEN_SAT - 1, Settlement.UNDERPAID), (TEN_SAT, Settlement.SETTLED)],
)
def test_whole_amount(node, relay, wallet, paid, settlement):
    """What arrived is compared with the invoice, if the wallet shows it."""
    issued = _MINT.create_invoice(TEN_SAT, "", 600)
    say_of_invoice(relay, wallet, invoice=issued.bolt11, state="settled", amount=paid)
    assert node.look_up(issued.payment_hash) is settlement


@pytest.mark.parametrize(
    "said",
    [
        {"payment_hash": "00" * 32},
        {"payment_hash": None, "invoice": _MINT.create_invoice(1000, "", 600).bolt11},
        {"invoice": _MINT.create_invoice(1000, "", 600).bolt11},
        {"invoice": "lnbcrt1junk"},
        {"type": "outgoing"},
    ],
)
def test_another_invoice(node, relay, wallet, said):
    """An answer about another invoice, or about a payment of the wallet's own, settles nothing."""
    say_of_invoice(relay, wallet, state="settled", **said)
    fault_of(NodeMismatch, node.look_up, HASH)


@pytest.mark.parametrize(
    "said",
    [
        {"state": "paid"},
        {"state": ["settled"]},
        {"state": "settled", "amount": None},
        {"state": "settled", "amount": "10000"},
        {"state": "settled", "amount": True},
        {"payment_hash": None, "state": "settled"},
        {"payment_hash": 7, "state": "settled"},
    ],
)
def test_odd_answer(node, relay, wallet, said):
    """What is not NIP-47's settles nothing."""
    say_of_invoice(relay, wallet, **said)
    fault_of(NodeUnreachable, node.look_up, HASH)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "settled",
        {"result_type": "make_invoice", "result": None},
        {"result_type": "make_invoice", "result": {}},
        {"result_type": "make_invoice", "result": {"invoice": 1}},
        {"result_type": "lookup_invoice", "result": {"invoice": "lnbcrt1"}},
    ],
)
def test_no_answer_in_it(node, relay, wallet, body):
    """An answer without an invoice in it is told as such, at once."""
    relay.reply = lambda request: [["EVENT", "answers", wallet.answer(request, body)]]
    assert "answered with" in fault_of(NodeUnreachable, order, node)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("UNAUTHORIZED", "make a new connection and set its URI"),
        ("RESTRICTED", "allow it to make and to look up invoices"),
        ("NOT_IMPLEMENTED", "cannot do that over Nostr Wallet Connect"),
        ("RATE_LIMITED", "too many requests"),
        ("QUOTA_EXCEEDED", "raise its budget"),
        ("INSUFFICIENT_BALANCE", "too little balance or inbound liquidity"),
        ("UNSUPPORTED_ENCRYPTION", "neither NIP-44 nor NIP-04"),
        ("INTERNAL", "the wallet refused with INTERNAL: ?no? (secret)"),
        ("SOMETHING_NEW", "the wallet refused with SOMETHING_NEW: ?no? (secret)"),
    ],
)
def test_refusal(node, relay, wallet, code, words):
    """Each of NIP-47's errors tells the operator what to do, and never a secret."""
    error = {"code": code, "message": f"\nno\x07 {SECRET}"}
    say(relay, wallet, lambda *_: {"error": error})
    assert words in fault_of(NodeRefused, order, node)
    assert words in fault_of(NodeRefused, node.look_up, HASH)


def test_rate_limited_for_a_while(node, relay, wallet):
    """A wallet that is asked too often is left alone for longer."""
    say(relay, wallet, lambda *_: {"error": {"code": "RATE_LIMITED", "message": ""}})
    with pytest.raises(NodeRefused) as caught:
        order(node)
    assert caught.value.retry_after == 10


def test_not_found(node, relay, wallet):
    """An invoice that the wallet does not know is gone."""
    say(relay, wallet, lambda *_: {"error": {"code": "NOT_FOUND", "message": ""}})
    assert node.look_up(HASH) is Settlement.GONE


@pytest.mark.parametrize("methods", ["make_invoice", "lookup_invoice pay_invoice", ""])
def test_lacking_methods(relay, node, wallet, methods):
    """A wallet that cannot both make and look up invoices sells nothing, and is not asked."""
    wallet.methods = methods
    relay.stored = [wallet.info()]
    assert "the wallet does not offer" in fault_of(NodeRefused, order, node)
    assert wallet.requests == []


@pytest.mark.parametrize(
    ("encryption", "modern"),
    [("nip44_v2 nip04", True), ("nip44_v2", True), ("nip04", False), (None, False)],
)
def test_encryption(relay, node, wallet, encryption, modern):
    """NIP-44 is spoken with wallets that announce it, NIP-04 with those of before."""
    wallet.encryption, seen = encryption, []
    relay.stored = [wallet.info()]
    reply = relay.reply
    relay.reply = lambda request: seen.append(request) or reply(request)
    order(node)
    assert (["encryption", "nip44_v2"] in seen[0]["tags"]) is modern
    assert ("?iv=" not in seen[0]["content"]) is modern


def test_older_announcement(relay, node, wallet):
    """An announcement that the wallet replaced changes nothing, and nor does another wallet's."""
    stale, alien = Wallet(relay.url, encryption="nip04"), Wallet(relay.url, methods="")
    stale._keys = wallet._keys
    relay.stored = [wallet.info(), stale.info(created_at=1700000000), alien.info()]
    order(node)
    assert node._correspondence.info.encryptions == {"nip44_v2", "nip04"}


def test_subscription(relay, node, wallet):
    """Only what the wallet says to this client is asked for, and its announcement."""
    order(node)
    ((answers, announcement),) = relay.subscriptions
    assert answers["since"] <= time.time() - 60
    ours = node._correspondence._ours_hex
    assert {**answers, "since": 0} == {
        "authors": [wallet.key], "kinds": [23195], "#p": [ours], "since": 0
    }  # fmt: skip
    assert announcement == {"authors": [wallet.key], "kinds": [13194], "limit": 1}


def forgeries(wallet, request):
    """Yield what a hostile relay may send for an answer."""
    settled = {"type": "incoming", "payment_hash": HASH.hex(), "amount": 1, "state": "settled"}
    body = {"result_type": "lookup_invoice", "result": settled}
    genuine = wallet.answer(request, body)
    other = Wallet("ws://127.0.0.1")
    yield {**genuine, "sig": "00" * 64}
    yield {**genuine, "content": wallet.answer(request, {})["content"]}
    yield {**other.answer(request, body)}
    yield {**other.answer(request, body), "pubkey": wallet.key}
    yield wallet.answer(request, body, by=other)
    yield wallet.answer({**request, "id": "00" * 32}, body)
    yield {**wallet.answer({**request, "id": "00" * 32}, body), "tags": genuine["tags"]}
    yield {name: value for name, value in genuine.items() if name != "sig"}
    yield {**genuine, "kind": 23196}
    yield {**genuine, "tags": 7}
    yield {}


def test_forgery(relay, node, wallet):
    """What the wallet did not sign as the answer to this very request is passed over."""

    def reply(request):
        wallet.read(request)
        events = [*forgeries(wallet, request), wallet.answer(request, said)]
        return [["EVENT", "answers", event] for event in events]

    relay.reply = reply
    result = {"type": "incoming", "payment_hash": HASH.hex(), "amount": 1, "state": "pending"}
    said = {"result_type": "lookup_invoice", "result": result}
    assert node.look_up(HASH) is Settlement.OPEN


def test_another_s_answer_cannot_be_opened(relay, node, wallet):
    """An answer that was sealed for another client holds nothing for us."""
    stranger = Wallet(relay.url)

    def reply(request):
        event = wallet.answer({**request, "pubkey": stranger.key}, {"result": {}})
        return [["EVENT", "answers", event]]

    relay.reply = reply
    assert "not NIP-47's" in fault_of(NodeUnreachable, order, node)


def test_silent_wallet(impatient, relay, node, wallet):
    """A wallet that does not answer is told from a relay that does not."""
    relay.reply = lambda request: [accepted(request)]
    assert fault_of(NodeUnreachable, order, node) == "the wallet: no answer in time"
    relay.reply = lambda _: []
    assert fault_of(NodeUnreachable, order, node) == "the relay: no answer in time"


def test_unknown_wallet(impatient, relay, node):
    """That the relay never heard of the wallet is said when there is no answer."""
    relay.stored, relay.reply = [], lambda request: [accepted(request)]
    assert "this relay has never heard of it" in fault_of(NodeUnreachable, order, node)


def test_silent_relay_is_left(impatient, relay, node, wallet):
    """A connection on which nothing came is given up, and the next call makes another."""
    reply, relay.reply = relay.reply, lambda _: []
    fault_of(NodeUnreachable, order, node)
    relay.reply = reply
    order(node)
    assert relay.connections == 2


def test_relay_that_never_begins(impatient, relay, node, wallet):
    """A relay that accepts the connection and says nothing is given up in time."""
    relay.ends_storage = False
    assert fault_of(NodeUnreachable, order, node) == "the relay: no answer in time"
    relay.ends_storage = True
    order(node)


@pytest.mark.parametrize(
    ("messages", "error", "words"),
    [
        ([["OK", "ID", False, "blocked: \x07no"]], NodeRefused, "saying 'blocked: ?no'"),
        ([["OK", "ID", False]], NodeRefused, "the relay refused the request"),
        ([["CLOSED", "answers", "error: shut"]], NodeUnreachable, "saying 'error: shut'"),
        (["no JSON"], NodeUnreachable, "sent something that is not Nostr's"),
        ([None], NodeUnreachable, "the relay: broke the connection"),
        (['["NOTICE","' + "x" * (1 << 20) + '"]'], NodeUnreachable, "the relay: "),
    ],
)
def test_relay_that_refuses(relay, node, wallet, messages, error, words):
    """What a relay says against a request reaches the operator, and the next call tries again."""
    reply = relay.reply

    def refuse(request):
        return [
            [request["id"] if part == "ID" else part for part in message]
            if isinstance(message, list)
            else message
            for message in messages
        ]

    relay.reply = refuse
    assert words in fault_of(error, order, node)
    relay.reply = reply
    order(node)


def test_noise(relay, node, wallet):
    """Messages of which nobody was told change nothing, whatever their shape."""
    reply = relay.reply
    noise = [["NOTICE", "hello"], ["OK"], ["OK", 1, 2, 3], ["EVENT"], ["EVENT", "answers", 1], []]
    noise += [{}, 7, None, ["OK", "unknown", False, ""], ["COUNT", "answers", {}]]
    relay.reply = lambda request: [json.dumps(thing) for thing in noise] + reply(request)
    order(node)


def test_no_relay():
    """Nobody listening is told at once."""
    node = nwc_node(Wallet(f"ws://127.0.0.1:{free_port()}").uri(SECRET))
    words = fault_of(NodeUnreachable, order, node)
    assert words == "the relay: no connection (Connection refused)"


def test_not_a_relay():
    """A web server that is no relay is told as such."""
    with serving(lambda _: http_answer(404, {})) as server:
        url = server.url.replace("http", "ws")
        node = nwc_node(Wallet(url).uri(SECRET))
        assert "answered 404 and opened no WebSocket" in fault_of(NodeUnreachable, order, node)
        server.behaviour = lambda _: b"SSH-2.0-OpenSSH_9.2\r\n\r\n"
        assert fault_of(NodeUnreachable, order, node) == "the relay: opened no WebSocket"


def test_second_relay(relay, wallet):
    """Where the first relay is gone, the next call goes over the second."""
    dead = f"ws%3A%2F%2F127.0.0.1%3A{free_port()}"
    uri = wallet.uri(SECRET).replace("?", f"?relay={dead}&")
    node = nwc_node(uri)
    fault_of(NodeUnreachable, order, node)
    order(node)


def test_threads_share_the_connection(relay, node, wallet):
    """Many calls at once go over one connection, and each gets its own answer."""
    say_of_invoice(relay, wallet, state="settled")
    hashes = [secrets.token_bytes(32) for _ in range(64)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(node.look_up, hashes)) == {Settlement.SETTLED}
    assert relay.connections == 1
    assert {params["payment_hash"] for _, params in wallet.requests} == {h.hex() for h in hashes}


def test_nothing_is_opened_before_a_call(relay, wallet):
    """Making the node opens no connection and starts no thread."""
    before = threading.active_count()
    nwc_node(wallet.uri(SECRET))
    assert (relay.connections, threading.active_count()) == (0, before)


def test_forgotten_node(relay, wallet):
    """A node that nobody holds any more leaves no thread behind."""
    node = nwc_node(wallet.uri(SECRET))
    order(node)
    assert any(thread.name == "l402-relay" for thread in threading.enumerate())
    del node
    gc.collect()
    names = lambda: [thread.name for thread in threading.enumerate()]  # noqa: E731
    await_that("the end of its thread", lambda: "l402-relay" not in names())


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork(relay, node, wallet):
    """A child has a connection of its own, and its parent goes on with the one it had."""
    order(node)
    if (child := os.fork()) == 0:
        try:
            order(node)
        finally:
            os._exit(len(node._relays))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    order(node)
    assert relay.connections == 2


class TestRealRelay:
    """Over nostr-sdk's relay, of which the wallet is a client like us."""

    @pytest.fixture(params=[False, True], ids=["open", "authenticated"])
    def relay(self, request):
        with local_relay(auth=request.param) as relay:
            yield relay

    @pytest.fixture
    def service(self, relay):
        with closing(WalletService(Wallet(relay.url), backend)) as service:
            yield service

    @pytest.fixture
    def node(self, service):
        return nwc_node(service.connection(network="regtest"))

    def test_cycle(self, node):
        """Invoices are made and looked up, also where the relay wants to know who asks (NIP-42)."""
        issued = NodeDesk(node).create_invoice(TEN_SAT, "quotes", 600)
        assert node.look_up(issued.payment_hash) is Settlement.SETTLED

    def test_stranger(self, service):
        """A connection that the wallet does not know is refused, in words for its operator."""
        service.await_listening()
        node = nwc_node(service.wallet.uri(SECRET))
        assert "does not know this connection" in fault_of(NodeRefused, order, node)

    def test_relay_restarts(self, relay, service, node):
        """When the relay is back, and the wallet there, calls succeed by themselves."""
        order(node)
        relay.close()
        fault_of(NodeUnreachable, order, node)
        relay.start()
        await_that("the wallet", lambda: succeeds(node))

    def test_wallet_restarts(self, impatient, service, node):
        """A wallet that went and came back is found without a new connection."""
        order(node)
        service.close()
        assert "the wallet: no answer in time" in fault_of(NodeUnreachable, order, node)
        service.start()
        await_that("the wallet", lambda: succeeds(node))


def succeeds(node):
    try:
        return order(node)
    except NodeUnreachable:
        return None


def test_outage_is_logged_without_secrets(impatient, relay, node, wallet, caplog):
    """The log tells of a silent wallet once, and of its return, and names no secret."""
    desk, reply = NodeDesk(node), relay.reply
    relay.reply = lambda request: [accepted(request)]
    with caplog.at_level(logging.WARNING, "l402.node"):
        for _ in range(2):
            with pytest.raises(NodeError):
                order(desk)
        relay.reply = reply
        order(desk)
    assert caplog.messages == [
        f"{node!r}: the wallet: no answer in time",
        f"{node!r}: answers again",
    ]
    assert SECRET not in caplog.text


def test_core_does_without_the_library():
    """Neither the package nor the reading of another node's URL imports what the extra brings."""
    code = (
        "import sys, l402\n"
        "from l402.nodes.url import make_node\n"
        "make_node('lnd+https://127.0.0.1?macaroon=02' + 'ff' * 60)\n"
        "assert not {'nostr_sdk', 'websockets', 'l402.nodes.nwc'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

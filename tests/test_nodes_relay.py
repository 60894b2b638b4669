import gc
import json
import os
import secrets
import socket
import threading
import warnings
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from support.daemons import await_that, free_port
from support.http_servers import Certificate, http_answer, serving
from support.nostr_relays import DeafRelay, local_relay
from support.staged_wallets import (
    SECRET,
    TEN_SAT,
    accepted,
    backend,
    ending_after,
    fault_of,
    order,
    say_of_invoice,
)
from support.wallets import Wallet, WalletService

from l402.errors import NodeRefused, NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.desk import NodeDesk
from l402.nodes.nwc_url import nwc_node

pytest_plugins = ["support.staged_wallets"]


def silence_of(node):
    """Return what is said when there is no answer; only waiting for that takes any time."""
    with ending_after(1):
        return fault_of(NodeUnreachable, order, node)


def test_silent_wallet(relay, node):
    """A wallet that does not answer is told from a relay that does not."""
    order(node)
    relay.reply = lambda request: [accepted(request)]
    assert silence_of(node).startswith("the wallet: no answer in time; is it running")
    relay.reply = lambda _: []
    assert silence_of(node) == "the relay: no answer in time"


def test_unknown_wallet(relay, node):
    """That the relay never heard of the wallet is said when there is no answer."""
    relay.stored = []
    order(node)
    relay.reply = lambda request: [accepted(request)]
    assert "This relay knows no such wallet" in silence_of(node)


def test_silent_relay_is_left(relay, node):
    """A connection on which nothing came is given up, and the next call makes another."""
    reply, relay.reply = relay.reply, lambda _: []
    silence_of(node)
    relay.reply = reply
    order(node)
    assert relay.connections == 2


def test_relay_that_never_begins(relay, node):
    """A relay that accepts the connection and says nothing is given up in time."""
    relay.ends_storage = False
    assert silence_of(node) == "the relay: no answer in time"
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


def test_untrusted_certificate(tmp_path):
    """A relay whose certificate nobody vouches for is not spoken to."""
    with serving(lambda _: None, Certificate.make(tmp_path)) as server:
        node = nwc_node(Wallet(server.url.replace("https", "wss")).uri(SECRET))
        words = fault_of(NodeUnreachable, order, node)
    assert words == "the relay: its certificate is not trusted"


def test_mute_server():
    """A server that accepts the connection and says nothing at all is given up in time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        node = nwc_node(Wallet(f"ws://127.0.0.1:{server.getsockname()[1]}").uri(SECRET))
        assert silence_of(node) == "the relay: no answer in time"


def test_relay_that_does_not_read():
    """A relay that sends and sends, and reads nothing, holds up no call beyond its time."""
    with closing(DeafRelay()) as relay, ThreadPoolExecutor(1) as pool:
        node = nwc_node(Wallet(relay.url).uri(SECRET))
        silence_of(node)
        assert relay.stuck.wait(60)
        late = pool.submit(silence_of, node)
        try:
            assert late.result(60) == "the relay: no answer in time"
        finally:
            relay.close()


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


def test_fork(relay, node, wallet):
    """A child has a connection and nonces of its own; its parent goes on with what it had."""
    reply, contents = relay.reply, []
    relay.reply = lambda request: contents.append(request["content"]) or reply(request)
    order(node)
    with warnings.catch_warnings():  # that threads and forks do not mix is what this is about
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            order(node)
            os._exit(len(node._relays))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    order(node)
    assert relay.connections == 2
    nonces = {b64decode(content)[1:33] for content in contents}  # NIP-44
    assert len(nonces) == len(contents) == 3


class TestRealRelay:
    """Over nostr-sdk's relay, of which the wallet is a client like us."""

    @pytest.fixture(params=[False, True], ids=["open", "authenticated"])
    def relay(self, request):
        with local_relay(auth=request.param) as relay:
            yield relay

    @pytest.fixture
    def service(self, relay, patience):
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

    def test_wallet_restarts(self, service, node):
        """A wallet that went and came back is found without a new connection."""
        order(node)
        service.close()
        assert "the wallet: no answer in time" in silence_of(node)
        service.start()
        await_that("the wallet", lambda: succeeds(node))


def succeeds(node):
    try:
        with ending_after(2):  # a wallet that is not back yet missed the request
            return order(node)
    except NodeUnreachable:
        return None

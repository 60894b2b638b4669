import json
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.clocks import Clock

from l402.errors import NodeBusy, NodeError, NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes import desk as desk_module
from l402.nodes.base import Issued, Node, Settlement
from l402.nodes.desk import Invoice, NodeDesk
from l402.nodes.simulated import SimulatedNode

ANSWERS = json.loads((Path(__file__).parent / "data" / "lnd_answers.json").read_text())
CANARY = "canary-0201036c6e64"
SOON = 30.0  # seconds: generous, for what must not be late


class PliableNode(Node):
    """Issues real invoices as ordered, unless told to do something else."""

    network = invoice_network = "regtest"

    def __init__(self, clock):
        self.issuer = SimulatedNode(b"s" * 32, clock)
        self.create = self.issuer.create_invoice
        self.settlement = lambda _hash: Settlement.OPEN

    def create_invoice(self, msat, description, expiry):
        return self.create(msat, description, expiry)

    def look_up(self, payment_hash):
        return self.settlement(payment_hash)

    def __repr__(self):
        return "the node"

    def fail(self, error):
        def create(*_order):
            raise error

        self.create = create

    def recover(self):
        self.create = self.issuer.create_invoice


@pytest.fixture
def clock():
    return Clock(1_795_362_230)


@pytest.fixture
def monotonic():
    return Clock()


@pytest.fixture
def node(clock):
    return PliableNode(clock)


@pytest.fixture
def desk(node, clock, monotonic):
    return NodeDesk(node, clock=clock, monotonic=monotonic)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def sell(desk):
    return desk.create_invoice(10_000, "a description", 600)


def mismatch_of(desk):
    with pytest.raises(NodeMismatch) as caught:
        sell(desk)
    return str(caught.value)


def test_an_invoice_as_ordered(desk, node, clock):
    """What the node issued is handed on once it is what was ordered."""
    issued = []
    node.create = lambda *order: issued.append(node.issuer.create_invoice(*order)) or issued[0]
    assert sell(desk) == Invoice(
        issued[0].bolt11, issued[0].payment_hash, 10_000, int(clock.now) + 600
    )


@pytest.mark.parametrize("settlement", Settlement)
def test_look_up(desk, node, settlement):
    """What the node says of a payment is handed on."""
    node.settlement = {b"h" * 32: settlement}.get
    assert desk.look_up(b"h" * 32) is settlement


def test_a_wrong_amount(desk, node):
    """An invoice over another amount is not sold."""
    node.create = lambda msat, *rest: node.issuer.create_invoice(msat // 2, *rest)
    assert mismatch_of(desk) == "amount in msat: asked for 10000, its invoice has 5000"


def test_no_amount(desk, node):
    """An invoice that lets the payer choose is not sold."""
    recorded = ANSWERS["amountless"]["body"]["payment_request"]
    payment_hash = desk_module.bolt11.decode(recorded).payment_hash
    node.create = lambda *_order: Issued(recorded, payment_hash)
    assert mismatch_of(desk) == "amount in msat: asked for 10000, its invoice has none"


def test_a_wrong_hash(desk, node):
    """An invoice with another hash than the node named is not sold."""
    node.create = lambda *order: Issued(node.issuer.create_invoice(*order).bolt11, b"\xab" * 32)
    assert mismatch_of(desk).startswith(f"payment hash: asked for {'ab' * 32}, its invoice has ")


def test_a_wrong_network(desk, node):
    """A node on another network than the configured one is named."""
    node.invoice_network = "mainnet"
    assert mismatch_of(desk) == "network: asked for mainnet, its invoice has regtest"


@pytest.mark.parametrize("factor", [144, 0.01])
def test_a_wrong_expiry(desk, node, factor):
    """A node that sets its own expiry (lnd's is a day) is found out."""
    node.create = lambda msat, text, expiry: node.issuer.create_invoice(
        msat, text, int(expiry * factor)
    )
    assert (
        mismatch_of(desk) == f"expiry in seconds: asked for 600, its invoice has {600 * factor:.0f}"
    )


@pytest.mark.parametrize(
    ("seconds", "fault"), [(3601, "60 min ahead of"), (-181, "3 min behind"), (-61, "1 min behind")]
)
def test_a_clock_that_is_off(desk, node, clock, seconds, fault):
    """A node whose clock differs is told from one with another expiry."""
    node.create = SimulatedNode(b"s" * 32, Clock(clock.now + seconds)).create_invoice
    assert mismatch_of(desk) == (
        f"clock: its invoice is dated {fault} this machine's clock; have both set by NTP"
    )


def test_clocks_a_little_apart(desk, node, clock):
    """A minute between the clocks is nothing."""
    for seconds in (-60, 60):
        node.create = SimulatedNode(b"s" * 32, Clock(clock.now + seconds)).create_invoice
        assert sell(desk).expires_at == clock.now + 600 + seconds


def test_an_invoice_that_has_expired(desk, node, clock):
    """An invoice that nobody can pay any more is not sold."""
    node.create = SimulatedNode(b"s" * 32, Clock(clock.now - 30)).create_invoice
    with pytest.raises(NodeMismatch, match="has expired already"):
        desk.create_invoice(10_000, "", 30)


@pytest.mark.parametrize("text", ["", "nonsense", "lnbcrt1", "lnbcrt100n1p4sxrdk", "é" * 99])
def test_nonsense(desk, node, text):
    """Text that is no invoice is not sold."""
    node.create = lambda *_order: Issued(text, b"\xab" * 32)
    assert mismatch_of(desk).startswith("its invoice is none: ")


def test_upper_case(desk, node):
    """Clients want invoices in lower case."""
    node.create = lambda *order: Issued(node.issuer.create_invoice(*order).bolt11.upper(), b"")
    assert mismatch_of(desk) == "its invoice is not in lower case"


def test_an_adapter_that_raises_anything(desk, node, log):
    """An error that is not ours is named by its type only, for its text may hold a secret."""
    for error in (ValueError(CANARY), KeyError(CANARY), MemoryError(CANARY), TimeoutError(CANARY)):
        node.fail(error)
        with pytest.raises(NodeUnreachable) as caught:
            sell(desk)
        assert str(caught.value) == f"its adapter failed with {type(error).__name__}"
    node.create = lambda *_order: None
    with pytest.raises(NodeUnreachable, match="AttributeError"):
        sell(desk)
    assert CANARY not in log.text


def test_a_thread_that_is_told_to_end(desk, node):
    """What a server raises into its own threads passes, and says nothing of the node."""
    for _ in range(10):
        node.fail(SystemExit(1))
        with pytest.raises(SystemExit):
            sell(desk)
    node.recover()
    sell(desk)


def test_a_dead_node_is_left_alone_and_comes_back(desk, node, monotonic, log):
    """Five failures open the breaker; a probe finds the node again; the log has two lines."""
    node.fail(NodeUnreachable("no connection"))
    for _ in range(5):
        with pytest.raises(NodeUnreachable):
            sell(desk)
    node.recover()
    for _ in range(100):
        with pytest.raises(NodeBusy):
            sell(desk)
    monotonic.advance(2.0)
    for _ in range(10):
        sell(desk)
    assert log.messages == ["the node: no connection", "the node: answers again"]


def test_a_probe_that_finds_the_node_dead(desk, node, monotonic):
    """While the node is dead, one call in a while reaches it."""
    node.fail(NodeUnreachable("no connection"))
    for _ in range(5):
        with pytest.raises(NodeUnreachable):
            sell(desk)
    for _ in range(10):
        monotonic.advance(2.0)
        with pytest.raises(NodeUnreachable):
            sell(desk)
        for _ in range(5):
            with pytest.raises(NodeBusy):
                sell(desk)


@pytest.mark.parametrize("error", [NodeRefused("wallet locked"), NodeMismatch("network: …")])
def test_a_living_node_that_says_no(desk, node, log, error):
    """A refusal is passed on each time, logged once, and does not open the breaker."""
    node.fail(error)
    for _ in range(50):
        with pytest.raises(type(error)):
            sell(desk)
    node.recover()
    sell(desk)
    assert log.messages == [f"the node: {error}", "the node: answers again"]


def test_being_busy_is_not_news(desk, node, log):
    """A call that found no slot says nothing about the node."""
    node.fail(NodeBusy("429"))
    for _ in range(10):
        with pytest.raises(NodeBusy):
            sell(desk)
    assert log.messages == []


def test_all_calls_share_the_slots(node, clock, monotonic):
    """Creations and look-ups together take no more than `concurrency` threads."""
    desk = NodeDesk(node, concurrency=1, clock=clock, monotonic=monotonic)
    begun, release = threading.Event(), threading.Event()
    node.settlement = lambda _hash: (begun.set(), release.wait(60), Settlement.OPEN)[-1]
    caller = threading.Thread(target=desk.look_up, args=(b"h" * 32,))
    caller.start()
    assert begun.wait(SOON)
    with pytest.raises(NodeBusy):
        sell(desk)
    release.set()
    caller.join(SOON)
    sell(desk)


def test_no_patience_with_a_node_that_failed(node, clock, monotonic):
    """After a failure nobody waits behind a call in flight, however young it is."""
    desk = NodeDesk(node, concurrency=1, clock=clock, monotonic=monotonic)
    node.fail(NodeUnreachable("no connection"))
    with pytest.raises(NodeUnreachable):
        sell(desk)
    begun, release = threading.Event(), threading.Event()
    node.settlement = lambda _hash: (begun.set(), release.wait(60), Settlement.OPEN)[-1]
    caller = threading.Thread(target=desk.look_up, args=(b"h" * 32,))
    caller.start()
    assert begun.wait(SOON)
    monotonic.advance(0.01)
    with pytest.raises(NodeBusy, match="by a call that hangs"):
        sell(desk)
    release.set()
    caller.join(SOON)


def test_a_probe_that_finds_no_slot(node, clock, monotonic):
    """A probe turned away for want of a slot does not put off the next one."""
    desk = NodeDesk(node, concurrency=1, clock=clock, monotonic=monotonic)
    begun, release = threading.Event(), threading.Event()

    def hang(_hash):
        begun.set()
        release.wait(60)
        raise NodeUnreachable("no answer in time")

    node.fail(NodeUnreachable("no connection"))
    for _ in range(5):
        with pytest.raises(NodeUnreachable):
            sell(desk)
    node.settlement = hang
    monotonic.advance(2.0)
    prober = threading.Thread(target=suppressing, args=(desk.look_up, b"h" * 32))
    prober.start()
    assert begun.wait(SOON)
    monotonic.advance(6.1)  # the probe counts as lost, but still has the only slot
    with pytest.raises(NodeBusy, match="taken by a call that hangs"):
        sell(desk)
    node.recover()
    release.set()
    prober.join(SOON)
    monotonic.advance(2.0)
    sell(desk)


def suppressing(call, *args):
    """Call, whatever the node says."""
    with suppress(NodeError):
        call(*args)


def test_no_threads(desk):
    """A desk starts no thread, so that one made before a server's fork works after it."""
    before = threading.active_count()
    sell(desk)
    assert threading.active_count() == before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(node, clock):
    """A desk that was used before a fork works in the child, with a breaker of its own."""
    desk = NodeDesk(node, clock=clock)
    sell(desk)
    node.fail(NodeUnreachable("no connection"))
    for _ in range(5):
        with pytest.raises(NodeUnreachable):
            sell(desk)
    node.recover()
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if sell(desk).msat == 10_000 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(NodeBusy):
        sell(desk)


def test_errors_of_the_node_are_one_family(desk, node):
    """Whatever goes wrong, the gate catches one kind of error, with a time to come again."""
    node.fail(OSError("x"))
    with pytest.raises(NodeError) as caught:
        sell(desk)
    assert caught.value.retry_after >= 1

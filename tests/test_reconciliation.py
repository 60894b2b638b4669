"""Reading a node's invoices: which are ours, and that none is missed, whatever happens when."""

import random
import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from support.listing import ListingNode
from support.sales import NOW, sale, token_id

from l402.errors import NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.desk import NodeDesk
from l402.nodes.simulated import SimulatedNode
from l402.protocol.keys import KeyRing
from l402.reconciliation import Reading, Reconciliation
from l402.store import Store
from l402.store.comparison import Comparison, Sum
from l402.store.settlements import Settled, Settlements

KEYS = KeyRing([b"n" * 32, b"o" * 32])
SIMULATED = "simulated"


class Books:
    """A node, a record, and what reconciling them finds."""

    def __init__(self) -> None:
        self.node = ListingNode(b"s" * 32)
        self.store = Store("sqlite://")
        self.settlements = Settlements(self.store.db)

    def read(self, keys: KeyRing = KEYS, **how: Any) -> Reading:
        desk = NodeDesk(self.node)
        return Reconciliation(desk, keys, self.settlements).read(lambda invoices: None, **how)

    def issue(self, number: int, *, keys: KeyRing = KEYS, text: str | None = None) -> bytes:
        """Have an invoice written for the token of that number."""
        described = f"quotes {keys.handle(token_id(number))}" if text is None else text
        payment_hash = secrets.token_bytes(32)
        self.node.add(payment_hash, described)
        return payment_hash

    def pay(self, *payment_hashes: bytes) -> None:
        for payment_hash in payment_hashes:
            self.node.change(payment_hash, Settlement.SETTLED)

    def present(self, number: int, payment_hash: bytes) -> None:
        shown = sale(number, payment_hash=payment_hash, network=SIMULATED)
        self.store.payments.admit(shown, NOW)

    @property
    def unused(self) -> list[Settled]:
        found: list[Settled] = []
        Comparison(self.store.db, SIMULATED).run(found.append, lambda _: None)
        return found

    @property
    def settled(self) -> Sum:
        return Comparison(self.store.db, SIMULATED).run(lambda _: None, lambda _: None).settled


@pytest.fixture
def books() -> Iterator[Books]:
    opened = Books()
    yield opened
    opened.store.close()


def test_ours(books: Books) -> None:
    """Ours is what ends in a handle of one of our keys, paid; it is recorded as it was paid."""
    paid = books.issue(1)
    older = books.issue(2, keys=KeyRing([b"o" * 32]))
    books.issue(3)
    books.pay(paid, older)
    assert books.read() == Reading(invoices=3, new=2)
    first, second = books.unused
    assert first == Settled(
        paid.hex(), SIMULATED, KEYS.handle(token_id(1)), 10_000, 10_000, first.settled_at
    )
    assert first.settled_at.timestamp() == books.node.find(paid).settled_at
    assert (second.payment_hash, second.handle[:21]) == (
        older.hex(), f"l402:{token_id(2).hex()[:16]}",
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a coffee",
        f"quotes l402:{token_id(1).hex()[:16]}:00000000",
        f"quotes {KeyRing([b'x' * 32]).handle(token_id(1))}",
        f"{KEYS.handle(token_id(1))} and more",
        f"quotes {KEYS.handle(token_id(1)).upper()}",
        f"quotes {KEYS.handle(token_id(1))}\n",
        f"quotes x{KEYS.handle(token_id(1))}",
        "l402:",
        "l402::",
        "l402:\udc80",
    ],
)
def test_not_ours(books: Books, text: str) -> None:
    """Another's invoice, a forged handle, and a genuine one elsewhere than at the end are not."""
    books.pay(books.issue(1, text=text))
    assert books.read() == Reading(invoices=1, new=0)
    assert books.unused == []


def test_presented_is_ours(books: Books) -> None:
    """What was presented is ours although its key has left the ring; nothing else of that key."""
    gone = KeyRing([b"g" * 32])
    shown, unused = books.issue(1, keys=gone), books.issue(2, keys=gone)
    books.pay(shown, unused)
    books.present(1, shown)
    assert books.read().new == 1
    assert books.settled == Sum(1, 10_000)
    assert books.unused == []


def test_again(books: Books) -> None:
    """A second reading lists only what lies behind the last paid invoice, and finds no more."""
    books.pay(*(books.issue(number) for number in range(7)))
    books.issue(8, text="open, and not ours")
    assert books.read() == Reading(invoices=8, new=7)
    books.node.asked.clear()
    assert books.read() == Reading(invoices=1, new=0)
    assert books.node.asked == [6, 7, 8]
    assert books.read(anew=True) == Reading(invoices=8, new=0)
    assert books.settled == Sum(7, 70_000)


@pytest.mark.parametrize("state", [Settlement.OPEN, Settlement.IN_FLIGHT])
def test_paid_late(books: Books, state: Settlement) -> None:
    """An invoice that was open or held when it was listed is found once it is paid."""
    books.pay(books.issue(1))
    late = books.issue(2)
    books.node.change(late, state)
    books.pay(*(books.issue(number) for number in range(3, 9)))
    assert books.read().new == 7
    assert books.settlements.bookmark(SIMULATED).position == 1
    books.pay(late)
    assert books.read() == Reading(invoices=7, new=1)
    assert books.settlements.bookmark(SIMULATED).position == 8
    assert late.hex() in {each.payment_hash for each in books.unused}


def test_others_hold_nothing_up(books: Books) -> None:
    """Another's invoice that stays open for ever is not waited for."""
    books.issue(1, text="pay what you like, when you like")
    books.pay(books.issue(2))
    books.read()
    assert books.settlements.bookmark(SIMULATED).position == 2


def test_underpaid(books: Books) -> None:
    """What arrived is recorded, be it enough or not."""
    under = books.issue(1)
    books.node.change(under, Settlement.UNDERPAID, received=9_999)
    books.read()
    assert books.settled == Sum(1, 9_999)


def test_broken_off(books: Books) -> None:
    """A reading that breaks off keeps what it has read, and the next one goes on from there."""
    books.pay(*(books.issue(number) for number in range(10)))
    books.node.breaks_at = 3
    with pytest.raises(NodeUnreachable):
        books.read()
    assert books.settled == Sum(6, 60_000)
    assert books.read() == Reading(invoices=4, new=4)
    assert books.settled == Sum(10, 100_000)


def replace_invoices(node: ListingNode) -> None:
    for position, each in list(node.list.items()):
        del node.list[position]
        node._last = position - 1
        node.add(secrets.token_bytes(32), each.description)


def restore_a_backup(node: ListingNode) -> None:
    for position in list(node.list)[1:]:
        del node.list[position]


@pytest.mark.parametrize("change", [replace_invoices, restore_a_backup])
def test_another_node(books: Books, change: Any) -> None:
    """A node that does not have the last invoice read is another one; all of it can be read."""
    books.pay(*(books.issue(number) for number in range(4)))
    books.read()
    change(books.node)
    with pytest.raises(NodeMismatch, match=r"number 4\): it is another node.* --from-start"):
        books.read()
    books.read(anew=True)
    assert books.settled == Sum(4, 40_000)  # what was seen stays known


def test_cannot_list(books: Books) -> None:
    """A node that cannot list its invoices says so."""
    books.node = SimulatedNode(b"s" * 32)  # type: ignore[assignment]
    with pytest.raises(NodeRefused, match=r"SimulatedNode\(\) cannot list its invoices"):
        books.read()


def test_no_progress(books: Books) -> None:
    """A node that lists the same invoices again and again is refused, and not read for ever."""
    books.issue(1)
    books.node.invoices = lambda after: list(books.node.list.values())  # type: ignore[method-assign]
    with pytest.raises(NodeMismatch, match="goes back behind position 1"):
        books.read()


class History:
    """What may happen to a node's invoices, in an order drawn by `chance`."""

    def __init__(self, chance: random.Random) -> None:
        self.books, self.chance = Books(), chance
        self.books.node.page = chance.randint(1, 4)
        self.ours: set[bytes] = set()

    def step(self) -> None:
        weights = {self.issue: 6, self.decide: 6, self.delete: 1, self.read: 2, self.break_off: 1}
        self.chance.choices([*weights], [*weights.values()])[0]()

    def issue(self) -> None:
        ours = self.chance.random() < 0.7
        made = self.books.issue(self.chance.randrange(99), text=None if ours else "another's")
        self.ours |= {made} if ours else set()

    def decide(self) -> None:
        states = [Settlement.SETTLED, Settlement.SETTLED, Settlement.IN_FLIGHT, Settlement.GONE]
        if pending := [each for each in self.books.node.list.values() if each.pending]:
            drawn = self.chance.choice(pending)
            self.books.node.change(drawn.payment_hash, self.chance.choice(states))

    def delete(self) -> None:
        for each in list(self.books.node.list.values()):
            if each.settlement is Settlement.GONE:
                del self.books.node.list[each.position]

    def break_off(self) -> None:
        node = self.books.node
        node.breaks_at = len(node.asked) + self.chance.randint(1, 3)
        with suppress(NodeUnreachable):
            self.books.read()
        node.breaks_at = None

    def read(self) -> None:
        """See that a reading finds all that was paid, and nothing else."""
        self.books.read()
        paid = {each.payment_hash for each in self.books.node.list.values() if each.settled}
        found = {bytes.fromhex(each.payment_hash) for each in self.books.unused}
        assert found == paid & self.ours


@pytest.mark.parametrize("seed", range(30))
def test_none_missed(seed: int) -> None:
    """Whatever is issued, paid, cancelled and broken off in between: all that is paid is found."""
    history = History(random.Random(seed))
    for _ in range(60):
        history.step()
    history.read()
    history.books.store.close()

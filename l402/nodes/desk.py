"""The only way to a node: bounded in number, left alone while it is dead, and its goods checked."""

import os
import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeVar

from l402.errors import InvalidInvoice, NodeBusy, NodeError, NodeMismatch, NodeUnreachable
from l402.nodes.base import Issued, Listed, Node, Settlement
from l402.nodes.breaker import Breaker, Journal
from l402.nodes.slots import Slots
from l402.protocol import bolt11

_TOLERANCE = 60  # seconds between our clock and the node's, and between the expiry asked and got

_T = TypeVar("_T")


class Invoice(NamedTuple):
    """A fresh invoice that is what was asked for."""

    bolt11: str
    payment_hash: bytes
    msat: int
    expires_at: int  # unix seconds


class NodeDesk:
    """Calls `node` for everybody: at most `concurrency` calls at a time in each process.

    May be made before a fork; each process has its own slots and its own view of the node.
    What goes wrong is raised as a NodeError and logged (``l402.node``) when it changes.
    """

    def __init__(
        self,
        node: Node,
        concurrency: int = 2,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.node = node
        self._concurrency = concurrency
        self._clock = clock
        self._monotonic = monotonic
        self._windows: dict[int, _Window] = {}  # by process id

    def create_invoice(self, msat: int, description: str, expiry: int) -> Invoice:
        """Have an invoice issued (see `Node.create_invoice`) and check it against the order.

        :raises NodeMismatch: it is another invoice than the one ordered
        :raises NodeError: there is none
        """

        def job() -> Invoice:
            issued = self.node.create_invoice(msat, description, expiry)
            return self._checked(issued, msat, expiry)

        return self._window().call(job)

    def look_up(self, payment_hash: bytes) -> Settlement:
        """Ask what became of the invoice of `payment_hash`.

        :raises NodeError: the node does not say
        """
        return self._window().call(lambda: self.node.look_up(payment_hash))

    def invoices(self, after: int) -> list[Listed]:
        """Have the next invoices listed (see `Node.invoices`).

        :raises NodeMismatch: they are not the next ones
        :raises NodeError: the node does not say
        """

        def job() -> list[Listed]:
            listed = self.node.invoices(after)
            positions = [after, *(invoice.position for invoice in listed)]
            if any(one >= next_ for one, next_ in pairwise(positions)):
                raise NodeMismatch(f"its list of invoices goes back behind position {after}")
            return listed

        return self._window().call(job)

    def _window(self) -> "_Window":
        pid = os.getpid()
        return self._windows.get(pid) or self._windows.setdefault(
            pid, _Window(self.node, self._concurrency, self._monotonic)
        )

    def _checked(self, issued: Issued, msat: int, expiry: int) -> Invoice:
        if issued.bolt11 != issued.bolt11.lower():
            raise NodeMismatch("its invoice is not in lower case")
        try:
            request = bolt11.decode(issued.bolt11)
        except InvalidInvoice as error:
            raise NodeMismatch(f"its invoice is none: {error}") from None
        _same("payment hash", issued.payment_hash.hex(), request.payment_hash.hex())
        _same("amount in msat", msat, "none" if request.msat is None else request.msat)
        _same("network", self.node.invoice_network, request.network)
        self._timely(request, expiry)
        return Invoice(issued.bolt11, request.payment_hash, msat, request.expires_at)

    def _timely(self, request: bolt11.PaymentRequest, expiry: int) -> None:
        now = int(self._clock())
        if abs(request.expiry - expiry) > _TOLERANCE:
            _same("expiry in seconds", expiry, request.expiry)
        if abs(ahead := request.created_at - now) > _TOLERANCE:
            side = "ahead of" if ahead > 0 else "behind"
            raise NodeMismatch(
                f"clock: its invoice is dated {abs(ahead) // 60} min {side} this machine's clock; "
                "have both set by NTP"
            )
        if request.expires_at <= now:
            raise NodeMismatch("expiry: its invoice has expired already")


def _same(name: str, asked: object, got: object) -> None:
    if asked != got:
        raise NodeMismatch(f"{name}: asked for {asked}, its invoice has {got}")


class _Window:
    """One process's slots for calls of a node, and what it knows of the node's health."""

    def __init__(self, node: Node, concurrency: int, monotonic: Callable[[], float]) -> None:
        self._slots = Slots(concurrency, monotonic)
        self._breaker = Breaker(monotonic)
        self._journal = Journal(node, monotonic)

    def call(self, job: Callable[[], _T]) -> _T:
        self._breaker.admit()
        try:
            result = self._slots.run(lambda: _guarded(job), patient=not self._breaker.doubtful)
        except NodeBusy:
            self._breaker.withdrawn()
            raise
        except NodeError as error:
            # Who says no is alive: only silence opens the breaker.
            silent = isinstance(error, NodeUnreachable)
            self._breaker.failed() if silent else self._breaker.answered()
            self._journal.failed(error)
            raise
        except BaseException:  # the thread was told to end, which says nothing of the node
            self._breaker.withdrawn()
            raise
        self._breaker.answered()
        self._journal.answered()
        return result


def _guarded(job: Callable[[], _T]) -> _T:
    """Let nothing but our own errors out of an adapter, nor any text that it did not choose."""
    try:
        return job()
    except NodeError:
        raise
    except Exception as error:
        raise NodeUnreachable(f"its adapter failed with {type(error).__name__}") from None

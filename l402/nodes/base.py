"""What the gate needs of a Lightning node, and no more."""

from abc import ABC, abstractmethod
from enum import Enum
from typing import NamedTuple


class Issued(NamedTuple):
    """An invoice as the node handed it out, not yet compared with what was asked."""

    bolt11: str
    payment_hash: bytes


class Settlement(Enum):
    """What a node says of an invoice's payment."""

    OPEN = "open"  # nothing arrived yet
    IN_FLIGHT = "in flight"  # arrived and held, not yet ours (lnd: ACCEPTED)
    SETTLED = "settled"  # ours, and at least the whole amount
    UNDERPAID = "underpaid"  # settled with less than the invoice asked
    GONE = "gone"  # unknown, cancelled or expired unpaid


class Listed(NamedTuple):
    """An invoice in the node's list of them.

    `position` is its place there, counted from 1: it never changes, and later invoices have
    higher ones. `msat` is what the invoice asked for (0 if it named no amount), `received` what
    arrived; `settled_at` is in unix seconds, 0 before.
    """

    position: int
    payment_hash: bytes
    description: str
    settlement: Settlement
    msat: int
    received: int
    settled_at: int

    @property
    def settled(self) -> bool:
        """Whether money arrived that is ours now, be it enough or not."""
        return self.settlement in (Settlement.SETTLED, Settlement.UNDERPAID)

    @property
    def pending(self) -> bool:
        """Whether it may still settle; otherwise it stays as it is for ever."""
        return self.settlement in (Settlement.OPEN, Settlement.IN_FLIGHT)


class Node(ABC):
    """A Lightning node that issues invoices.

    One instance serves all threads of a process and is made before a fork, so it opens nothing
    until it is first called. A call runs on its caller's thread: it must end within a few seconds
    by itself, whatever the node does.
    """

    #: mainnet, testnet, signet, regtest, or simulated
    network: str
    #: the network that its BOLT11 prefix names; the simulated node borrows regtest's
    invoice_network: str
    #: whether `look_up` works; strict verification needs it
    can_look_up: bool = True
    #: whether `invoices` works; reconciliation needs it
    can_list: bool = False
    #: whether somebody else holds the money, so that strict verification is the default
    custodial: bool = False

    @abstractmethod
    def create_invoice(self, msat: int, description: str, expiry: int) -> Issued:
        """Issue a fresh invoice over `msat` (a multiple of 1000), payable for `expiry` seconds.

        `description` is at most 639 bytes of UTF-8 (BOLT11, field ``d``).

        :raises NodeError: of the kind that fits; its message is for the operator's log
        """

    @abstractmethod
    def look_up(self, payment_hash: bytes) -> Settlement:
        """Ask whether the invoice of `payment_hash` was paid.

        :raises NodeError: as `create_invoice`
        """

    def invoices(self, after: int) -> list[Listed]:
        """List the next invoices behind position `after` (0: from the first); none at the end.

        All that the node has come in the order of their creation, whatever became of them: an
        invoice is never listed before one with a lower position. Only people wait for it, so it
        may take half a minute.

        :raises NodeError: as `create_invoice`
        """
        raise NotImplementedError

    def certificate_end(self) -> int | None:
        """Connect, and return when the certificate that the node shows ends, in unix seconds.

        None if it shows none, or if the adapter cannot tell.

        :raises NodeError: as `create_invoice`
        """
        return None

    def excess(self) -> tuple[str, ...] | None:
        """Return what the credential permits beyond what is needed, in the node's own words.

        None if that cannot be told; nothing is asked of the node.
        """
        return None

    @abstractmethod
    def __repr__(self) -> str:
        """Kind and address, never a credential."""

"""A wallet over Nostr Wallet Connect (NIP-47), for who has no node; needs the extra ``nwc``."""

import os
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from l402.errors import InvalidInvoice, NodeError, NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes.base import Issued, Node, Settlement
from l402.nodes.http import CREATE_WITHIN, LOOK_UP_WITHIN
from l402.nodes.nostr import Correspondence
from l402.nodes.relay import Relays
from l402.protocol import bolt11

_NEEDED = ("make_invoice", "lookup_invoice")

#: NIP-47's error codes, and what the operator can do.
_REFUSALS = {
    "UNAUTHORIZED": "the wallet does not know this connection: it was removed there, or the node "
    "URL is another wallet's; make a new connection and set its URI",
    "RESTRICTED": "the wallet forbids this connection to do that: allow it to make and to look up "
    "invoices",
    "NOT_IMPLEMENTED": "the wallet cannot do that over Nostr Wallet Connect: it needs to make and "
    "to look up invoices",
    "RATE_LIMITED": "the wallet gets too many requests",
    "QUOTA_EXCEEDED": "the connection has used up what the wallet grants it: raise its budget",
    "INSUFFICIENT_BALANCE": "the wallet has too little balance or inbound liquidity for this",
    "UNSUPPORTED_ENCRYPTION": "the wallet speaks neither NIP-44 nor NIP-04, or announced another "
    "encryption than it speaks: update it",
}
_RATE_LIMITED_FOR = 10  # seconds


class NwcNode(Node):
    """A wallet that answers over Nostr, perhaps one that is somebody else's: strict by default.

    :raises ValueError: `secret` or `wallet` (64 hex digits) is no key
    """

    custodial = True

    def __init__(
        self, wallet: str, relays: tuple[str, ...], secret: str, *, network: str = "mainnet"
    ) -> None:
        self.network = self.invoice_network = network
        self._wallet, self._urls, self._secret = wallet, relays, secret
        self._correspondence = Correspondence(secret, wallet)
        self._relays: dict[int, Relays] = {}  # by process id

    def __repr__(self) -> str:
        hosts = ", ".join(str(urlsplit(url).hostname) for url in self._urls)
        return f"NWC wallet {self._wallet[:8]} over {hosts} ({self.network})"

    def create_invoice(self, msat: int, description: str, expiry: int) -> Issued:
        """``make_invoice``."""
        order = {"amount": msat, "description": description, "expiry": expiry}
        made = self._call("make_invoice", order, CREATE_WITHIN)
        text = made.get("invoice")
        if not isinstance(text, str):
            raise NodeUnreachable("the wallet: answered without an invoice")
        return Issued(text, _hash(made))

    def look_up(self, payment_hash: bytes) -> Settlement:
        """``lookup_invoice``."""
        try:
            found = self._call(
                "lookup_invoice", {"payment_hash": payment_hash.hex()}, LOOK_UP_WITHIN
            )
        except _NotFound:
            return Settlement.GONE
        if _hash(found) != payment_hash:
            raise NodeMismatch("payment hash: the answer is about another invoice")
        if found.get("type", "incoming") != "incoming":
            raise NodeMismatch("type: the answer is about a payment that the wallet made")
        return _settlement(found)

    def _call(self, method: str, params: dict[str, Any], within: float) -> dict[str, Any]:
        end = time.monotonic() + within
        line = self._process_relays().line()
        line.await_open(end)
        self._check_methods()
        answer = line.ask(*self._correspondence.request(method, params), end)
        if isinstance(error := answer.get("error"), dict):
            raise self._refusal(error)
        result = answer.get("result")
        if answer.get("result_type") != method or not isinstance(result, dict):
            raise NodeUnreachable("the wallet: answered with something that is not NIP-47's")
        return result

    def _process_relays(self) -> Relays:
        """Return this process's own; a connection that came over a fork is the parent's."""
        pid = os.getpid()
        return self._relays.get(pid) or self._relays.setdefault(
            pid, Relays(self._urls, self._correspondence)
        )

    def _check_methods(self) -> None:
        """Sell nothing whose payment could not be looked up."""
        info = self._correspondence.info
        lacking = [name for name in _NEEDED if info and name not in info.methods]
        if lacking:
            raise NodeRefused(
                f"the wallet does not offer {' and '.join(lacking)} over this connection: allow "
                "it there, or take another wallet"
            )

    def _refusal(self, error: dict[str, Any]) -> NodeError:
        code, message = str(error.get("code")), str(error.get("message"))
        if code == "NOT_FOUND":
            return _NotFound("the wallet knows no such invoice")
        if code in _REFUSALS:
            return NodeRefused(_REFUSALS[code], _RATE_LIMITED_FOR if code == "RATE_LIMITED" else 5)
        said = re.sub("[^ -~]", "?", f"{code[:40]}: {message}".replace(self._secret, "(secret)"))
        return NodeRefused(f"the wallet refused with {said[:200]}")


class _NotFound(NodeRefused):
    """The wallet knows no such invoice."""


def _hash(result: Mapping[str, Any]) -> bytes:
    """Return the payment hash that `result` is about; its invoice, if any, must have the same."""
    invoice = _invoice(result)
    named = result.get("payment_hash")
    if named is None and invoice:
        return invoice.payment_hash
    if not isinstance(named, str) or not re.fullmatch("[0-9a-fA-F]{64}", named):
        raise NodeUnreachable("the wallet: answered without a payment hash")
    if invoice and invoice.payment_hash.hex() != named.lower():
        raise NodeMismatch("payment hash: the answer and its invoice have different ones")
    return bytes.fromhex(named)


def _invoice(result: Mapping[str, Any]) -> bolt11.PaymentRequest | None:
    text = result.get("invoice")
    if not isinstance(text, str) or not text:
        return None
    try:
        return bolt11.decode(text.lower())
    except InvalidInvoice as error:
        raise NodeMismatch(f"its invoice is none: {error}") from None


def _settlement(found: Mapping[str, Any]) -> Settlement:
    """Go by ``state``; wallets older than that field tell only when an invoice was settled."""
    settled, expired = found.get("settled_at"), found.get("expires_at")
    match found.get("state"):
        case None if isinstance(settled, int) and settled > 0:
            return _paid(found)
        case None if isinstance(expired, int) and 0 < expired <= time.time():
            return Settlement.GONE
        case None | "pending":
            return Settlement.OPEN
        case "settled":
            return _paid(found)
        case "accepted":
            return Settlement.IN_FLIGHT
        case "expired" | "failed":
            return Settlement.GONE
    raise NodeUnreachable("the wallet: answered with a state that is not NIP-47's")


def _paid(found: Mapping[str, Any]) -> Settlement:
    amount, invoice = found.get("amount"), _invoice(found)
    if not isinstance(amount, int) or isinstance(amount, bool):
        raise NodeUnreachable("the wallet: answered without an amount")
    asked = (invoice.msat if invoice else None) or 1
    return Settlement.SETTLED if amount >= asked else Settlement.UNDERPAID

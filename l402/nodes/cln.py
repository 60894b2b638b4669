"""Core Lightning over its REST plugin, clnrest (written to v25.02, which has it in Rust).

Each of CLN's commands is ``POST /v1/{command}``; its answer has status 201.
"""

import secrets
from typing import Any

from l402.errors import NodeError, NodeRefused
from l402.nodes.base import Issued, Settlement
from l402.nodes.http import CREATE_WITHIN, LOOK_UP_WITHIN, Answer
from l402.nodes.record import Record
from l402.nodes.remote import RemoteNode

_MAKE = (
    'make one: lightning-cli createrune restrictions=\'[["method=invoice","method=listinvoices"]]\''
)
#: What lightning-checkrune says of a rune, by JSON-RPC code.
_RUNES = {
    1501: f"the rune is not of this CLN; {_MAKE}",
    1503: f"the rune was blacklisted; {_MAKE}",
    -32602: f"the rune is none that CLN could read; {_MAKE}",
}


class ClnNode(RemoteNode):
    """A Core Lightning; a rune for ``invoice`` and ``listinvoices`` is enough."""

    kind, secret_name = "CLN", "rune"

    @staticmethod
    def _headers(secret: str) -> dict[str, str]:
        return {"Rune": secret}

    def create_invoice(self, msat: int, description: str, expiry: int) -> Issued:
        """``invoice``; its label must never have been used before, and nobody is shown it."""
        order = {
            "amount_msat": msat,
            "label": f"l402-{secrets.token_hex(16)}",
            "description": description,
            "expiry": expiry,
        }
        invoice = self._call("invoice", order, CREATE_WITHIN)
        return Issued(invoice.text("bolt11"), invoice.hash("payment_hash"))

    def look_up(self, payment_hash: bytes) -> Settlement:
        """``listinvoices``, whose answer holds the preimage of an invoice that was paid."""
        answer = self._call("listinvoices", {"payment_hash": payment_hash.hex()}, LOOK_UP_WITHIN)
        match answer.records("invoices"):
            case []:
                return Settlement.GONE
            case [invoice]:
                self._same(payment_hash, invoice.hash("payment_hash"))
                return _settlement(invoice)
        raise answer.odd("invoices")

    def _call(self, command: str, order: dict[str, Any], within: float) -> Record:
        answer = self._client.post(f"/v1/{command}", order, within)
        if answer.status != 201:
            raise self._refusal(answer)
        return self._record(answer)

    def _refusal(self, answer: Answer) -> NodeError:
        if answer.status == 404:
            return self._nobody()
        said = answer.json()
        code, message = said.get("code"), str(said.get("message"))
        if "Missing rune" in message:
            return NodeRefused("no rune reached CLN; does a proxy strip the header Rune?")
        if answer.status == 401 and isinstance(code, int) and code in _RUNES:
            return NodeRefused(_RUNES[code])
        if answer.status == 401:
            return NodeRefused(f"the rune does not suffice ({self._quoted(message)}); {_MAKE}")
        return self._refused(answer, message)


def _settlement(invoice: Record) -> Settlement:
    match invoice.text("status"):
        case "unpaid":
            return Settlement.OPEN
        case "expired":
            return Settlement.GONE
        case "paid" if invoice.amount("amount_received_msat") >= invoice.amount("amount_msat"):
            return Settlement.SETTLED
        case "paid":
            return Settlement.UNDERPAID
    raise invoice.odd("status")

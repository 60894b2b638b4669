"""Eclair over its HTTP API (written to v0.13)."""

from l402.errors import NodeError, NodeRefused
from l402.nodes.base import Issued, Settlement
from l402.nodes.http import CREATE_WITHIN, LOOK_UP_WITHIN, Answer, basic
from l402.nodes.record import Record
from l402.nodes.remote import RemoteNode


class EclairNode(RemoteNode):
    """An Eclair of one's own; its only password can do everything, spending included."""

    kind = "Eclair"

    @staticmethod
    def _headers(secret: str) -> dict[str, str]:
        return basic(secret)

    def create_invoice(self, msat: int, description: str, expiry: int) -> Issued:
        """``POST /createinvoice``."""
        order = {"amountMsat": str(msat), "description": description, "expireIn": str(expiry)}
        answer = self._client.post_form("/createinvoice", order, CREATE_WITHIN)
        if answer.status != 200:
            raise self._refusal(answer)
        invoice = self._record(answer)
        return Issued(invoice.text("serialized"), invoice.hash("paymentHash"))

    def look_up(self, payment_hash: bytes) -> Settlement:
        """``POST /getreceivedinfo``, whose answer holds the preimage even of an unpaid invoice."""
        order = {"paymentHash": payment_hash.hex()}
        answer = self._client.post_form("/getreceivedinfo", order, LOOK_UP_WITHIN)
        if answer.status == 404 and '"Not found"' in answer.text():
            return Settlement.GONE
        if answer.status != 200:
            raise self._refusal(answer)
        payment = self._record(answer)
        invoice = payment.record("invoice")
        self._same(payment_hash, invoice.hash("paymentHash"))
        return _settlement(invoice, payment.record("status"))

    def _refusal(self, answer: Answer) -> NodeError:
        match answer.status:
            case 401:
                return NodeRefused(
                    "the password is not of this Eclair; copy eclair.api.password from its"
                    " eclair.conf"
                )
            case 404:
                return self._nobody()
        return self._refused(answer, answer.json().get("error"))


def _settlement(invoice: Record, status: Record) -> Settlement:
    match status.text("type"):
        case "pending":
            return Settlement.OPEN
        case "expired":
            return Settlement.GONE
        case "received" if status.amount("amount") >= invoice.amount("amount"):
            return Settlement.SETTLED
        case "received":
            return Settlement.UNDERPAID
    raise status.odd("type")

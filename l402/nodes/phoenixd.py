"""phoenixd over its HTTP API (written to v0.7), which explains its refusals in plain text."""

from l402.errors import NodeError, NodeRefused, NodeUnreachable
from l402.nodes.base import Issued, Settlement
from l402.nodes.http import CREATE_WITHIN, LOOK_UP_WITHIN, Answer, basic
from l402.nodes.record import Record
from l402.nodes.remote import RemoteNode

_SAT = 1000  # msat
_LONGEST_DESCRIPTION = 128  # as Kotlin counts: units of UTF-16


class PhoenixdNode(RemoteNode):
    """A phoenixd of one's own; ``http-password-limited-access`` is enough."""

    kind = "phoenixd"

    @staticmethod
    def _headers(secret: str) -> dict[str, str]:
        return basic(secret)

    def create_invoice(self, msat: int, description: str, expiry: int) -> Issued:
        """``POST /createinvoice``, with the description shortened to what phoenixd takes."""
        order = {
            "amountSat": str(msat // _SAT),
            "description": _shortened(description),
            "expirySeconds": str(expiry),
        }
        answer = self._client.post_form("/createinvoice", order, CREATE_WITHIN)
        if answer.status != 200:
            raise self._refusal(answer)
        invoice = self._record(answer)
        return Issued(invoice.text("serialized"), invoice.hash("paymentHash"))

    def look_up(self, payment_hash: bytes) -> Settlement:
        """``GET /payments/incoming/{hash}``, whose answer holds the preimage even if unpaid."""
        answer = self._client.get(f"/payments/incoming/{payment_hash.hex()}", LOOK_UP_WITHIN)
        if answer.status == 404 and answer.text().strip() == "Not found":
            return Settlement.GONE
        if answer.status != 200:
            raise self._refusal(answer)
        payment = self._record(answer)
        self._same(payment_hash, payment.hash("paymentHash"))
        return _settlement(payment)

    def _refusal(self, answer: Answer) -> NodeError:
        match answer.status:
            case 401:
                return NodeRefused(
                    "the password is not of this phoenixd; copy http-password-limited-access from"
                    " its phoenix.conf"
                )
            case 404:
                return self._nobody()
            case 502 | 503 | 504:
                return NodeUnreachable(f"a proxy answered for it with status {answer.status}")
        return self._refused(answer, answer.text())


def _settlement(payment: Record) -> Settlement:
    if not payment.flag("isPaid"):
        return Settlement.GONE if payment.flag("isExpired") else Settlement.OPEN
    # What a new channel cost, msat, was taken off what arrived; the rest is rounded down to sats.
    arrived = (payment.amount("receivedSat") + 1) * _SAT + payment.amount("fees")
    enough = arrived > payment.amount("requestedSat") * _SAT
    return Settlement.SETTLED if enough else Settlement.UNDERPAID


def _shortened(description: str) -> str:
    """Cut the front if need be; the last word is what a sale is recognised by, and stays whole."""
    if len(_units(description)) <= 2 * _LONGEST_DESCRIPTION:
        return description
    front, _, last = description.rpartition(" ")
    room = 2 * _LONGEST_DESCRIPTION - len(_units(f" {last}"))
    if room <= 0:
        return _units(description)[: 2 * _LONGEST_DESCRIPTION].decode("utf-16-le", "ignore")
    return f"{_units(front)[:room].decode('utf-16-le', 'ignore')} {last}"


def _units(text: str) -> bytes:
    return text.encode("utf-16-le")

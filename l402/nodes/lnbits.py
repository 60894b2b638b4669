"""A wallet of LNbits (written to v1.6.2).

LNbits holds the money, and settles among its own wallets without Lightning. Whoever has the invoice
key is shown preimages before they are paid, so a preimage alone proves nothing here.
"""

from l402.errors import NodeError, NodeRefused
from l402.nodes.base import Issued, Settlement
from l402.nodes.http import CREATE_WITHIN, LOOK_UP_WITHIN, Answer
from l402.nodes.remote import RemoteNode

_SAT = 1000  # msat; LNbits counts nothing smaller
_NO_WALLET = "the key is of no wallet of this LNbits; copy the wallet's invoice key"

#: What a status means, wherever it is answered, and in how many seconds a caller may try again.
_REFUSALS = {
    401: ("no key reached LNbits; does a proxy strip X-Api-Key?", 5),
    429: ("LNbits was asked too often; raise its rate limit (LNBITS_RATE_LIMIT_NO)", 60),
}


class LnbitsNode(RemoteNode):
    """A wallet of LNbits; its invoice key is enough."""

    custodial = True
    kind, secret_name = "LNbits", "key"

    @staticmethod
    def _headers(secret: str) -> dict[str, str]:
        return {"X-Api-Key": secret}

    def create_invoice(self, msat: int, description: str, expiry: int) -> Issued:
        """``POST /api/v1/payments``."""
        order = {"out": False, "amount": msat // _SAT, "memo": description, "expiry": expiry}
        answer = self._client.post("/api/v1/payments", order, CREATE_WITHIN)
        if answer.status == 404 and _detail(answer) == "Wallet not found.":
            raise NodeRefused(_NO_WALLET)
        if answer.status != 201:
            raise self._refusal(answer)
        invoice = self._record(answer)
        return Issued(invoice.text("bolt11"), invoice.hash("payment_hash"))

    def look_up(self, payment_hash: bytes) -> Settlement:
        """``GET /api/v1/payments/{hash}``; it does not say how much arrived, only if enough did.

        LNbits answers anybody whether a payment was made. Only to the wallet's own key does it tell
        of which wallet and how, so an answer without that counts for nothing.
        """
        answer = self._client.get(f"/api/v1/payments/{payment_hash.hex()}", LOOK_UP_WITHIN)
        if answer.status == 404 and _detail(answer) == "Payment does not exist.":
            return Settlement.GONE
        if answer.status != 200:
            raise self._refusal(answer)
        if "details" not in answer.json():
            raise NodeRefused(_NO_WALLET)
        found = self._record(answer)
        details = found.record("details")
        self._same(payment_hash, details.hash("payment_hash"))
        match found.flag("paid"), details.text("status"):
            case True, "success":
                return Settlement.SETTLED
            case False, "pending":
                return Settlement.OPEN
            case False, "failed":
                return Settlement.GONE
        raise details.odd("status")

    def _refusal(self, answer: Answer) -> NodeError:
        if answer.status in _REFUSALS:
            return NodeRefused(*_REFUSALS[answer.status])
        if answer.status == 404:
            return self._nobody()
        return self._refused(answer, _detail(answer))


def _detail(answer: Answer) -> object:
    return answer.json().get("detail")

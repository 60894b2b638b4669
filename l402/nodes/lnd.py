"""lnd over its REST interface (written to v0.21)."""

import binascii
import re
from base64 import b64decode
from pathlib import Path

from l402.errors import NodeError, NodeRefused
from l402.nodes.base import Issued, Listed, Settlement
from l402.nodes.http import CREATE_WITHIN, LIST_WITHIN, LOOK_UP_WITHIN, Answer
from l402.nodes.permissions import permissions
from l402.nodes.record import Record
from l402.nodes.remote import RemoteNode

_BAKE = "bake one: lncli bakemacaroon invoices:read invoices:write"
_NO_MACAROON = f"lnd could not read the macaroon as one; {_BAKE}"
_NEEDED = {
    "invoices:read",
    "invoices:write",
    "uri:/lnrpc.Lightning/AddInvoice",
    "uri:/lnrpc.Lightning/LookupInvoice",
}
_STARTING = "lnd is starting up and answers soon"

#: What lnd says, all of it with status 500, and what its operator can do. The first match counts.
_REFUSALS = (
    ("permission denied", f"the macaroon lacks a permission; {_BAKE}"),
    ("macaroon has expired", f"the macaroon has expired; {_BAKE}"),
    ("different IP address", f"the macaroon is bound to an IP address, and REST is local; {_BAKE}"),
    ("verification failed", f"the macaroon is not of this lnd or was withdrawn; {_BAKE}"),
    ("cannot determine data format", _NO_MACAROON),
    ("encoding/hex", _NO_MACAROON),
    ("unmarshal v", _NO_MACAROON),
    ("expected 1 macaroon", "no macaroon reached lnd; does a proxy strip Grpc-Metadata-macaroon?"),
    ("wallet locked", "lnd's wallet is locked; unlock it: lncli unlock"),
    ("wallet not created", "lnd has no wallet yet; create one: lncli create"),
    ("starting up", _STARTING),
    ("waiting to start", _STARTING),
    ("Not Found", "no lnd REST at this address; correct host, port or path in the node URL"),
)
#: The second is a node's that never issued one; before v0.20 its status is 500, not 404.
_UNKNOWN_INVOICE = ("unable to locate invoice", "there are no existing invoices")

_PAGE = 100  # invoices, of two kilobytes each as we have them written
#: Bytes of a page: others' invoices are listed with each part in which they were paid.
_LARGEST_PAGE = 16 << 20
_END_OF_TIME = 1 << 36  # unix seconds, in the year 4147


def macaroon_in(content: bytes) -> str | None:
    """Return the macaroon in `content`, raw as lnd writes it or in hex, as hex; None for others."""
    # 2 begins every macaroon of version 2, the only one that lnd makes
    raw = content.startswith(b"\x02")
    macaroon = content.hex() if raw else content.strip().decode("ascii", "replace").lower()
    return macaroon if re.fullmatch("02([0-9a-f]{2}){32,}", macaroon) else None


class LndNode(RemoteNode):
    """An lnd of one's own; a macaroon of ``invoices:read invoices:write`` is enough.

    `private` puts hints to unannounced channels into invoices. A node that has only such channels
    cannot be paid without; one that has others too would tell each buyer of them.
    """

    kind, secret_name, ca_parameter = "lnd", "macaroon", "tls_cert_path"
    can_list = True

    def __init__(
        self,
        base: str,
        macaroon: str,
        *,
        network: str = "mainnet",
        ca_file: Path | None = None,
        private: bool = False,
    ) -> None:
        super().__init__(base, macaroon, network=network, ca_file=ca_file)
        self._private = private

    @staticmethod
    def _headers(secret: str) -> dict[str, str]:
        return {"Grpc-Metadata-macaroon": secret}

    def create_invoice(self, msat: int, description: str, expiry: int) -> Issued:
        """``POST /v1/invoices``; 64-bit integers travel as text."""
        order = {
            "memo": description,
            "value_msat": str(msat),
            "expiry": str(expiry),
            "private": self._private,
        }
        answer = self._client.post("/v1/invoices", order, CREATE_WITHIN)
        if answer.status != 200:
            raise self._refusal(answer)
        invoice = self._record(answer)
        return Issued(invoice.text("payment_request"), _hash(invoice))

    def look_up(self, payment_hash: bytes) -> Settlement:
        """``GET /v1/invoice/{hash}``, whose answer holds the preimage even of an unpaid invoice."""
        answer = self._client.get(f"/v1/invoice/{payment_hash.hex()}", LOOK_UP_WITHIN)
        if answer.status != 200 and answer.json().get("message") in _UNKNOWN_INVOICE:
            return Settlement.GONE
        if answer.status != 200:
            raise self._refusal(answer)
        invoice = self._record(answer)
        self._same(payment_hash, _hash(invoice))
        return _settlement(invoice)

    def invoices(self, after: int) -> list[Listed]:
        """``GET /v1/invoices``, by ``add_index``: the order in which invoices were made.

        Only a stream (``/v1/invoices/subscribe?settle_index=``) has them in the order in which
        they were paid. It never says where the past ends and the waiting begins, lnd puts all of
        the past into memory for it, and it cannot begin with the first payment: 0 stands for the
        present. A page is bounded, and the end is an empty one. The price is that what was listed
        while it was open is not listed again once it is paid: see `l402.reconciliation`.
        """
        query = f"index_offset={after}&num_max_invoices={_PAGE}"
        answer = self._client.get(f"/v1/invoices?{query}", LIST_WITHIN, _LARGEST_PAGE)
        if answer.status != 200:
            raise self._refusal(answer)
        return [_listed(each) for each in self._record(answer).records("invoices")]

    def excess(self) -> tuple[str, ...] | None:
        """As `Node.excess`: the macaroon names its permissions."""
        granted = permissions(bytes.fromhex(self._secret))
        return None if granted is None else tuple(sorted(granted - _NEEDED))

    def _refusal(self, answer: Answer) -> NodeError:
        message = str(answer.json().get("message"))
        for said, meaning in _REFUSALS:
            if said in message:
                return NodeRefused(meaning)
        return self._refused(answer, message)


def _settlement(invoice: Record) -> Settlement:
    match invoice.text("state"):
        case "OPEN":
            return Settlement.OPEN
        case "ACCEPTED":
            return Settlement.IN_FLIGHT
        case "CANCELED":
            return Settlement.GONE
        case "SETTLED" if _number(invoice, "amt_paid_msat") >= _number(invoice, "value_msat"):
            return Settlement.SETTLED
        case "SETTLED":
            return Settlement.UNDERPAID
    raise invoice.odd("state")


def _listed(invoice: Record) -> Listed:
    settled_at = _number(invoice, "settle_date")
    if settled_at >= _END_OF_TIME:
        raise invoice.odd("settle_date")
    return Listed(
        position=_number(invoice, "add_index"),
        # A payment by AMP that nobody wrote an invoice for is listed without a hash.
        payment_hash=_hash(invoice) if invoice.text("r_hash") else bytes(32),
        description=invoice.text("memo"),
        settlement=_settlement(invoice),
        msat=_number(invoice, "value_msat"),
        received=_number(invoice, "amt_paid_msat"),
        settled_at=settled_at,
    )


def _hash(invoice: Record) -> bytes:
    try:
        value = b64decode(invoice.text("r_hash"), validate=True)
    except (binascii.Error, ValueError):
        raise invoice.odd("r_hash") from None
    if len(value) != 32:
        raise invoice.odd("r_hash")
    return value


def _number(invoice: Record, name: str) -> int:
    """Return a 64-bit integer, which travels as text."""
    value = invoice.text(name)
    if not re.fullmatch("[0-9]{1,19}", value):
        raise invoice.odd(name)
    return int(value)

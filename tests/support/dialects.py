"""Stand-ins for nodes of four kinds: each speaks its kind's HTTP, and issues real invoices.

They keep the states of invoices and refuse credentials as the documentation and the source of what
they stand for say; a test pays and spoils their invoices by hand.
"""

import json
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar
from urllib.parse import parse_qs

from l402.nodes.simulated import SimulatedNode
from l402.protocol import bolt11
from support.http_servers import Request, http_answer

RIGHT, WRONG = "the-right-canary-of-a-secret", "another-canary-of-a-secret"


@dataclass
class Issued:
    """An invoice of a stand-in's; `received` is in msat, None while nothing arrived."""

    bolt11: str
    preimage: bytes
    msat: int
    description: str
    received: int | None = None
    expired: bool = False

    @property
    def hash(self) -> str:
        """The payment hash, in hex."""
        return sha256(self.preimage).hexdigest()


class Dialect(ABC):
    """The behaviour of a node of one kind; its invoices are of regtest."""

    scheme: ClassVar[str]
    secret_name: ClassVar[str] = "password"
    #: what the operator is told of a credential that is not the node's
    wrong: ClassVar[str]
    custodial: ClassVar[bool] = False

    def __init__(self, clock: Callable[[], float]) -> None:
        self._payee = SimulatedNode(b"the key of a node in a test only", clock)
        self.issued: dict[str, Issued] = {}

    def url(self, address: str, secret: str = RIGHT) -> str:
        """Return the URL by which the project is told of a node at `address` (``host:port``)."""
        return f"{self.scheme}+http://{address}?{self.secret_name}={secret}&network=regtest"

    def pay(self, invoice: str, msat: int | None = None) -> bytes:
        """Have an invoice paid, or less than it asks; return its preimage."""
        found = self.of(invoice)
        found.received = found.msat if msat is None else msat
        return found.preimage

    def of(self, invoice: str) -> Issued:
        """Return what the node knows of an invoice."""
        return self.issued[bolt11.decode(invoice).payment_hash.hex()]

    def issue(self, msat: int, description: str, expiry: int) -> Issued:
        """Write an invoice."""
        invoice = self._payee.create_invoice(msat, description, expiry).bolt11
        made = Issued(invoice, self._payee.settle(invoice), msat, description)
        self.issued[made.hash] = made
        return made

    @abstractmethod
    def __call__(self, request: Request) -> bytes:
        """Answer a request."""


def _form(request: Request) -> dict[str, str]:
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    return {name: value for name, (value,) in parse_qs(request.body.decode()).items()}


def _knows_password(request: Request) -> bool:
    shown = request.headers.get("authorization")
    return shown == f"Basic {b64encode(f':{RIGHT}'.encode()).decode()}"


class Cln(Dialect):
    """Core Lightning with clnrest."""

    scheme, secret_name = "cln", "rune"
    wrong = "the rune is not of this CLN; make one: lightning-cli createrune"

    def __call__(self, request: Request) -> bytes:
        if request.headers.get("rune") != RIGHT:
            error = {"code": 1501, "message": "Not authorized: Not derived from master"}
            return http_answer(401, error)
        order = json.loads(request.body)
        if request.path == "/v1/invoice":
            made = self.issue(order["amount_msat"], order["description"], order["expiry"])
            body = {"payment_hash": made.hash, "expires_at": 1, "bolt11": made.bolt11}
            return http_answer(201, body | {"payment_secret": "5e" * 32, "created_index": 1})
        assert request.path == "/v1/listinvoices"
        found = self.issued.get(order["payment_hash"])
        return http_answer(201, {"invoices": [self._described(found)] if found else []})

    def _described(self, found: Issued) -> dict[str, Any]:
        body = {"label": "x", "payment_hash": found.hash, "bolt11": found.bolt11}
        body |= {"amount_msat": found.msat, "expires_at": 1, "created_index": 1}
        if found.received is None:
            return body | {"status": "expired" if found.expired else "unpaid"}
        paid = {"pay_index": 1, "amount_received_msat": found.received, "paid_at": 1}
        return body | paid | {"status": "paid", "payment_preimage": found.preimage.hex()}


class Lnbits(Dialect):
    """LNbits; what arrived it does not say."""

    scheme, secret_name, custodial = "lnbits", "key", True
    wrong = "the key is of no wallet of this LNbits"

    def __call__(self, request: Request) -> bytes:
        ours = request.headers.get("x-api-key") == RIGHT
        if request.method == "POST":
            assert request.path == "/api/v1/payments"
            if not ours:
                return http_answer(404, {"detail": "Wallet not found."})
            order = json.loads(request.body)
            assert order["out"] is False
            made = self.issue(order["amount"] * 1000, order["memo"], order["expiry"])
            return http_answer(201, self._payment(made))
        found = self.issued.get(request.path.removeprefix("/api/v1/payments/"))
        if found is None:
            return http_answer(404, {"detail": "Payment does not exist."})
        details = {"details": self._payment(found)} if ours else {}
        return http_answer(200, {"paid": found.received is not None} | details)

    def _payment(self, found: Issued) -> dict[str, Any]:
        unpaid = "failed" if found.expired else "pending"
        return {
            "checking_id": found.hash,
            "payment_hash": found.hash,
            "bolt11": found.bolt11,
            "amount": found.msat,
            "status": unpaid if found.received is None else "success",
            "preimage": found.preimage.hex(),
        }


class Phoenixd(Dialect):
    """phoenixd."""

    scheme = "phoenixd"
    wrong = "the password is not of this phoenixd; copy http-password-limited-access"

    def __call__(self, request: Request) -> bytes:
        if not _knows_password(request):
            return http_answer(401, "Invalid authentication (use basic auth with the http password")
        if request.method == "POST":
            assert request.path == "/createinvoice"
            order = _form(request)
            if len(order["description"].encode("utf-16-le")) > 2 * 128:
                return http_answer(400, "Request parameter description is too long")
            sats, expiry = int(order["amountSat"]), int(order["expirySeconds"])
            made = self.issue(sats * 1000, order["description"], expiry)
            body = {"amountSat": sats, "paymentHash": made.hash, "serialized": made.bolt11}
            return http_answer(200, body)
        found = self.issued.get(request.path.removeprefix("/payments/incoming/"))
        return http_answer(200, self._payment(found)) if found else http_answer(404, "Not found")

    def _payment(self, found: Issued) -> dict[str, Any]:
        return {
            "type": "incoming_payment",
            "subType": "lightning",
            "paymentHash": found.hash,
            "preimage": found.preimage.hex(),
            "invoice": found.bolt11,
            "isPaid": found.received is not None,
            "isExpired": found.expired,
            "requestedSat": found.msat // 1000,
            "receivedSat": (found.received or 0) // 1000,
            "fees": 0,
        }


class Eclair(Dialect):
    """Eclair."""

    scheme = "eclair"
    wrong = "the password is not of this Eclair; copy eclair.api.password"

    def __call__(self, request: Request) -> bytes:
        if not _knows_password(request):
            return http_answer(401, "The supplied authentication is invalid")
        order = _form(request)
        if request.path == "/createinvoice":
            amount, expiry = int(order["amountMsat"]), int(order["expireIn"])
            return http_answer(200, self._invoice(self.issue(amount, order["description"], expiry)))
        assert request.path == "/getreceivedinfo"
        found = self.issued.get(order["paymentHash"])
        if found is None:
            return http_answer(404, {"error": "Not found"})
        status: dict[str, Any] = {"type": "expired" if found.expired else "pending"}
        if found.received is not None:
            status = {"type": "received", "amount": found.received, "receivedAt": {"unix": 1}}
        body = {"invoice": self._invoice(found), "paymentPreimage": found.preimage.hex()}
        return http_answer(200, body | {"paymentType": "Standard", "status": status})

    def _invoice(self, found: Issued) -> dict[str, Any]:
        return {
            "prefix": "lnbcrt",
            "serialized": found.bolt11,
            "description": found.description,
            "paymentHash": found.hash,
            "amount": found.msat,
            "routingInfo": [],
        }


DIALECTS: dict[str, type[Dialect]] = {kind.scheme: kind for kind in (Cln, Lnbits, Phoenixd, Eclair)}

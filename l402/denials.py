"""Every refusal: its reason, its status, its body.

A refusal is returned, never raised: a host's ``errorhandler(HTTPException)`` would strip the
header that a payer needs. A 402 is answered wherever paying helps, for stale tokens too: clients
that cache tokens stay stuck for good when they meet a 401.
"""

from enum import StrEnum
from typing import NamedTuple

from flask import Response, jsonify

from l402.protocol.challenge import Challenge


class Reason(StrEnum):
    """Why a request was refused, as the body's ``reason`` names it."""

    # answered with a challenge
    NO_CREDENTIAL = "no_credential"
    INVALID = "invalid"  # all that is told to who does not hold the right preimage
    EXPIRED = "expired"
    REVOKED = "revoked"
    WRONG_SERVICE = "wrong_service"
    WRONG_NETWORK = "wrong_network"
    WRONG_KIND = "wrong_kind"
    PRICE_TOO_LOW = "price_too_low"
    NARROWED = "narrowed"  # by a caveat that a holder appended
    EXHAUSTED = "exhausted"  # less credit is left than this request costs
    WRONG_LEDGER = "wrong_ledger"  # credit that was sold by another record than this
    UNPAID = "unpaid"  # strict verification: the node knows of no full payment
    # answered without: paying would not help
    MALFORMED = "malformed"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    CHALLENGES_LIMITED = "challenges_limited"
    IN_PROGRESS = "in_progress"  # under this Idempotency-Key, which the next two concern too
    NOT_REPLAYABLE = "not_replayable"
    OTHER_REQUEST = "other_request"
    UNSETTLED = "unsettled"
    STORE_UNAVAILABLE = "store_unavailable"
    NODE_UNAVAILABLE = "node_unavailable"
    RATE_UNAVAILABLE = "rate_unavailable"  # of the currency that the price is in


BALANCE = "L402-Balance-Msat"  # what is left of the credit that a request draws on

_STATUS = {
    Reason.MALFORMED: (400, "bad_request"),
    Reason.NOT_FOUND: (403, "forbidden"),
    Reason.RATE_LIMITED: (429, "rate_limited"),
    Reason.CHALLENGES_LIMITED: (429, "rate_limited"),
    Reason.IN_PROGRESS: (409, "conflict"),
    Reason.NOT_REPLAYABLE: (409, "conflict"),
    Reason.OTHER_REQUEST: (422, "unprocessable_content"),
    Reason.UNSETTLED: (503, "unavailable"),
    Reason.STORE_UNAVAILABLE: (503, "unavailable"),
    Reason.NODE_UNAVAILABLE: (503, "unavailable"),
    Reason.RATE_UNAVAILABLE: (503, "unavailable"),
}
_PAYMENT_REQUIRED = (402, "payment_required")


class Denial(NamedTuple):
    """A refusal; `retry_after` in seconds, `detail` a sentence for who reads the body.

    `balance` is what is left of a credit that does not suffice, in msat.
    """

    reason: Reason
    challenge: Challenge | None = None
    retry_after: int | None = None
    detail: str | None = None
    balance: int | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _STATUS.get(self.reason, _PAYMENT_REQUIRED)[0]

    @property
    def body(self) -> dict[str, str | int]:
        """What the answer says, to be sent as JSON."""
        body: dict[str, str | int] = {
            "error": _STATUS.get(self.reason, _PAYMENT_REQUIRED)[1],
            "reason": self.reason.value,
        }
        if self.balance is not None:
            body["balance_msat"] = self.balance
        if self.detail:
            body["detail"] = self.detail
        if self.challenge:
            body |= self.challenge.body
        return body

    def response(self) -> Response:
        """Return the answer; it is for this caller alone, so no cache may keep it."""
        response = jsonify(self.body)
        response.status_code = self.status
        headers = response.headers
        headers.add("Cache-Control", "no-store")
        headers.add("Vary", "Authorization")
        if self.balance is not None:
            headers.add(BALANCE, str(self.balance))
        if self.challenge:
            headers.add("WWW-Authenticate", self.challenge.header)
        if self.retry_after is not None:
            headers.add("Retry-After", str(self.retry_after))
        return response

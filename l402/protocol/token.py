"""Our token: what we sign when we offer a sale, and what a holder may add.

A token is a macaroon. Its identifier is ``version (uint16) ‖ payment hash ‖ token id``; its root
key is derived from the secret key and the token id, so that nothing is stored when it is minted.
The first caveats are ours, a closed set in a fixed order::

    services=<service>:0    kind=pass|credit    paid_msat=<msat>    network=<network>
    issued_at=<s>  starts_at=<s>  ends_at=<s>  <service>_valid_until=<s>
    method=<method>         endpoint=<endpoint>                     ledger=<id>
    price_msat=<msat>       rate=<rate>

Whatever follows was appended by a holder. Where it repeats one of these keys it is a limit on the
request that shows it, and can only narrow. Times are unix seconds.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from l402.errors import Invalid
from l402.protocol import macaroon
from l402.protocol.authorization import Credential
from l402.protocol.keys import KeyRing

PASS = "pass"  # noqa: S105 (a kind of right, no password)
CREDIT = "credit"

_VERSION = (0).to_bytes(2, "big")
_IDENTIFIER_BYTES = 66
#: Changing what a caveat means changes its kind's label, so that older tokens cannot be misread.
_LABELS = {PASS: "token pass 0", CREDIT: "token credit 0"}


class Grant(NamedTuple):
    """What we signed. Amounts in msat, times in unix seconds.

    `starts_at` is the invoice's end, from which a right's length is counted so that no payer
    loses time; the right may be used before. `ends_at` is the right's own end, `valid_until` the
    token's end as a key. `endpoint` and `method` are what it was sold for, `ledger` the id of the
    record in which the payment is to be booked. `price` is what the refused request cost, 0 if
    that was for a callable to say, and `rate` what it was reckoned at, such as ``USD 97000.5`` for
    one bitcoin, or empty.
    """

    service: str
    kind: str
    msat: int
    network: str
    issued_at: int
    starts_at: int
    ends_at: int
    valid_until: int
    method: str
    endpoint: str
    ledger: str
    price: int
    rate: str


@dataclass(slots=True, repr=False)
class Token:
    """An authentic token, shown with its preimage.

    `limits` are what holders appended under our keys, as pairs of a `Grant` field and its text.
    `signed_by` is the position in the key ring of the secret that signed. `booked` is set once
    the record has taken note of the payment, in this process; `others` are the grants, by payment
    hash, of further passes of the account that the record was seen to hold. `opened` is what it
    opened in this process, and all that has to be looked at when it is shown there again.
    """

    payment_hash: bytes
    token_id: bytes
    grant: Grant
    limits: tuple[tuple[str, str], ...] = ()
    signed_by: int = 0
    booked: bool = field(default=False, compare=False)
    others: Mapping[bytes, Grant] = field(default_factory=dict, compare=False)
    opened: dict[object, Any] = field(default_factory=dict, compare=False)


def mint(keys: KeyRing, payment_hash: bytes, token_id: bytes, grant: Grant) -> bytes:
    """Sign `grant` with the newest key and return the macaroon's bytes."""
    root_key = keys.derive(_LABELS[grant.kind], token_id)
    caveats = [
        f"{key}={value}"
        for key, value in zip(_caveat_keys(grant.service), _values(grant), strict=True)
    ]
    return macaroon.mint(root_key, _VERSION + payment_hash + token_id, caveats)


def verify(keys: KeyRing, credential: Credential) -> Token:
    """Return the token that `credential` proves to be ours and paid for.

    What it opens, and when it ends, is for the caller to judge.

    :raises Malformed: over the macaroon's size limits
    :raises Invalid: not our format, another's preimage, or not signed by a key of the ring
    """
    parsed = macaroon.parse(credential.macaroon)
    payment_hash, token_id = _identifier(parsed.identifier)
    if not hmac.compare_digest(sha256(credential.preimage).digest(), payment_hash):
        raise Invalid("the preimage is not this token's")
    grant = _grant(parsed.caveats)
    for position, root_key in enumerate(keys.derive_all(_LABELS[grant.kind], token_id)):
        if parsed.signed_by(root_key):
            limits = _limits(grant, parsed.caveats, credential.preimage)
            return Token(payment_hash, token_id, grant, limits, position)
    raise Invalid("no key of ours signed this token")


def _identifier(identifier: bytes) -> tuple[bytes, bytes]:
    if len(identifier) != _IDENTIFIER_BYTES or identifier[:2] != _VERSION:
        raise Invalid("not an identifier of ours")
    return identifier[2:34], identifier[34:]


def _caveat_keys(service: str) -> tuple[str, ...]:
    """The caveats' keys, in the order of `Grant`'s fields."""
    return (
        "services", "kind", "paid_msat", "network", "issued_at", "starts_at", "ends_at",
        f"{service}_valid_until", "method", "endpoint", "ledger",
        "price_msat", "rate",
    )  # fmt: skip


def _values(grant: Grant) -> tuple[str | int, ...]:
    return (f"{grant.service}:0", *grant[1:])


def _grant(caveats: tuple[str, ...]) -> Grant:
    """Read the caveats that we signed; a missing one refuses, it never means unrestricted."""
    pairs = [caveat.partition("=") for caveat in caveats[: len(Grant._fields)]]
    service = pairs[0][2].removesuffix(":0") if pairs else ""
    if tuple(key for key, _, _ in pairs) != _caveat_keys(service):
        raise Invalid("the token lacks caveats of ours")
    values = [value for _, _, value in pairs]
    try:
        times = (int(value) for value in values[4:8])
        head = (service, values[1], int(values[2]), values[3])
        fields = (*head, *times, *values[8:11], int(values[11]), values[12])
    except ValueError as error:
        raise Invalid("the token has a number that is none") from error
    grant = Grant._make(fields)
    if grant.kind not in _LABELS or [str(v) for v in _values(grant)] != values:
        raise Invalid("the token has a value that we never write")
    return grant


def _limits(grant: Grant, caveats: tuple[str, ...], preimage: bytes) -> tuple[tuple[str, str], ...]:
    """Collect what holders appended under our keys; a key that we do not know is skipped."""
    fields = dict(zip(_caveat_keys(grant.service), Grant._fields, strict=True))
    limits = []
    for caveat in caveats[len(fields) :]:
        key, _, value = (part.strip() for part in caveat.partition("="))
        if key == "preimage" and value.lower() != preimage.hex():
            raise Invalid("the token was narrowed to another preimage")
        if key in fields or key.endswith("_valid_until"):
            limits.append((fields.get(key, key), value))
    return tuple(limits)

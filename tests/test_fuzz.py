"""A plain seeded mutator over all that strangers send: every outcome is a documented one.

``FUZZ_CASES`` says how many cases all inputs together get.
"""

import os
import random
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256

import pytest

from l402.errors import Invalid, InvalidInvoice, Malformed
from l402.nodes.simulated import SimulatedNode
from l402.protocol import authorization, bolt11, macaroon, token
from l402.protocol.keys import KeyRing

CASES = int(os.environ.get("FUZZ_CASES", "50000"))
SEED = 402
KEYS = KeyRing([b"k" * 32, b"o" * 32])
PREIMAGE = b"\x07" * 32
GRANT = token.Grant(
    "weather", token.PASS, 10_000, "simulated", 10**9, 10**9 + 600, 10**9 + 4200, 10**9 + 4200,
    "GET", "quote", "l" * 32, 10_000, "",
)  # fmt: skip
TOKEN = token.mint(KEYS, sha256(PREIMAGE).digest(), bytes(range(32)), GRANT)
STANDARD, URL_SAFE = b64encode(TOKEN), urlsafe_b64encode(TOKEN).rstrip(b"=")
HEX = PREIMAGE.hex().encode()
HEADERS = [
    b"L402 " + STANDARD + b":" + HEX,
    b"LSAT " + URL_SAFE + b":" + HEX.upper(),
    b"L402 LSAT " + STANDARD + b":" + HEX + b", l402 " + URL_SAFE + b":" + HEX,
    b"Bearer abc, L402 AAAA:" + HEX,
    b"Basic YTpi",
]
MACAROONS = [
    TOKEN,
    macaroon.mint(b"k", b"i", []),
    macaroon.mint(b"k", b"i", ["a=1"] * macaroon.MAX_CAVEATS),
    macaroon.mint(b"k", b"i" * 200, ["x" * 130, "é=ü"]),
]
NODE = SimulatedNode(b"s" * 32, lambda: 1_800_000_000.0)
INVOICES = [
    NODE.create_invoice(10_000, "a quote l402:0001020304050607:00112233", 600).bolt11.encode(),
    NODE.create_invoice(1, "", 1).bolt11.encode(),
    NODE.create_invoice(21 * 10**17, "é" * 300, 10**9).bolt11.upper().encode(),
]
#: Bytes that mean something to one of the parsers.
LIVELY = b"\x00\x01\x02\x04\x06\x20\x7f\x80\xff,:= \t\n\rL402-_+/1qpldxhs"


def mutants(seeds, count, *, by):
    """Yield `count` inputs, each one of `seeds` with one to six changes."""
    numbers = random.Random(f"{SEED} {by}")
    for _ in range(count):
        data = bytearray(numbers.choice(seeds))
        for _ in range(numbers.choice((1, 1, 1, 2, 3, 6))):
            change(data, seeds, numbers)
        yield bytes(data)


def change(data, seeds, numbers):
    """Change one thing about `data`: a bit, a byte, a run, its length, or a part of another."""
    at = int(numbers.random() * (len(data) + 1))
    how = int(numbers.random() * 7)
    if how == 0 and at < len(data):
        data[at] ^= 1 << int(numbers.random() * 8)
    elif how == 1 and at < len(data):
        data[at] = numbers.choice(LIVELY)
    elif how == 2:
        data.insert(at, numbers.choice(LIVELY))
    elif how == 3:
        del data[at : at + numbers.choice((1, 1, 2, 8, 64))]
    elif how == 4:
        del data[at:]
    elif how == 5:
        data[at:at] = data[at : at + numbers.choice((1, 4, 32, 300))]
    else:
        other = numbers.choice(seeds)
        start = int(numbers.random() * len(other))
        data[at : at + 8] = other[start : start + 40]


def with_checksum(invoice):
    """Close a mutated invoice with a right checksum, so that what is behind it is reached."""
    hrp, separator, data = invoice.lower().rpartition(b"1")
    data = bytes(letter for letter in data[:-6] if letter in bolt11.CHARSET)
    try:
        return hrp + separator + data + bolt11.checksum(hrp, data)
    except ValueError:
        return invoice


@pytest.mark.parametrize("seeds", [HEADERS], ids=["headers"])
def test_headers(seeds):
    """A header gives credentials or is malformed; a token of it is ours only as it was minted."""
    accepted = verified = 0
    for header in mutants(seeds, CASES // 4, by="headers"):
        try:
            shown = authorization.parse(header.decode("latin-1"))
        except Malformed:
            continue
        accepted += bool(shown)
        for credential in shown:
            try:
                proved = token.verify(KEYS, credential)
            except (Malformed, Invalid):
                continue
            verified += 1
            assert proved.grant == GRANT
            assert credential.preimage == PREIMAGE
    assert accepted
    assert verified


def test_macaroons():
    """Bytes are a macaroon, malformed or invalid; no mutant is signed but for its location."""
    parsed = 0
    originals = {macaroon.parse(raw) for raw in MACAROONS}
    for raw in mutants(MACAROONS, CASES // 4, by="macaroons"):
        try:
            read = macaroon.parse(raw)
        except (Malformed, Invalid):
            continue
        parsed += 1
        assert read in originals or not (read.signed_by(b"k") or read.signed_by(b""))
    assert parsed


def test_tokens():
    """A mutated token is refused, or is the very one that was sold."""
    verified = 0
    for raw in mutants([TOKEN], CASES // 4, by="tokens"):
        try:
            proved = token.verify(KEYS, authorization.Credential(raw, PREIMAGE))
        except (Malformed, Invalid):
            continue
        verified += 1
        assert (proved.grant, proved.limits) == (GRANT, ())
    assert verified


def test_invoices():
    """A text is an invoice or an InvalidInvoice, behind a right checksum too."""
    decoded = 0
    for number, raw in enumerate(mutants(INVOICES, CASES // 4, by="invoices")):
        text = (with_checksum(raw) if number % 2 else raw).decode("latin-1")
        try:
            request = bolt11.decode(text)
        except InvalidInvoice:
            continue
        decoded += 1
        assert len(request.payment_hash) == 32
        assert request.network in bolt11.NETWORKS.values()
        assert request.msat is None or request.msat >= 0
        assert request.created_at >= 0
        assert request.expiry >= 0
    assert decoded

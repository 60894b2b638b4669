"""Macaroons to the byte: by hand from the HMAC chain, and against pymacaroons both ways."""

import hashlib
import hmac
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymacaroons import MACAROON_V1, MACAROON_V2, Verifier
from pymacaroons import Macaroon as Oracle
from pymacaroons.serializers import BinarySerializer

from l402.errors import Invalid, Malformed
from l402.protocol.macaroon import MAX_BYTES, MAX_CAVEATS, Macaroon, mint, parse

KEY = bytes(range(32))
SIGNATURE = b"\x06\x20" + bytes(32)


def chain(key, *messages):
    """The HMAC chain of the macaroons paper, with the generator that Go's and C's libraries use."""
    link = hmac.new(b"macaroons-key-generator", key, hashlib.sha256).digest()
    for message in messages:
        link = hmac.new(link, message, hashlib.sha256).digest()
    return link


# What Go's macaroon.v2 writes: New(key, id, "l402", V2), AddFirstPartyCaveat for each,
# MarshalBinary. Lengths and separators are written out, none is computed.
VECTORS = {
    "no caveat": (
        b"an id", [],
        b"\x02" b"\x01\x04l402" b"\x02\x05an id" b"\x00"
        b"\x00" b"\x06\x20" + chain(KEY, b"an id"),
    ),
    "two caveats": (
        b"an id", ["a=1", "services=weather:0"],
        b"\x02" b"\x01\x04l402" b"\x02\x05an id" b"\x00"
        b"\x02\x03a=1" b"\x00" b"\x02\x12services=weather:0" b"\x00"
        b"\x00" b"\x06\x20" + chain(KEY, b"an id", b"a=1", b"services=weather:0"),
    ),
    "identifier of 66 bytes": (
        b"\0\0" + b"\xaa" * 32 + b"\xbb" * 32, ["x=y"],
        b"\x02" b"\x01\x04l402" b"\x02\x42\0\0" + b"\xaa" * 32 + b"\xbb" * 32 + b"\x00"
        b"\x02\x03x=y" b"\x00"
        b"\x00" b"\x06\x20" + chain(KEY, b"\0\0" + b"\xaa" * 32 + b"\xbb" * 32, b"x=y"),
    ),
    "longest length of one byte": (
        b"i", ["c" * 127],
        b"\x02" b"\x01\x04l402" b"\x02\x01i" b"\x00"
        b"\x02\x7f" + b"c" * 127 + b"\x00"
        b"\x00" b"\x06\x20" + chain(KEY, b"i", b"c" * 127),
    ),
    "shortest length of two bytes": (
        b"i", ["c" * 128, "d" * 300],
        b"\x02" b"\x01\x04l402" b"\x02\x01i" b"\x00"
        b"\x02\x80\x01" + b"c" * 128 + b"\x00"
        b"\x02\xac\x02" + b"d" * 300 + b"\x00"
        b"\x00" b"\x06\x20" + chain(KEY, b"i", b"c" * 128, b"d" * 300),
    ),
    "beyond ASCII": (
        b"\xff", ["é=ü"],
        b"\x02" b"\x01\x04l402" b"\x02\x01\xff" b"\x00"
        b"\x02\x05\xc3\xa9=\xc3\xbc" b"\x00"
        b"\x00" b"\x06\x20" + chain(KEY, b"\xff", b"\xc3\xa9=\xc3\xbc"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("identifier", "caveats", "raw"), VECTORS.values(), ids=VECTORS)
def test_mints_to_the_byte(identifier, caveats, raw):
    """A macaroon is minted byte for byte as laid out by hand."""
    assert mint(KEY, identifier, caveats) == raw


@pytest.mark.parametrize(("identifier", "caveats", "raw"), VECTORS.values(), ids=VECTORS)
def test_parses_and_checks_the_vectors(identifier, caveats, raw):
    """The bytes laid out by hand are understood, and signed by their key alone."""
    parsed = parse(raw)
    assert parsed == Macaroon(identifier, tuple(caveats), raw[-32:])
    assert parsed.signed_by(KEY)
    assert not parsed.signed_by(KEY[::-1])
    assert not parsed.signed_by(b"")


def test_signature_is_known():
    """The chain of a fixed macaroon ends in a signature that is written down here."""
    identifier = b"we used our secret key"
    key = b"this is our super secret key; only we should know it"
    # The worked example of libmacaroons' README.
    known = "e3d9e02908526c4c0039ae15114115d97fdd68bf2ba379b342aaf0f617d0552f"
    assert parse(mint(key, identifier, [])).signature.hex() == known


HEAD = b"\x02\x01\x04l402\x02\x01i\x00"
VALID = HEAD + b"\x02\x03a=1\x00\x00" + SIGNATURE

NOT_OURS = {
    "nothing": b"",
    "version 1": BinarySerializer().serialize_raw(
        Oracle(location="l402", identifier="i", key=KEY, version=MACAROON_V1)
    ),
    "version byte 1": b"\x01" + VALID[1:],
    "version byte 3": b"\x03" + VALID[1:],
    "JSON": b'{"v":2,"i":"i","s":""}',
    "zeros": bytes(80),
    "one trailing byte": VALID + b"\0",
    "itself twice": VALID * 2,
    "text behind": VALID + b"junk",
    "leading byte": b"\0" + VALID,
    "no identifier": b"\x02\x01\x04l402\x00\x00" + SIGNATURE,
    "two identifiers": b"\x02\x02\x01i\x02\x01i\x00\x00" + SIGNATURE,
    "location behind identifier": b"\x02\x02\x01i\x01\x04l402\x00\x00" + SIGNATURE,
    "two locations": b"\x02\x01\x01a\x01\x01b\x02\x01i\x00\x00" + SIGNATURE,
    "unknown field": b"\x02\x02\x01i\x03\x01x\x00\x00" + SIGNATURE,
    "third-party caveat": HEAD + b"\x01\x01t\x02\x01c\x04\x01v\x00\x00" + SIGNATURE,
    "third-party caveat without location": HEAD + b"\x02\x01c\x04\x01v\x00\x00" + SIGNATURE,
    "caveat with a location": HEAD + b"\x01\x01t\x02\x01c\x00\x00" + SIGNATURE,
    "caveat without identifier": HEAD + b"\x04\x01v\x00\x00" + SIGNATURE,
    "caveat not UTF-8": HEAD + b"\x02\x03a=\xff\x00\x00" + SIGNATURE,
    "caveat with a surrogate": HEAD + b"\x02\x03\xed\xa0\x80\x00\x00" + SIGNATURE,
    "caveat with overlong UTF-8": HEAD + b"\x02\x02\xc0\x80\x00\x00" + SIGNATURE,
    "length in two bytes for no need": b"\x02\x02\x81\x00i\x00\x00" + SIGNATURE,
    "length of zero in two bytes": HEAD + b"\x02\x80\x00\x00\x00" + SIGNATURE,
    "length in three bytes": HEAD + b"\x02\x81\x80\x01\x00\x00" + SIGNATURE,
    "length without end": HEAD + b"\x02" + b"\xff" * 12,
    "type in two bytes": b"\x02\x82\x00\x01i\x00\x00" + SIGNATURE,
    "signature of 31 bytes": HEAD + b"\x00\x06\x1f" + bytes(31),
    "signature of 33 bytes": HEAD + b"\x00\x06\x21" + bytes(33),
    "empty signature": HEAD + b"\x00\x06\x00",
    "two signatures": HEAD + b"\x00" + SIGNATURE * 2,
    "signature closed like a section": HEAD + b"\x00" + SIGNATURE + b"\0",
}


@pytest.mark.parametrize("raw", NOT_OURS.values(), ids=NOT_OURS)
def test_is_strict(raw):
    """Bytes that are no macaroon of our form are invalid: a fresh challenge helps."""
    with pytest.raises(Invalid):
        parse(raw)


def test_every_cut_is_invalid():
    """A macaroon cut short anywhere is invalid, one with the most caveats too."""
    for whole in (VALID, mint(KEY, b"i", ["c=1"] * MAX_CAVEATS)):
        parse(whole)
        for end in range(len(whole)):
            with pytest.raises(Invalid):
                parse(whole[:end])


def test_takes_what_other_libraries_write():
    """Empty caveats, an empty or missing location and an empty identifier are in the format."""
    assert parse(HEAD + b"\x02\x00\x00\x00" + SIGNATURE).caveats == ("",)
    assert parse(b"\x02\x01\x00\x02\x01i\x00\x00" + SIGNATURE).identifier == b"i"
    assert parse(b"\x02\x02\x01i\x00\x00" + SIGNATURE).identifier == b"i"
    assert parse(b"\x02\x02\x00\x00\x00" + SIGNATURE).identifier == b""


def test_bounds_the_caveats():
    """The most caveats are accepted; one more is malformed."""
    assert len(parse(mint(KEY, b"i", ["c"] * MAX_CAVEATS)).caveats) == MAX_CAVEATS
    with pytest.raises(Malformed, match="32 caveats"):
        parse(mint(KEY, b"i", ["c"] * (MAX_CAVEATS + 1)))


def test_bounds_the_size():
    """The greatest size is accepted; one byte more is malformed, whatever the bytes are."""
    overhead = len(mint(KEY, b"i", ["c" * 8000])) - 8000
    fits = mint(KEY, b"i", ["c" * (MAX_BYTES - overhead)])
    assert len(fits) == MAX_BYTES
    assert parse(fits).signed_by(KEY)
    for beyond in (mint(KEY, b"i", ["c" * (MAX_BYTES - overhead + 1)]), bytes(MAX_BYTES + 1)):
        with pytest.raises(Malformed, match=re.escape(str(MAX_BYTES))):
            parse(beyond)


IDENTIFIERS = st.binary(min_size=1, max_size=200)
# pymacaroons hands caveats that it cannot read as text to its predicates as bytes, so text it is.
CAVEATS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=150),
    max_size=12,
)
KEYS = st.binary(min_size=1, max_size=64)


def oracle_reads(raw):
    """What pymacaroons makes of `raw`, or None; it raises whatever it stumbles over."""
    try:
        return BinarySerializer().deserialize_raw(raw)
    except Exception:
        return None


def oracle_verifies(macaroon, key):
    try:
        verifier = Verifier()
        verifier.satisfy_general(lambda _predicate: True)
        return verifier.verify(macaroon, key)
    except Exception:
        return False


@settings(max_examples=1000, deadline=None)
@given(KEYS, IDENTIFIERS, CAVEATS)
def test_pymacaroons_verifies_ours(key, identifier, caveats):
    """What we mint, pymacaroons reads, field by field, and verifies with the key."""
    raw = mint(key, identifier, caveats)
    theirs = oracle_reads(raw)
    assert theirs.identifier_bytes == identifier
    assert [c.caveat_id_bytes.decode() for c in theirs.caveats] == caveats
    assert oracle_verifies(theirs, key)
    assert not oracle_verifies(theirs, key + b"x")


@settings(max_examples=1000, deadline=None)
@given(KEYS, IDENTIFIERS, CAVEATS, st.text(st.characters(codec="ascii"), max_size=20))
def test_we_verify_pymacaroons(key, identifier, caveats, location):
    """What pymacaroons mints, anywhere, we read and find signed by its key and no other."""
    theirs = Oracle(location=location, identifier=identifier, key=key, version=MACAROON_V2)
    for caveat in caveats:
        theirs.add_first_party_caveat(caveat)
    ours = parse(BinarySerializer().serialize_raw(theirs))
    assert (ours.identifier, list(ours.caveats)) == (identifier, caveats)
    assert ours.signature.hex() == theirs.signature
    assert ours.signed_by(key)
    assert not ours.signed_by(key + b"x")


MUTATIONS = st.lists(
    st.tuples(st.sampled_from(["set", "insert", "delete"]), st.integers(0), st.integers(0, 255)),
    min_size=1,
    max_size=3,
)


def mutate(raw, mutations):
    mutated = bytearray(raw)
    for how, where, byte in mutations:
        at = where % len(mutated)
        if how == "set":
            mutated[at] = byte
        elif how == "insert":
            mutated.insert(at, byte)
        else:
            del mutated[at]
    return bytes(mutated)


@settings(max_examples=3000, deadline=None)
@given(st.lists(st.text("ab=é", min_size=1, max_size=5), max_size=4), MUTATIONS)
def test_agrees_with_pymacaroons_on_mutants(caveats, mutations):
    """Whatever we read of a mutated macaroon, pymacaroons reads alike; a changed one fails."""
    original = mint(KEY, b"\xff identifier", caveats)
    mutated = mutate(original, mutations)
    try:
        ours = parse(mutated)
    except Invalid:
        return
    theirs = oracle_reads(mutated)
    if theirs is None:  # only for a location that is no text, of which we take no notice
        with pytest.raises(UnicodeDecodeError):
            mutated[3 : 3 + mutated[2]].decode()
        return
    assert theirs.identifier_bytes == ours.identifier
    assert [c.caveat_id_bytes.decode() for c in theirs.caveats] == list(ours.caveats)
    assert theirs.signature == ours.signature.hex()
    assert ours.signed_by(KEY) == oracle_verifies(theirs, KEY)
    unchanged = parse(original) == ours  # the location is not signed
    assert ours.signed_by(KEY) == unchanged


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: HEAD + tail))
def test_is_total(raw):
    """Any bytes are a macaroon or invalid, and what is read holds nothing beyond them."""
    try:
        parsed = parse(raw)
    except Invalid:
        return
    assert raw.endswith(parsed.signature)

"""Tokens: what we signed opens, what a holder adds narrows, everything else is refused."""

from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l402.errors import Invalid, Malformed
from l402.protocol import macaroon
from l402.protocol.authorization import Credential
from l402.protocol.keys import KeyRing, hmac_sha256
from l402.protocol.token import PASS, Grant, Token, mint, verify

KEYS = KeyRing([b"k" * 32])
PREIMAGE = b"\x07" * 32
HASH = sha256(PREIMAGE).digest()
TOKEN_ID = bytes(range(32))
LABEL = "token pass 0"
GRANT = Grant(
    service="weather",
    kind=PASS,
    msat=10_000,
    network="simulated",
    issued_at=1_800_000_000,
    starts_at=1_800_000_600,
    ends_at=1_800_004_200,
    valid_until=1_800_004_200,
    method="GET",
    endpoint="quote",
    ledger="0123456789abcdef0123456789abcdef",
    price=9_999,
    rate="USD 97000.5",
)
#: Written out: what stands in tokens that were sold must not change.
CAVEATS = [
    "services=weather:0",
    "kind=pass",
    "paid_msat=10000",
    "network=simulated",
    "issued_at=1800000000",
    "starts_at=1800000600",
    "ends_at=1800004200",
    "weather_valid_until=1800004200",
    "method=GET",
    "endpoint=quote",
    "ledger=0123456789abcdef0123456789abcdef",
    "price_msat=9999",
    "rate=USD 97000.5",
]
IDENTIFIER = b"\0\0" + HASH + TOKEN_ID


def forge(caveats, *, identifier=IDENTIFIER, keys=KEYS, label=LABEL):
    """A credential over any caveats, signed with the right root key."""
    raw = macaroon.mint(keys.derive(label, identifier[34:]), identifier, caveats)
    return Credential(raw, PREIMAGE)


def append(credential, *caveats):
    """What a holder, who knows no key, makes of a credential: the chain goes on at its end."""
    held = macaroon.parse(credential.macaroon)
    body, signature = credential.macaroon[:-35], held.signature  # 00 06 20 signature
    for caveat in caveats:
        text = caveat.encode()
        assert len(text) < 128
        body += b"\x02" + bytes([len(text)]) + text + b"\0"
        signature = hmac_sha256(signature, text)
    return Credential(body + b"\0\x06\x20" + signature, credential.preimage)


SOLD = Credential(mint(KEYS, HASH, TOKEN_ID, GRANT), PREIMAGE)


def test_round_trip():
    """A token that was sold shows what was signed, no limit, and that the newest key signed."""
    assert verify(KEYS, SOLD) == Token(HASH, TOKEN_ID, GRANT, limits=(), signed_by=0)


def test_signs_what_is_written_here():
    """Identifier, caveats and their order are the token's format."""
    parsed = macaroon.parse(SOLD.macaroon)
    assert parsed.identifier == IDENTIFIER
    assert len(parsed.identifier) == 66
    assert list(parsed.caveats) == CAVEATS
    assert forge(CAVEATS) == SOLD


@pytest.mark.parametrize("preimage", [b"\x08" * 32, HASH, bytes(32)])
def test_another_preimage(preimage):
    """Only the preimage of the token's own payment hash proves the payment."""
    with pytest.raises(Invalid):
        verify(KEYS, Credential(SOLD.macaroon, preimage))


def test_another_key():
    """A token of another server's secret is none of ours."""
    with pytest.raises(Invalid):
        verify(KeyRing([b"x" * 32]), SOLD)


@pytest.mark.parametrize("position", range(3))
def test_rotated_key(position):
    """A key that moved back in the ring still verifies, and the token tells where it stands."""
    ring = [b"a" * 32, b"b" * 32]
    ring.insert(position, b"k" * 32)
    token = verify(KeyRing(ring), SOLD)
    assert token.signed_by == position
    assert token.grant == GRANT


def test_newest_key_signs():
    """A ring mints with its first key."""
    raw = mint(KeyRing([b"new" * 11, b"k" * 32]), HASH, TOKEN_ID, GRANT)
    assert verify(KeyRing([b"new" * 11]), Credential(raw, PREIMAGE)).signed_by == 0
    with pytest.raises(Invalid):
        verify(KEYS, Credential(raw, PREIMAGE))


def test_removed_key():
    """Once its key has left the ring a token is refused."""
    assert verify(KeyRing([b"a" * 32, b"k" * 32]), SOLD)
    with pytest.raises(Invalid):
        verify(KeyRing([b"a" * 32]), SOLD)


@pytest.mark.parametrize("label", ["token credit 0", "token pass 1", "handle", "simulated node"])
def test_another_label(label):
    """A key derived for another purpose signs no pass."""
    with pytest.raises(Invalid):
        verify(KEYS, forge(CAVEATS, label=label))


@pytest.mark.parametrize(
    "identifier",
    [
        b"",
        b"\0\1" + IDENTIFIER[2:],
        b"\1\0" + IDENTIFIER[2:],
        IDENTIFIER[:-1],
        IDENTIFIER + b"\0",
        HASH + TOKEN_ID,
    ],
)
def test_another_identifier(identifier):
    """An identifier of another version or length is not ours, whoever signed it."""
    with pytest.raises(Invalid):
        verify(KEYS, forge(CAVEATS, identifier=identifier))


@pytest.mark.parametrize("missing", range(len(CAVEATS)))
def test_a_missing_caveat_refuses(missing):
    """Without one of our caveats a token opens nothing, though the right key signed it."""
    caveats = CAVEATS[:missing] + CAVEATS[missing + 1 :]
    for tail in ([], ["unknown=1"], [CAVEATS[missing]]):
        if caveats + tail == CAVEATS:
            continue
        with pytest.raises(Invalid):
            verify(KEYS, forge(caveats + tail))


@pytest.mark.parametrize("position", range(len(CAVEATS) - 1))
def test_an_order_of_its_own_refuses(position):
    """Our caveats stand at fixed positions."""
    caveats = CAVEATS.copy()
    caveats[position : position + 2] = reversed(caveats[position : position + 2])
    with pytest.raises(Invalid):
        verify(KEYS, forge(caveats))


@pytest.mark.parametrize("position", range(len(CAVEATS)))
def test_a_doubled_caveat_refuses(position):
    """A caveat of ours stands once; its repetition among ours shifts the rest."""
    caveats = CAVEATS.copy()
    caveats.insert(position, CAVEATS[position])
    if position == len(CAVEATS) - 1:  # the second one then is a limit
        assert verify(KEYS, forge(caveats)).limits == (("rate", GRANT.rate),)
        return
    with pytest.raises(Invalid):
        verify(KEYS, forge(caveats))


def test_no_caveats():
    """A token without any caveat opens nothing; it is not an unrestricted one."""
    with pytest.raises(Invalid):
        verify(KEYS, forge([]))


@pytest.mark.parametrize(
    ("position", "caveat"),
    [
        (0, "services=weather"),
        (0, "services=weather:1"),
        (0, "services=weather:0:0"),
        (0, "services=weather:0,other:0"),
        (0, "service=weather:0"),
        (0, "services"),
        (1, "kind=credit"),
        (1, "kind="),
        (1, "kind"),
        (1, "kind=Pass"),
        (2, "paid_msat="),
        (2, "paid_msat"),
        (2, "paid_msat=010000"),
        (2, "paid_msat=+10000"),
        (2, "paid_msat= 10000"),
        (2, "paid_msat=10000 "),
        (2, "paid_msat=10_000"),
        (2, "paid_msat=1e4"),
        (2, "paid_msat=10000.0"),
        (2, "paid_msat=\u0661\u0660\u0660\u0660\u0660"),
        (2, "paid_msat=0x2710"),
        (2, "paid_msat=-0"),
        (2, "paid_msat=" + "9" * 5000),
        (2, "paid_msat =10000"),
        (4, "issued_at=01800000000"),
        (5, "starts_at=soon"),
        (6, "ends_at=\uff11"),
        (7, "weather_valid_until=inf"),
        (7, "other_valid_until=1800004200"),
        (7, "_valid_until=1800004200"),
        (8, "Method=GET"),
        (9, " endpoint=quote"),
        (11, "price_msat=09999"),
        (11, "price_msat="),
    ],
)
def test_a_value_that_we_never_write_refuses(position, caveat):
    """Signed caveats are read in the one spelling that we write."""
    caveats = CAVEATS.copy()
    caveats[position] = caveat
    with pytest.raises(Invalid):
        verify(KEYS, forge(caveats))


def test_every_limit_is_collected():
    """A caveat of ours that a holder repeats is a limit, and the grant stays as signed."""
    appended = [
        "services=other:0",
        "kind=credit",
        "paid_msat=1",
        "network=mainnet",
        "issued_at=1",
        "starts_at=2",
        "ends_at=3",
        "weather_valid_until=4",
        "method=POST",
        "endpoint=fact",
        "ledger=another",
        "price_msat=5",
        "rate=another",
        "rate=a third",
    ]
    token = verify(KEYS, append(SOLD, *appended))
    values = [caveat.partition("=")[2] for caveat in appended]
    assert token.limits == tuple(zip((*Grant._fields, "rate"), values, strict=True))
    assert token.grant == GRANT
    assert (token.payment_hash, token.token_id) == (HASH, TOKEN_ID)


def test_unknown_caveats_are_skipped():
    """Caveats of which we know nothing are no limits of ours."""
    held = append(SOLD, "weather_capabilities=read", "no equals", "", "=")
    assert verify(KEYS, held) == verify(KEYS, SOLD)


def test_ends_for_other_services_are_limits():
    """A token is a key to more than its own service, and may be narrowed for each."""
    assert verify(KEYS, append(SOLD, "other_valid_until=1")).limits == (("other_valid_until", "1"),)


def test_limits_may_be_written_with_blanks():
    """A limit is not lost for blanks round its sign: it narrows all the same."""
    held = append(SOLD, " paid_msat = 5 ", "ends_at =7")
    assert verify(KEYS, held).limits == (("msat", "5"), ("ends_at", "7"))


@pytest.mark.parametrize("text", [PREIMAGE.hex(), PREIMAGE.hex().upper()])
def test_the_same_preimage_appended(text):
    """A preimage that a holder noted in the token is the one presented: nothing changes."""
    assert verify(KEYS, append(SOLD, f"preimage={text}")) == verify(KEYS, SOLD)


@pytest.mark.parametrize(
    "caveats",
    [
        ["preimage=" + "08" * 32],
        ["preimage="],
        ["preimage"],
        ["preimage=" + PREIMAGE.hex()[:-2]],
        ["preimage=" + PREIMAGE.hex(), "preimage=" + "08" * 32],
        ["preimage=" + "08" * 32, "preimage=" + PREIMAGE.hex()],
    ],
)
def test_another_preimage_appended(caveats):
    """A token that was narrowed to another preimage is refused."""
    with pytest.raises(Invalid):
        verify(KEYS, append(SOLD, *caveats))


def test_a_limit_cannot_be_taken_off():
    """Without the last link's predecessor nobody takes an appended caveat away again."""
    held = append(SOLD, "ends_at=1")
    stripped = SOLD.macaroon[:-32] + macaroon.parse(held.macaroon).signature
    with pytest.raises(Invalid):
        verify(KEYS, Credential(stripped, PREIMAGE))


def test_too_many_caveats():
    """A holder fills a token up to 32 caveats; beyond that it is malformed."""
    room = macaroon.MAX_CAVEATS - len(CAVEATS)
    assert verify(KEYS, append(SOLD, *["x=1"] * room))
    with pytest.raises(Malformed):
        verify(KEYS, append(SOLD, *["x=1"] * (room + 1)))


@pytest.mark.parametrize("position", range(len(SOLD.macaroon)))
def test_every_byte_counts(position):
    """A change of any byte, but those of the location, which is not signed, is refused."""
    changed = bytearray(SOLD.macaroon)
    changed[position] ^= 1
    credential = Credential(bytes(changed), PREIMAGE)
    if 3 <= position < 3 + len(macaroon.LOCATION):
        assert verify(KEYS, credential) == verify(KEYS, SOLD)
        return
    with pytest.raises(Invalid):
        verify(KEYS, credential)


SERVICES = st.text("abcXYZ019.-", min_size=1, max_size=32)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
MOMENTS = st.integers(0, 2**40)
GRANTS = st.builds(
    Grant, SERVICES, st.just(PASS), st.integers(0, 10**15), NAMES,
    MOMENTS, MOMENTS, MOMENTS, MOMENTS, NAMES, NAMES, NAMES, st.integers(0, 10**15), NAMES,
)  # fmt: skip


@settings(deadline=None)
@given(GRANTS, st.binary(min_size=32, max_size=32), st.lists(NAMES.map("x".__add__), max_size=5))
def test_any_grant_comes_back(grant, token_id, appended):
    """Any grant is read back as it was signed, whatever unknown caveats follow."""
    held = Credential(mint(KEYS, HASH, token_id, grant), PREIMAGE)
    short = [caveat[:20] for caveat in appended]
    assert verify(KEYS, append(held, *short)) == Token(HASH, token_id, grant)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*CAVEATS, "x=1", "ends_at=1"]) | NAMES, max_size=16))
def test_no_other_caveats_are_a_token(caveats):
    """Only the closed set in its order makes a token, whatever the right key signs."""
    if caveats[: len(CAVEATS)] == CAVEATS:
        return
    with pytest.raises(Invalid):
        verify(KEYS, forge(caveats))


def test_size():
    """The largest token that we sell stays under 6 KB of base64: a header carries it twice."""
    grant = GRANT._replace(
        service="s" * 32,
        network="simulated",
        msat=21 * 10**17,
        method="OPTIONS",
        endpoint="blueprint." * 10 + "view",
    )
    assert len(b64encode(mint(KEYS, HASH, TOKEN_ID, grant))) < 6000


def test_shows_no_secret():
    """A token does not print its id or hash."""
    assert TOKEN_ID.hex() not in repr(verify(KEYS, SOLD))
    assert repr(TOKEN_ID) not in repr(verify(KEYS, SOLD))

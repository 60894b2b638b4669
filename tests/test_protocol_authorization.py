"""The Authorization header, in every form that clients send and in forms that none should."""

from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l402.errors import Malformed
from l402.protocol.authorization import MAX_CREDENTIALS, MAX_HEADER, Credential, parse
from l402.protocol.macaroon import MAX_BYTES

RAW = b"\xfb\xef\xbe\xff\x01"  # +, / and padding stand in its base64
STANDARD = b64encode(RAW).decode()
URL_SAFE = urlsafe_b64encode(RAW).decode()
PREIMAGE = bytes(range(160, 192))
HEX = PREIMAGE.hex()
GOOD = Credential(RAW, PREIMAGE)
OTHER = Credential(b"other!", b"\x07" * 32)
OTHER_TEXT = f"{b64encode(OTHER.macaroon).decode()}:{OTHER.preimage.hex()}"

ACCEPTED = {
    "as specified": f"L402 {STANDARD}:{HEX}",
    "scheme in lower case": f"l402 {STANDARD}:{HEX}",
    "older scheme": f"LSAT {STANDARD}:{HEX}",
    "older scheme in mixed case": f"lSaT {STANDARD}:{HEX}",
    "scheme doubled": f"L402 L402 {STANDARD}:{HEX}",
    "older scheme behind the newer": f"L402 LSAT {STANDARD}:{HEX}",
    "base64 unpadded": f"L402 {STANDARD.rstrip('=')}:{HEX}",
    "URL-safe base64": f"L402 {URL_SAFE}:{HEX}",
    "URL-safe base64 unpadded": f"L402 {URL_SAFE.rstrip('=')}:{HEX}",
    "hex in upper case": f"L402 {STANDARD}:{HEX.upper()}",
    "hex in mixed case": f"L402 {STANDARD}:{HEX[:32].upper()}{HEX[32:]}",
    "spaces and tabs around": f" \tL402 \t {STANDARD}:{HEX} \t",
    "two lines joined without a space": f"LSAT {STANDARD}:{HEX},L402 {STANDARD}:{HEX}",
    "two lines joined with a space": f"LSAT {STANDARD}:{HEX}, L402 {STANDARD}:{HEX}",
    "one credential in several spellings": f"L402 {STANDARD}:{HEX},L402 {URL_SAFE}:{HEX.upper()}",
    "another scheme before": f"Bearer abc, L402 {STANDARD}:{HEX}",
    "another scheme behind": f"L402 {STANDARD}:{HEX}, Basic YTpi",
    "a malformed one before": f"L402 x:y, L402 {STANDARD}:{HEX}",
    "a malformed one behind": f"L402 {STANDARD}:{HEX}, LSAT",
    "an empty part": f",L402 {STANDARD}:{HEX},,",
}

OTHER_SCHEMES = {
    "nothing": "",
    "blanks": " \t",
    "commas": ",,,",
    "Bearer": "Bearer abc",
    "Basic": "Basic YTpi",
    "a scheme that begins like ours": f"L4020 {STANDARD}:{HEX}",
    "our scheme behind another": f"Bearer L402 {STANDARD}:{HEX}",
    "no blank behind the scheme": f"L402{STANDARD}:{HEX}",
    "no scheme": f"{STANDARD}:{HEX}",
    "letters that fold to ours": f"L\u017fAT {STANDARD}:{HEX}",
}

REFUSED = {
    "scheme alone": "L402",
    "scheme doubled alone": "L402 LSAT ",
    "scheme trebled": f"L402 L402 L402 {STANDARD}:{HEX}",
    "no colon": f"L402 {STANDARD}",
    "no macaroon": f"L402 :{HEX}",
    "no preimage": f"L402 {STANDARD}:",
    "63 digits": f"L402 {STANDARD}:{HEX[1:]}",
    "65 digits": f"L402 {STANDARD}:{HEX}0",
    "66 digits": f"L402 {STANDARD}:{HEX}00",
    "no hex": f"L402 {STANDARD}:{HEX[:-1]}g",
    "digits of another script": f"L402 {STANDARD}:{HEX[:-1]}\u0661",
    "preimage in base64": f"L402 {STANDARD}:{b64encode(PREIMAGE).decode()}",
    "both alphabets at once": f"L402 +_{STANDARD}:{HEX}",
    "no base64": f"L402 ab!d:{HEX}",
    "five letters of base64": f"L402 AAAAA:{HEX}",
    "bits left over": f"L402 AB==:{HEX}",
    "padding within": f"L402 AA==AAAA:{HEX}",
    "padding alone": f"L402 ==:{HEX}",
    "three letters of padding": f"L402 AAAA===:{HEX}",
    "macaroon in hex behind a prefix": f"L402 0x{RAW.hex()}:{HEX}:",
    "blank at the colon": f"L402 {STANDARD}: {HEX}",
    "line end behind": f"L402 {STANDARD}:{HEX}\n",
    "quoted": f'L402 "{STANDARD}:{HEX}"',
    "as parameters": f'L402 macaroon="{STANDARD}" preimage="{HEX}"',
    "several, none of them good": f"L402 x:y, LSAT {STANDARD}:{HEX[1:]}",
    "macaroon over the limit": f"L402 {b64encode(bytes(MAX_BYTES + 1)).decode()}:{HEX}",
    "header over the limit": " " * MAX_HEADER + f"L402 {STANDARD}:{HEX}",
    "other schemes over the limit": "B" * (MAX_HEADER + 1),
    "five credentials": ",".join([f"L402 {STANDARD}:{HEX}"] * (MAX_CREDENTIALS + 1)),
}


@pytest.mark.parametrize("header", ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(header):
    """Every spelling of a client gives the one credential it means."""
    assert parse(header) == [GOOD]


@pytest.mark.parametrize("header", OTHER_SCHEMES.values(), ids=OTHER_SCHEMES)
def test_leaves_other_schemes_alone(header):
    """A header that does not speak of L402 shows no credential, and is no fault."""
    assert parse(header) == []


@pytest.mark.parametrize("header", REFUSED.values(), ids=REFUSED)
def test_refuses(header):
    """A credential that paying again could not mend is malformed."""
    with pytest.raises(Malformed) as caught:
        parse(header)
    assert HEX[:16] not in str(caught.value)
    assert STANDARD not in str(caught.value)


def test_accepts_what_just_fits():
    """A macaroon of the greatest size is decoded; its content is for others to judge."""
    raw = bytes(MAX_BYTES)
    assert parse(f"L402 {b64encode(raw).decode()}:{HEX}") == [Credential(raw, PREIMAGE)]


def test_keeps_several_apart_and_in_order():
    """Each macaroon stays with the preimage it was shown with."""
    assert parse(f"LSAT {STANDARD}:{HEX},L402 {OTHER_TEXT}") == [GOOD, OTHER]
    assert parse(f"LSAT {OTHER_TEXT}, L402 {STANDARD}:{HEX}") == [OTHER, GOOD]


def test_counts_up_to_four():
    """Four different credentials are the most that one request shows."""
    shown = [Credential(bytes([n]), PREIMAGE) for n in range(MAX_CREDENTIALS)]
    assert parse(",".join(f"L402 {b64encode(c.macaroon).decode()}:{HEX}" for c in shown)) == shown


def test_shows_no_secret():
    """A credential does not print what it holds."""
    assert HEX not in repr(GOOD)
    assert repr(PREIMAGE) not in repr(GOOD)


PIECES = st.sampled_from(
    ["L402", "LSAT", "l402", " ", "\t", ",", ":", "=", "==", STANDARD, URL_SAFE, HEX, OTHER_TEXT]
)


@given(st.text() | st.lists(PIECES | st.text(max_size=3), max_size=24).map("".join))
def test_is_total(header):
    """Any text is a list of at most four credentials, or malformed."""
    try:
        found = parse(header)
    except Malformed:
        return
    assert len(found) <= MAX_CREDENTIALS
    assert len(set(found)) == len(found)
    assert all(len(c.preimage) == 32 and 0 < len(c.macaroon) <= MAX_BYTES for c in found)


@given(st.binary(min_size=1, max_size=400), st.binary(min_size=32, max_size=32))
def test_reads_back_either_alphabet(raw, preimage):
    """What is encoded in either alphabet, padded or not, is read back."""
    for text in (b64encode(raw).decode(), urlsafe_b64encode(raw).decode()):
        for spelling in (text, text.rstrip("=")):
            assert parse(f"L402 {spelling}:{preimage.hex()}") == [Credential(raw, preimage)]

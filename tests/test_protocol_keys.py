"""The key ring: one secret, a key per purpose, and handles that lead back to a sale."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l402.protocol.keys import KeyRing

NEW, OLD = b"n" * 32, b"o" * 40
TOKEN_ID = bytes(range(32))


def hkdf(secret, info):
    """RFC 5869 with SHA-256, its salt ours and its output one block."""
    pseudorandom_key = hmac.new(b"Flask-L402", secret, hashlib.sha256).digest()
    return hmac.new(pseudorandom_key, info + b"\x01", hashlib.sha256).digest()


@pytest.mark.parametrize("secrets", [[], [b""], [b"x" * 31], [NEW, b"short"]])
def test_refuses_short_secrets(secrets):
    """A ring wants at least one secret, and 32 bytes of each; the fault shows none."""
    with pytest.raises(ValueError, match="at least 32 bytes"):
        KeyRing(secrets)


def test_derives_by_rfc_5869():
    """A key is HKDF-SHA256 of the newest secret over label and context."""
    ring = KeyRing([NEW, OLD])
    assert ring.derive("label", b"context") == hkdf(NEW, b"label\0context")
    assert ring.derive_all("label", b"context") == [
        hkdf(NEW, b"label\0context"),
        hkdf(OLD, b"label\0context"),
    ]


def test_knows_its_derivation_by_heart():
    """A fixed secret gives a fixed key: a release that changes it would void paid tokens."""
    known = "165f0c62debbbc336a716ba475e5cc94b3926ec84d7331233a823eaf31bfaf55"
    assert KeyRing([NEW]).derive("token pass 0", TOKEN_ID).hex() == known


def test_purposes_never_share_a_key():
    """Another label, context or secret gives another key, also where their texts join alike."""
    ring = KeyRing([NEW])
    keys = {
        ring.derive("a"),
        ring.derive("ab"),
        ring.derive("a", b"b"),
        ring.derive("a", b"\0b"),
        KeyRing([OLD]).derive("a"),
    }
    assert len(keys) == 5


def test_handle_leads_back():
    """A handle names the first half of the token id, to its own ring and to a rotated one."""
    handle = KeyRing([OLD]).handle(TOKEN_ID)
    assert handle.startswith("l402:0001020304050607:")
    assert len(handle) == len("l402:") + 16 + 1 + 8
    assert KeyRing([OLD]).recognise(handle) == "0001020304050607"
    assert KeyRing([NEW, OLD]).recognise(handle) == "0001020304050607"
    assert KeyRing([NEW]).recognise(handle) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda h: h[:-1],
        lambda h: h + "0",
        lambda h: h.upper(),
        lambda h: " " + h,
        lambda h: "l402:" + h,
        lambda h: h[5:],
        lambda h: h[:-1] + ("0" if h[-1] != "0" else "1"),
        lambda h: h[:-1] + "\u0661",
        lambda h: h[:-1] + "\udcff",
        lambda h: h[:7] + " " + h[7:],
        lambda h: "",
        lambda h: "l402:",
    ],
)
def test_recognises_handles_to_the_letter(spoil):
    """A handle with anything changed is none, whatever the text is made of."""
    ring = KeyRing([NEW])
    assert ring.recognise(spoil(ring.handle(TOKEN_ID))) is None


@given(st.text(st.characters()) | st.text("l402:0aF\udcff ").map(lambda text: "l402:" + text))
def test_recognise_is_total(text):
    """No text but a handle of ours is recognised, and none raises."""
    assert KeyRing([NEW]).recognise(text) is None


def test_shows_no_secret():
    """A ring does not print what it holds."""
    assert "nnnn" not in repr(KeyRing([NEW]))

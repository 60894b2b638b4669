"""The challenge, to the byte that deployed clients match."""

import re
from base64 import b64decode

from l402.protocol.challenge import Challenge

TOKEN = b"\x02\xfb\xef\xbe\xff"
TEXT = "Avvvvv8="
INVOICE = "lnbcrt100n1example"
CHALLENGE = Challenge(TOKEN, INVOICE, b"\xab" * 32, 10_000, 10_000)


def test_header_to_the_byte():
    """Macaroon and invoice come first, adjacent and quoted; what the specification adds, behind."""
    assert CHALLENGE.header == (
        f'L402 macaroon="{TEXT}", invoice="{INVOICE}", version="0", token="{TEXT}"'
    )


def test_macaroon_is_padded_standard_base64():
    """The token's text uses + and /, with padding, and gives the bytes back."""
    challenge = Challenge(b"\xfb\xef\xbe\xff", INVOICE, bytes(32), 1000, 1000)
    assert challenge.macaroon == "++++/w=="
    assert b64decode(challenge.macaroon, validate=True) == challenge.token


def test_header_fits_the_clients_pattern():
    """The expression that most clients use finds both values."""
    found = re.match(r'L402 macaroon="([^"]+)", invoice="([^"]+)"', CHALLENGE.header)
    assert found.groups() == (TEXT, INVOICE)


def test_body_names():
    """The body repeats the header for clients that read only it, amounts in whole satoshis."""
    assert CHALLENGE.body == {
        "macaroon": TEXT,
        "token": TEXT,
        "invoice": INVOICE,
        "paymentRequest": INVOICE,
        "amountSats": 10,
        "priceSats": 10,
        "payment_hash": "ab" * 32,
    }


def test_price_is_rounded_up():
    """A price that is no whole satoshi is named as what has to be paid for it."""
    challenge = Challenge(TOKEN, INVOICE, bytes(32), 2000, 1001)
    assert challenge.body["priceSats"] == 2
    assert challenge.body["amountSats"] == 2


def test_body_is_not_mistaken_for_another_product():
    """No body holds the fields by which a client takes the server for something else."""
    assert not {"payment_url", "amount_sats"} & CHALLENGE.body.keys()

"""Secrets that a test looks for where none may be."""

from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote


def forms(secret: bytes | str) -> set[str]:
    """Every way in which a secret may be written down."""
    if isinstance(secret, str):
        return {secret, quote(secret, safe=""), repr(secret)[1:-1]} | forms(secret.encode())
    standard, url_safe = b64encode(secret).decode(), urlsafe_b64encode(secret).decode()
    texts = {secret.hex(), secret.hex().upper(), repr(secret)[2:-1], repr(bytearray(secret))[12:-2]}
    return texts | {standard.rstrip("="), url_safe.rstrip("=")}

"""Checks of what the operator wrote: the keys, the secret and the service."""

import re
from pathlib import Path

from l402.doctor.patient import Patient
from l402.doctor.verdict import Verdict, error, ok, warning

_KEYGEN = "make one with: flask l402 keygen"
#: What stands in examples and in keys that were typed by hand.
_WORDS = re.compile(
    rb"change.?(?:me|it|this)|default|example|insecure|password|placeholder|secret|letmein"
    rb"|qwerty|01234567|12345678|abcdefgh",
    re.IGNORECASE,
)


def settings(patient: Patient) -> Verdict:
    """Read every key of ours again."""
    count = sum(key.startswith("L402_") for key in patient.app.config)
    node = patient.settings.node.partition(":")[0]
    return ok(f"{count} keys are set, and understood; the node is of the kind {node}")


def secret(patient: Patient) -> Verdict:
    """Look for what shows that a secret was not drawn at random."""
    secrets = patient.settings.secrets
    for position, value in enumerate(secrets):
        if fault := weakness(value):
            key = "L402_SECRET_KEY_FALLBACKS" if position else "the secret key"
            fix = f"take it out of {key}" if position else _KEYGEN
            return error(f"{key} {fault}: who guesses it makes tokens that pass for paid", fix)
    older = f", and {len(secrets) - 1} older still accepted" if len(secrets) > 1 else ""
    return ok(f"{len(secrets[0])} bytes{older}")


def weakness(value: bytes) -> str | None:
    """Say why a secret is none that was drawn at random, if that shows."""
    if _WORDS.search(value):
        return "holds a word or a row of digits that guessers try first"
    if b" " in value.strip() and value.isascii() and value.decode().isprintable():
        return "is a phrase"
    if value in (value + value)[1:-1]:
        return "repeats itself"
    return None


def secret_file(patient: Patient) -> Verdict:
    """See that only those who must can read the secret's file."""
    path = patient.app.config.get("L402_SECRET_KEY_PATH")
    if not path:
        return ok("the secret stands in the configuration, not in a file of its own")
    if Path(path).stat().st_mode & 0o004:
        return warning(f"everybody on this machine can read {path}", f"chmod 600 {path}")
    return ok(f"{path} is not for everybody to read")


def service(patient: Patient) -> Verdict:
    """Name what tokens are signed for."""
    if patient.settings.service is None:
        return warning(
            f"L402_SERVICE is not set: tokens are signed for {patient.gate.defaults.service!r}",
            "name what is sold, for example L402_SERVICE=weather",
        )
    return ok(patient.settings.service)

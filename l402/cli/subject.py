"""What a person means by WHAT: a token id, its first digits, a payment hash or a handle."""

import re
from dataclasses import dataclass
from datetime import datetime

from l402.cli.group import Misuse, NotFound
from l402.gate import Gate
from l402.store.credentials import SHORTEST_PREFIX
from l402.store.revocations import Kind
from l402.store.states import CredentialState

_HANDLE = re.compile(r"l402:[0-9a-f]{16}:[0-9a-f]{8}")
_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Subject:
    """What to revoke, as in the revocation table; `issued_before` goes with a service alone."""

    kind: Kind
    name: str
    issued_before: datetime | None = None


def credential(gate: Gate, what: str) -> CredentialState:
    """Return the one credential of the record that `what` means.

    :raises Misuse: it is none of the forms, or means several
    :raises NotFound: the record does not hold it
    """
    token_id = _only(what, _find(gate, _handle(gate, what) or what))
    state = gate.store.credentials.state(bytes.fromhex(token_id))
    if state is None:
        raise NotFound(f"{what} is not in the record")
    return state


def subject(gate: Gate, what: str, kind: Kind | None = None) -> Subject:
    """Return what to revoke; full ids and handles may name what was never presented.

    `kind` tells what 64 digits are that the record does not know.

    :raises Misuse: it is none of the forms, means several, or is not of this kind
    :raises NotFound: it begins no token id of the record, or is no handle of this app's keys
    """
    if len(what) != _DIGITS and kind:
        raise Misuse(f"--token and --payment go with {_DIGITS} hex digits, not with {what!r}")
    if handle := _handle(gate, what):
        return Subject("handle", handle)
    what, found = what.lower(), _find(gate, what)
    if len(what) != _DIGITS:
        return Subject("token", _only(what, found))
    return Subject(_kind(what, found, kind), what)


def _kind(what: str, found: list[str], said: Kind | None) -> Kind:
    """Tell what 64 digits are: the record knows best, else the caller must say it."""
    if found:
        known: Kind = "token" if what in found else "payment"
        if said not in (None, known):
            raise Misuse(f"{what} is a {'token id' if known == 'token' else 'payment hash'}")
        return known
    if said is None:
        raise Misuse(
            f"{what} is not in the record: add --token if it is a token id, --payment if it is a"
            " payment hash, to revoke it before it is presented"
        )
    return said


def _handle(gate: Gate, what: str) -> str | None:
    """The 16 digits of a handle in an invoice's description; None if `what` is no handle."""
    written = _HANDLE.search(what)
    if written is None:
        return None
    digits = gate.keys.recognise(written[0])
    if digits is None:
        raise NotFound(f"{written[0]} is no handle of an invoice of this app")
    return digits


def _find(gate: Gate, what: str) -> list[str]:
    try:
        return gate.store.credentials.find(what)
    except ValueError:
        raise Misuse(
            f"{what!r} is no token id, payment hash or handle; write {_DIGITS} hex digits, the"
            f" first {SHORTEST_PREFIX} or more of a token id, or l402:…:… from an invoice"
        ) from None


def _only(what: str, found: list[str]) -> str:
    if not found:
        raise NotFound(f"{what} is not in the record")
    if len(found) > 1:
        raise Misuse(f"{what} may mean {', '.join(found)}; write more digits")
    return found[0]

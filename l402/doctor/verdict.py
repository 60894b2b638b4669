"""What a check found, and what would mend it."""

import re
from enum import StrEnum
from typing import NamedTuple

from l402.errors import L402Error

#: Where an error of ours goes on to say what to do.
_ADVICE = re.compile(
    "; |: (?=(?:bake|compare|install|name|pip install|renew|run|unlock|use|write) )"
)


class Severity(StrEnum):
    """How much a finding matters: an error stops sales or loses money, a warning may."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Verdict(NamedTuple):
    """What one check found, in one line without a secret.

    `passed` is None where it cannot be told: the check was not done, or what it asks shows in
    requests alone. `fix` says what to do; None if there is nothing to do.
    """

    passed: bool | None
    severity: Severity
    detail: str
    fix: str | None


def ok(detail: str) -> Verdict:
    """Say that it is well."""
    return Verdict(True, Severity.INFO, detail, None)


def unknown(detail: str) -> Verdict:
    """Say that it cannot be told, and why."""
    return Verdict(None, Severity.INFO, detail, None)


def warning(detail: str, fix: str) -> Verdict:
    """Say that it may do harm."""
    return Verdict(False, Severity.WARNING, detail, fix)


def error(detail: str, fix: str) -> Verdict:
    """Say that it stops sales, or loses money."""
    return Verdict(False, Severity.ERROR, detail, fix)


def told(fault: L402Error, fix: str) -> Verdict:
    """Return an error of ours as a verdict: most name their fix, `fix` is for those that do not."""
    text = " ".join(str(fault).split())
    found = _ADVICE.search(text)
    return error(text[: found.start()], text[found.end() :]) if found else error(text, fix)

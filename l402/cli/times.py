"""Moments as they are typed and shown on the command line, in UTC."""

from datetime import UTC, datetime

import click

#: Fewer digits are more likely a date without its dashes than seconds of before 1973.
_UNIX_DIGITS = range(9, 12)


def time(text: str) -> datetime:
    """Read ISO 8601 (UTC if no offset is given, midnight if no time) or unix seconds.

    The type of the options whose value is a TIME; the moment is aware, in UTC.
    """
    try:
        return _parse(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no time; write 2026-01-31, 2026-01-31T12:00:00Z or unix seconds"
        ) from None


def iso(moment: datetime) -> str:
    """Write a moment as ISO 8601 in UTC, whole seconds."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def shown(moment: datetime | None) -> str:
    """Write a moment for people, in UTC; ``-`` if there is none."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if moment else "-"


def now(clock_reading: float) -> datetime:
    """Return what a clock in unix seconds shows, as an aware datetime."""
    return datetime.fromtimestamp(clock_reading, UTC)


def _parse(text: str) -> datetime:
    if text.isascii() and text.isdigit():
        if len(text) not in _UNIX_DIGITS:
            raise ValueError("neither a date nor unix seconds")
        return datetime.fromtimestamp(int(text), UTC)
    moment = datetime.fromisoformat(text)
    if not 1970 <= moment.year < 9999:  # days are added and subtracted later
        raise ValueError("beyond any sale")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)

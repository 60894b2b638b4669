"""Driver errors, told as ours: what a caller may do about one, and never a password."""

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from l402.errors import SchemaOutdated, StoreError, StoreUnavailable
from l402.store.tables import SCHEMA_VERSION
from l402.store.url import shown

_UPGRADE = "run `flask l402 upgrade` with this release"
_MISSING = frozenset({"42P01", "42703", "3F000"})  # undefined table, column, schema
_LOST_A_RACE = frozenset({"40001", "40P01"})  # serialization failure, deadlock
#: A row is gone to which another was to refer: a purge may have taken it.
_GONE = "23503"
#: These may hold when all of it runs again. Postgres checks a changed balance as the statement saw
#: its row at first, before it waits for whoever is changing that row; and a use may be there since
#: an earlier try to make it, whose connection broke, was done all the same.
_MAY_HOLD = frozenset({"ck_l402_credit_balance", "ck_l402_credit_reserved", "pk_l402_use"})
_MISSING_ON_SQLITE = ("no such table", "no such column", "has no column named")


class Interrupted(StoreUnavailable):
    """A transaction lost a race, or its connection broke; running all of it again may mend it.

    `lost`: it was the connection, and the transaction may have been committed all the same.
    `checked`: it failed a check, which may be right.
    """

    def __init__(self, message: str, *, lost: bool = False, checked: bool = False) -> None:
        super().__init__(message)
        self.lost, self.checked = lost, checked


def outdated(url: URL, found: str | None) -> SchemaOutdated:
    """Say what brings tables and release together, `found` being the tables' revision."""
    if found is not None and found > SCHEMA_VERSION:
        return SchemaOutdated(
            f"{shown(url)} is at revision {found}, made by a later release: install that one"
        )
    state = "has no tables of ours yet" if found is None else f"is at revision {found}"
    return SchemaOutdated(f"{shown(url)} {state}: {_UPGRADE}")


def told(error: SQLAlchemyError, url: URL) -> StoreError:
    """Translate what SQLAlchemy raised into an error of this package."""
    message = f"{shown(url)}: {_reason(error, url)}"
    if not isinstance(error, DBAPIError):
        return StoreUnavailable(message)
    state = getattr(error.orig, "sqlstate", None)
    if state in _MISSING or any(text in str(error.orig) for text in _MISSING_ON_SQLITE):
        return SchemaOutdated(f"{message}: {_UPGRADE}")
    checked = state == _GONE or _may_hold(error)
    if error.connection_invalidated or state in _LOST_A_RACE or checked:
        return Interrupted(message, lost=error.connection_invalidated, checked=checked)
    return StoreUnavailable(message)


def _may_hold(error: DBAPIError) -> bool:
    found = getattr(error.orig, "diag", None)  # SQLite's errors have none
    return getattr(found, "constraint_name", None) in _MAY_HOLD


def _reason(error: SQLAlchemyError, url: URL) -> str:
    """Give the driver's own first line, without the statement and without the password."""
    cause = getattr(error, "orig", None) or error
    line = next(iter(str(cause).splitlines()), "") or type(cause).__name__
    return line.replace(str(url.password), "***") if url.password else line

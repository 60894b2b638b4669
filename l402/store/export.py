"""The books as rows, to be written to a file: streamed, in the order of time, from one moment."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, Select, select

from l402.store.engine import Database
from l402.store.ledger import USE
from l402.store.tables import closing, entry, payment

Book = Literal["payments", "usage", "closings"]

_PAYMENTS = select(
    payment.c.presented_at,
    payment.c.payment_hash,
    payment.c.token_id,
    payment.c.service,
    payment.c.kind,
    payment.c.msat,
    payment.c.status,
    payment.c.network,
    payment.c.endpoint,
    payment.c.method,
    payment.c.issued_at,
    payment.c.starts_at,
    payment.c.ends_at,
    payment.c.valid_until,
    payment.c.settled_at,
    payment.c.price_msat,
    payment.c.rate,
).order_by(payment.c.presented_at, payment.c.payment_hash)
_USAGE = (
    select(
        entry.c.at,
        entry.c.entry_id,
        entry.c.token_id,
        entry.c.service,
        entry.c.endpoint,
        entry.c.method,
        entry.c.msat,
        entry.c.balance_after,
    )
    .where(entry.c.kind == USE)
    .order_by(entry.c.at, entry.c.entry_id)
)
_CLOSINGS = select(closing).order_by(*closing.primary_key)
_BOOKS: dict[Book, Select[Any]] = {"payments": _PAYMENTS, "usage": _USAGE, "closings": _CLOSINGS}


def columns(book: Book) -> list[str]:
    """Name the columns of a book; the first one is the moment by which it is ordered."""
    return [column.name for column in _BOOKS[book].selected_columns]


class Export:
    """Reads a book from its first row to its last, however long it is."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def rows(
        self,
        book: Book,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        service: str | None = None,
    ) -> Iterator[Row[Any]]:
        """Give the rows of a book, from `since` (included) to `until` (excluded), of a service.

        Payments go by the moment of their first presentation, usage by that of its charge, closings
        by their day, all of it. A thousand rows at most are in memory at a time.

        :raises StoreError: if they could not be read
        """
        with self.db.snapshot() as connection:
            yield from connection.execute(_chosen(book, since, until, service))


def _chosen(
    book: Book, since: datetime | None, until: datetime | None, service: str | None
) -> Select[Any]:
    chosen = _BOOKS[book]
    at, named = chosen.selected_columns[0], chosen.selected_columns["service"]
    if since is not None:
        chosen = chosen.where(at >= (since.date() if book == "closings" else since))
    if until is not None:
        chosen = chosen.where(at < (until.date() if book == "closings" else until))
    if service is not None:
        chosen = chosen.where(named == service)
    return chosen

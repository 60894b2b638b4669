"""Time as the record keeps it: aware UTC in Python, comparable in SQL on both databases."""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Date, DateTime, ScalarSelect, select
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """A point in time: aware datetimes in and out, in UTC; SQLite keeps it as sortable text."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn any aware datetime into UTC, and refuse a naive one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone: write datetime.now(UTC)")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the moment back with its time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class DatabaseNow(FunctionElement[datetime]):
    """The database's own clock, read when the statement runs, not when its transaction began."""

    type = Moment()
    inherit_cache = True


def database_now() -> ScalarSelect[datetime]:
    """Return the database's clock, read once in a statement: so an index serves for a comparison.

    What is read anew for each row, Postgres would compare with every row.
    """
    return select(DatabaseNow()).scalar_subquery()


class UtcDay(FunctionElement[date]):
    """The UTC day on which a moment falls."""

    type = Date()
    inherit_cache = True


@compiles(DatabaseNow, "postgresql")
def _now_on_postgres(element: DatabaseNow, compiler: SQLCompiler, **kw: Any) -> str:
    return "clock_timestamp()"


@compiles(DatabaseNow, "sqlite")
def _now_on_sqlite(element: DatabaseNow, compiler: SQLCompiler, **kw: Any) -> str:
    # Padded to microseconds, as Moment writes them, so that the text sorts.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(UtcDay, "postgresql")
def _day_on_postgres(element: UtcDay, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AT TIME ZONE 'UTC' AS date)"


@compiles(UtcDay, "sqlite")
def _day_on_sqlite(element: UtcDay, compiler: SQLCompiler, **kw: Any) -> str:
    return f"date({compiler.process(element.clauses, **kw)})"

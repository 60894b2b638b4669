"""Records of any size, made by the database itself: what a shop has sold over the years.

A thousand payments a day, the last of them yesterday; each has a token of its own, and one in
three bought credit, of which a call was charged and the rest has expired after a year. The rows lie
in the order of time, as they were written; the ids are spread over all that ids can be.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from sqlalchemy import Connection, create_engine

from l402.store import migrate
from l402.store.tables import metadata

_APART = 86.4  # seconds between two payments
_YEAR = 365 * 86_400
_SCATTER = 7_919  # a prime: what is sold next has an id that is far away
_SPREAD = 2**32  # what the first eight digits of an id can be

#: Midnight: all that was sold was sold before.
MIDNIGHT = datetime.combine(datetime.now(UTC).date(), time(), UTC)
YESTERDAY = (MIDNIGHT - timedelta(days=1)).date()


def key(number: int, rows: int) -> str:
    """Return the token id, and the payment hash, of a payment by its number, the oldest being 0."""
    return f"{number * _SCATTER % rows * (_SPREAD // rows):08x}{number:056x}"


def fill(url: str, rows: int) -> None:
    """Make the tables, and fill each of payments, tokens and entries with about so many rows."""
    migrate.upgrade(url)
    engine = create_engine(url)
    postgres = engine.dialect.name == "postgresql"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with (_bare if postgres else _careless)(connection):
            for statement in _statements(rows, postgres):
                connection.exec_driver_sql(statement)
        if postgres:
            connection.exec_driver_sql("VACUUM ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()
    if not postgres:
        _settle(Path(engine.url.database or ""))


def _settle(file: Path) -> None:
    """Have the system write a file out, and hold as much of it in memory as there is room for."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        while opened.read(2**20):
            pass


@contextmanager
def _careless(connection: Connection) -> Iterator[None]:
    """Have an SQLite file filled without a journal, and with room for its indexes in memory."""
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "foreign_keys=OFF"):
        connection.exec_driver_sql(f"PRAGMA {pragma}")
    connection.exec_driver_sql("PRAGMA cache_size=-3000000")
    # Built in one go, an index is full: the first key that comes to each page splits it. Those
    # by token grow with the rows, as they do in years; those in the order of time are full anyway.
    with _unindexed(connection, kept="token_id"):
        yield


@contextmanager
def _bare(connection: Connection) -> Iterator[None]:
    """Have Postgres tables filled without keys, too, which are made in one go behind it."""
    connection.exec_driver_sql("SET maintenance_work_mem = '512MB'")
    keys = connection.exec_driver_sql(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid::regclass::text ~ '^l402_' AND contype IN ('f', 'p', 'u') ORDER BY contype"
    ).all()
    for table, name, _ in keys:  # the foreign ones first
        connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    with _unindexed(connection):
        yield
    for table, name, definition in reversed(keys):
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


@contextmanager
def _unindexed(connection: Connection, kept: str = "") -> Iterator[None]:
    every = [index for table in metadata.sorted_tables for index in table.indexes]
    indexes = [index for index in every if index.columns[0].name != kept]
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)


def _statements(rows: int, postgres: bool) -> Iterator[str]:
    """Yield what fills the tables: in the dialects' own words, since each row is computed."""
    step, midnight = _SPREAD // rows, int(MIDNIGHT.timestamp())
    if postgres:
        many = f"generate_series(0, {rows - 1}) n(i)"
        own = f"lpad(to_hex(mod(i::bigint * {_SCATTER}, {rows}) * {step}), 8, '0')"
        own += " || lpad(to_hex(i), 56, '0')"
    else:
        many = "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n"
        many += f" WHERE i + 1 < {rows}) SELECT i FROM n)"
        own = f"printf('%08x%056x', i * {_SCATTER} % {rows} * {step}, i)"

    def at(later: int = 0) -> str:
        seconds = f"{midnight - 1} - ({rows - 1} - i) * {_APART} + {later}"
        if postgres:
            return f"to_timestamp({seconds})"
        return f"strftime('%Y-%m-%d %H:%M:%f000', {seconds}, 'unixepoch')"

    def every(so_many: int, rest: int) -> str:
        return f"mod(i, {so_many}) = {rest}" if postgres else f"i % {so_many} = {rest}"

    sold = every(3, 0)
    kind = f"CASE WHEN {sold} THEN 'credit' ELSE 'pass' END"
    ends = f"CASE WHEN {sold} THEN {at(_YEAR)} ELSE {at(4200)} END"
    ended = f"({rows - 1} - i) * {_APART} > {_YEAR}"
    yield f"INSERT INTO l402_credential SELECT {own}, 'shop', {at()}, {at()}, 1 FROM {many}"
    yield (
        f"INSERT INTO l402_payment SELECT {own}, {own}, 'shop', {kind}, 10000, 'regtest', 'paid',"
        f" 'GET', {at()}, {at(600)}, {ends}, {ends}, {at()}, 'granted', NULL, 10000, '' FROM {many}"
    )
    yield (
        "INSERT INTO l402_credit (token_id, service, balance, reserved, ends_at)"
        f" SELECT {own}, 'shop', CASE WHEN {ended} THEN 0 ELSE 9000 END, 0, {at(_YEAR)}"
        f" FROM {many} WHERE {sold}"
    )
    for prefix, name, msat, before, after, moment, which in (
        ("payment:", "purchase", 10_000, 0, 10_000, at(), sold),
        ("use:", "use", 1_000, 10_000, 9_000, at(), sold),
        ("expiry:", "expiry", 9_000, 9_000, 0, at(_YEAR), f"{sold} AND {ended}"),
    ):
        yield (
            "INSERT INTO l402_entry (operation, kind, token_id, service, endpoint, method, msat,"
            f" balance_before, balance_after, at) SELECT '{prefix}' || {own}, '{name}', {own},"
            f" 'shop', 'call', 'GET', {msat}, {before}, {after}, {moment} FROM {many} WHERE {which}"
        )
    revoked = (
        f"SELECT {own}, 'token', NULL::timestamptz, {at()}, NULL"
        if postgres
        else (f"SELECT {own}, 'token', NULL, {at()}, NULL")
    )
    yield f"INSERT INTO l402_revocation {revoked} FROM {many} WHERE {every(100, 1)}"
    day = f"({at()} AT TIME ZONE 'UTC')::date" if postgres else f"date({at()})"
    yield (
        f"INSERT INTO l402_challenge_count SELECT {day}, 'shop', 'paid', count(*) FROM {many}"
        " GROUP BY 1"
    )

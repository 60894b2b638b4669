"""Statements as the driver takes them, for what every charged call does.

SQLAlchemy compiles them and knows their types, but is not asked again at each execution: that
would cost five times what SQLite itself takes.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping
from sqlite3 import SQLITE_BUSY, OperationalError
from typing import Any, NamedTuple, Protocol

from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.expression import Delete, Insert, Select, TextClause, Update

_Convert = Callable[[Any], Any]


#: Runs a text with its parameters on a driver's connection, and gives the rows.
Ask = Callable[[Any, str, Any], list[Any]]


def ask(driver: Any, sql: str, parameters: Any) -> list[Any]:
    """Ask a driver as usual."""
    cursor = driver.execute(sql, parameters)
    # To the last row, or SQLite would call the statement unfinished at the commit.
    return cursor.fetchall() if cursor.description else []


class _Compiled(NamedTuple):
    sql: str
    names: tuple[str, ...]
    binds: tuple[tuple[str, _Convert | None], ...]
    by_position: bool
    row: Callable[..., Any]
    converts: tuple[tuple[int, _Convert], ...]


class Runs(Protocol):
    """What changes the record within a transaction: a statement, or several."""

    def run(self, connection: Connection, values: Mapping[str, Any], ask: Ask = ask) -> Any:
        """Run it, and give its first row, or None."""


class Statement:
    """A statement whose parameters are all named, compiled once for each database."""

    def __init__(self, core: Select[Any] | Insert | Update | Delete | TextClause) -> None:
        self._core = core
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, values: Mapping[str, Any], ask: Ask = ask) -> Any:
        """Run it within a transaction, and give its first row, or None.

        `ask` is how the driver is asked, if not as usual.

        :raises DBAPIError: as SQLAlchemy would
        """
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = _compile(self._core, dialect)
        given = [
            values[name] if convert is None else convert(values[name])
            for name, convert in compiled.binds
        ]
        parameters: Any = given
        if not compiled.by_position:
            parameters = dict(zip(compiled.names, given, strict=True))
        rows = execute(connection, compiled.sql, parameters, ask)
        if not rows:
            return None
        first = list(rows[0])
        for index, convert in compiled.converts:
            first[index] = convert(first[index])
        return compiled.row(*first)


def execute(connection: Connection, sql: str, parameters: Any = (), ask: Ask = ask) -> list[Any]:
    """Run a text on the driver's own connection, and give its rows.

    :raises DBAPIError: as SQLAlchemy would; a connection that broke is replaced
    """
    driver: Any = connection.connection.dbapi_connection
    try:
        return ask(driver, sql, parameters)
    except connection.dialect.loaded_dbapi.Error as error:
        lost = connection.dialect.is_disconnect(error, driver, None)
        if lost:
            connection.invalidate(error)
        raise DBAPIError(
            None, None, error, hide_parameters=True, connection_invalidated=lost
        ) from error


def begin_immediate(connection: Connection) -> bool:
    """Begin an SQLite transaction that may write; False while another process is writing.

    :raises DBAPIError: as SQLAlchemy would, for any other reason
    """
    driver: Any = connection.connection.dbapi_connection
    try:
        driver.execute("BEGIN IMMEDIATE")
    except OperationalError as error:
        # Of the extended codes the lowest byte is the kind.
        if error.sqlite_errorcode & 0xFF != SQLITE_BUSY:
            raise DBAPIError(None, None, error, hide_parameters=True) from error
        return False
    return True


def _compile(core: Any, dialect: Dialect) -> _Compiled:
    compiled = core.compile(dialect=dialect)
    order = compiled.positiontup or list(compiled.binds)
    columns = [] if isinstance(core, TextClause) else list(core.exported_columns)
    results = [_result(column.type, dialect) for column in columns]
    return _Compiled(
        sql=str(compiled),
        names=tuple(order),
        binds=tuple((name, _bind(compiled.binds[name], dialect)) for name in order),
        by_position=compiled.positional,
        row=namedtuple("Row", [column.key for column in columns]) if columns else _plain,
        converts=tuple((i, convert) for i, convert in enumerate(results) if convert is not None),
    )


def _bind(parameter: BindParameter[Any], dialect: Dialect) -> _Convert | None:
    return parameter.type.dialect_impl(dialect).bind_processor(dialect)


def _result(of: Any, dialect: Dialect) -> _Convert | None:
    convert: _Convert | None = of.dialect_impl(dialect).result_processor(dialect, None)
    return convert


def _plain(*values: Any) -> tuple[Any, ...]:
    return values

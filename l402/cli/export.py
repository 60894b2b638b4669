"""Taking the books elsewhere, as CSV (RFC 4180) or JSON, a document a line."""

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import click

from l402.cli.group import pass_gate
from l402.cli.progress import Progress
from l402.cli.times import time
from l402.gate import Gate
from l402.store.export import Book, Export, columns

#: What makes a spreadsheet take a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@click.command()
@click.argument("book", type=click.Choice(["payments", "usage", "closings"]))
@click.option("--since", type=time, help="Only what was booked then or later.")
@click.option("--until", type=time, help="Only what was booked before then.")
@click.option("--service", help="Only of this service.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of the screen, all of it or nothing.",
)
@click.option(
    "--progress/--no-progress",
    default=None,
    help="Say on stderr how far it is; usual on a terminal.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document a line, not CSV.")
@pass_gate
def export(
    gate: Gate,
    *,
    book: Book,
    since: datetime | None,
    until: datetime | None,
    service: str | None,
    output: Path | None,
    progress: bool | None,
    as_json: bool,
) -> None:
    """Write payments, usage, or sums of what was purged, as CSV.

    \b
    payments  each payment, by its first presentation, with what it bought and its status
    usage     each call that was charged to a balance, and what was left after it
    closings  sums, by day, of what was purged of both, and of the rest of the ledger

    Amounts are in msat, times ISO 8601 in UTC. TIME is ISO 8601 (in UTC, if it has no offset) or
    unix seconds. A cell that a spreadsheet would take for a formula gets an apostrophe in front.
    An existing FILE is replaced.

    \b
    Examples:
      flask --app shop l402 export payments --since 2026-01-01 --until 2026-02-01
      flask --app shop l402 export usage --service weather --output usage.csv
    """
    rows = _begun(Export(gate.store.db).rows(book, since=since, until=until, service=service))
    shown = sys.stderr.isatty() if progress is None else progress
    with Progress(book, shown) as told, _target(output) as file:
        write = _write_json if as_json else _write_csv
        write(file, columns(book), _counted(rows, told))
    if shown:
        click.echo(told.line(), err=True)


def _begun(rows: Iterator[Any]) -> Iterator[Any]:
    """Read the first row now: what cannot be read must fail before anything is written."""
    return chain(list(islice(rows, 1)), rows)


def _counted(rows: Iterable[Any], progress: Progress) -> Iterator[Any]:
    for row in rows:
        yield row
        progress.rows += 1


def _write_json(file: BinaryIO, names: list[str], rows: Iterable[Iterable[object]]) -> None:
    for row in rows:
        document = dict(zip(names, row, strict=True))
        file.write(json.dumps(document, default=_cell).encode() + b"\n")
    file.flush()


def _write_csv(file: BinaryIO, headings: list[str], rows: Iterable[Iterable[object]]) -> None:
    writer = csv.writer(_Encoded(file))
    writer.writerow(headings)
    writer.writerows(map(_cell, row) for row in rows)
    file.flush()


class _Encoded:
    """UTF-8 for a binary file, without a buffer that would outlive a broken pipe."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _moment(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


@contextmanager
def _target(path: Path | None) -> Iterator[BinaryIO]:
    """Lend what is written to: stdout, or a file that takes `path`'s place when it is whole."""
    if path is None:
        yield sys.stdout.buffer
        return
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise click.ClickException(f"{path} is no regular file; leave --output out, and redirect")
    try:
        with _temporary(path) as file:
            yield file
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def _temporary(path: Path) -> Iterator[BinaryIO]:
    """Lend a file beside `path`, readable by its owner alone, that becomes `path` in the end."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

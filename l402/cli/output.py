"""What the commands print: aligned text for people, one JSON document for programs."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import click

from l402.cli import times

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document; moments stand in it as ISO 8601 in UTC, money as msat."""
    click.echo(json.dumps(document, indent=2, default=_plain))


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], numbers: Collection[str] = ()
) -> None:
    """Print rows in aligned columns; those named in `numbers` are aligned on the right."""
    lines = [list(headings), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    for line in lines:
        cells = (
            cell.rjust(width) if heading in numbers else cell.ljust(width)
            for cell, width, heading in zip(line, widths, headings, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Print names and values, one pair a line; a value of None is left out."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        if value is not None:
            click.echo(f"{name:<{width}}  {value}")


def sats(msat: int) -> str:
    """Write an amount of msat in satoshis, exactly."""
    whole, rest = divmod(msat, 1000)
    return f"{whole}.{rest:03}".rstrip("0") if rest else str(whole)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return times.iso(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in JSON")

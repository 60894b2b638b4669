"""The figures of the days."""

from datetime import datetime, timedelta
from typing import Any

import click

from l402.cli import times
from l402.cli.group import pass_gate
from l402.cli.output import json_option, print_json, print_table, sats
from l402.cli.times import time
from l402.gate import Gate
from l402.store.days import DayCount

_FIGURES = ("challenges", "sales", "msat", "uses", "used_msat")


@click.command()
@click.option("--since", type=time, help="The first day.")
@click.option("--until", type=time, help="The last day; today, if left out.")
@click.option("--days", type=click.IntRange(1, 3660), help="How many days; 30, if left out.")
@click.option("--by-endpoint", is_flag=True, help="Count each endpoint of a service for itself.")
@json_option
@pass_gate
def stats(
    gate: Gate,
    since: datetime | None,
    until: datetime | None,
    days: int | None,
    by_endpoint: bool,
    as_json: bool,
) -> None:
    """Count challenges, sales and uses by day and service.

    Days are those of UTC. A challenge is an invoice handed out; a sale counts on the day of its
    first presentation, with its SATS. A use is a call that was charged to a balance, USED the
    satoshis that it took off; calls on a pass are not counted here (see list). With --by-endpoint
    a sale counts for the endpoint whose challenge was paid.

    \b
    Examples:
      flask --app shop l402 stats --days 7
      flask --app shop l402 stats --since 2026-01-01 --until 2026-01-31 --by-endpoint --json
    """
    if since and days:
        raise click.UsageError("--since and --days both name the first day; write one")
    last = (until or times.now(gate.clock())).date()
    first = since.date() if since else last - timedelta(days=(days or 30) - 1)
    counts = gate.store.days.stats(first, last, by_endpoint=by_endpoint)
    total = {figure: sum(getattr(day, figure) for day in counts) for figure in _FIGURES}
    if as_json:
        rows = [_document(day) for day in counts]
        print_json({"since": first, "until": last, "days": rows, "total": total})
    else:
        _print(counts, total, by_endpoint)


def _document(day: DayCount) -> dict[str, Any]:
    document = day._asdict()
    if day.endpoint is None:
        del document["endpoint"]
    return document


def _print(counts: list[DayCount], total: dict[str, int], by_endpoint: bool) -> None:
    names = ("DAY", "SERVICE", "ENDPOINT") if by_endpoint else ("DAY", "SERVICE")
    figures = ("CHALLENGES", "SALES", "SATS", "USES", "USED")
    table = [
        (*(str(day.day), day.service, day.endpoint)[: len(names)], *_figures(day._asdict()))
        for day in counts
    ]
    table.append(("total", *[""] * (len(names) - 1), *_figures(total)))
    print_table((*names, *figures), table, numbers=figures)


def _figures(of: dict[str, Any]) -> tuple[object, ...]:
    return of["challenges"], of["sales"], sats(of["msat"]), of["uses"], sats(of["used_msat"])

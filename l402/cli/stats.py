"""The figures of the days."""

from dataclasses import asdict
from datetime import datetime, timedelta

import click

from l402.cli import times
from l402.cli.group import pass_gate
from l402.cli.output import json_option, print_json, print_table, sats
from l402.cli.times import time
from l402.gate import Gate

_FIGURES = ("challenges", "sales", "msat")


@click.command()
@click.option("--since", type=time, help="The first day.")
@click.option("--until", type=time, help="The last day; today, if left out.")
@click.option("--days", type=click.IntRange(1, 3660), help="How many days; 30, if left out.")
@json_option
@pass_gate
def stats(
    gate: Gate, since: datetime | None, until: datetime | None, days: int | None, as_json: bool
) -> None:
    """Count challenges, sales and satoshis by day and service.

    Days are those of UTC. A challenge is an invoice handed out; a sale counts on the day of its
    first presentation.

    \b
    Examples:
      flask --app shop l402 stats --days 7
      flask --app shop l402 stats --since 2026-01-01 --until 2026-01-31 --json
    """
    if since and days:
        raise click.UsageError("--since and --days both name the first day; write one")
    last = (until or times.now(gate.clock())).date()
    first = since.date() if since else last - timedelta(days=(days or 30) - 1)
    counts = gate.store.counts.stats(first, last)
    total = {figure: sum(getattr(day, figure) for day in counts) for figure in _FIGURES}
    if as_json:
        rows = [asdict(day) for day in counts]
        print_json({"since": first, "until": last, "days": rows, "total": total})
        return
    table = [
        (str(day.day), day.service, day.challenges, day.sales, sats(day.msat)) for day in counts
    ]
    table.append(("total", "", total["challenges"], total["sales"], sats(total["msat"])))
    headings = ("DAY", "SERVICE", "CHALLENGES", "SALES", "SATS")
    print_table(headings, table, numbers=headings[2:])

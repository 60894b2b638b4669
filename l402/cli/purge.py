"""Removing what nobody can use any more."""

from dataclasses import asdict
from datetime import timedelta

import click

from l402.cli.group import pass_gate
from l402.cli.output import json_option, print_json, print_pairs
from l402.cli.progress import Progress
from l402.cli.times import iso
from l402.gate import Gate
from l402.settings import LONGEST, LONGEST_INVOICE
from l402.store import health
from l402.store.purge import Purge
from l402.store.removal import Purged

#: How long after it is signed a token may end, whatever was configured then, in whichever app.
_LONGEST = timedelta(seconds=LONGEST + LONGEST_INVOICE)


@click.command()
@click.option(
    "--older-than",
    "days",
    type=click.IntRange(1, 36500),
    default=90,
    show_default=True,
    metavar="DAYS",
    help="Only what ended so long ago.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be purged, and change nothing.")
@json_option
@pass_gate
def purge(gate: Gate, days: int, dry_run: bool, as_json: bool) -> None:
    """Remove what nobody can use any more.

    A token goes when everything that was ever bought for it ended DAYS ago, by the database's
    clock: its passes, its balances and all its macaroons. With it go its payments, its lines of
    the ledger, its kept answers, and what reconcile read of it. Their sums stay, by day: audit,
    stats and reconcile say what they said before, and export closings has them. A token that is
    shown again is refused as before. Revocations go when nothing that was signed before them can be
    left.

    It may run while requests are served, may be stopped and started again, and twice at once. Run
    reconcile before it, and export what you want to keep row by row. An account whose books do not
    agree stays, and is named on stderr; the exit code is then 1.

    \b
    Examples:
      flask --app shop l402 purge --dry-run
      flask --app shop l402 purge --older-than 400
    """
    before = health.now(gate.store.db) - timedelta(days=days)
    work = Purge(gate.store.db, before)
    with Progress("accounts") as progress:
        done = work.preview() if dry_run else _run(gate, work, progress)
        progress.begin("revocations")
        for number in gate.store.revocations.purge(before - _LONGEST, dry_run=dry_run):
            progress.rows += number
            done += Purged(revocations=number)
    if as_json:
        head = {"dry_run": dry_run, "ended_before": before, "left": work.unfit}
        print_json(head | asdict(done))
    else:
        print_pairs({f"ended before {iso(before)}": "would go" if dry_run else "gone"})
        print_pairs({name: f"{number:>8}" for name, number in asdict(done).items()})
    for token_id, why in work.unfit.items():
        click.echo(f"left: {token_id}: {why}; run flask l402 audit", err=True)
    if work.unfit:
        raise click.exceptions.Exit(1)


def _run(gate: Gate, work: Purge, progress: Progress) -> Purged:
    """Purge accounts, once the books of what has ended are closed."""
    uses, credits, replies = gate.store.uses, gate.store.credits, gate.store.replies
    while uses.recover() or credits.expire() or replies.purge():
        pass  # whoever serves does so every few seconds; perhaps nobody does

    def told(purged: Purged) -> None:
        progress.rows += purged.rows

    return work.run(told)

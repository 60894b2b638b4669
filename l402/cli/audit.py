"""Proving the books."""

from dataclasses import asdict

import click

from l402.cli.group import pass_gate
from l402.cli.output import json_option, print_json, print_pairs, sats
from l402.cli.progress import Progress
from l402.gate import Gate
from l402.store.audit import Audit, Difference
from l402.store.totals import Totals


@click.command()
@json_option
@pass_gate
def audit(gate: Gate, as_json: bool) -> None:
    """Prove that the books agree.

    Everything is computed anew from the ledger, over the whole database: of each account, what
    was granted is what it has left, what calls in flight hold, and what was used, expired or
    debited; each entry begins where the last one ended; each payment of credit was booked once;
    each answer kept under an Idempotency-Key was charged. Passes have no balance, and need none.
    What was purged goes on counting, as sums, which must agree with one another.

    It may run while requests are served, and changes nothing. If anything differs, each
    difference is named and the exit code is 1.

    \b
    Example:
      flask --app shop l402 audit
    """
    differences: list[Difference] = []
    count = 0

    def found(difference: Difference) -> None:
        nonlocal count
        count += 1
        if as_json:
            differences.append(difference)
        else:
            progress.clear()
            click.echo(_line(difference))

    with Progress("balances") as progress:
        totals = Audit(gate.store.db).run(found, progress.begin)
    if as_json:
        rows = [asdict(each) for each in differences]
        print_json({"ok": not rows, "totals": _document(totals), "differences": rows})
    else:
        _print(totals)
        click.echo(f"\n{_verdict(count)}")
    if count:
        raise click.exceptions.Exit(1)


def _line(difference: Difference) -> str:
    account = " ".join(filter(None, (difference.token_id or "closings", difference.service)))
    found = "nothing" if difference.found is None else difference.found
    expected = "nothing" if difference.expected is None else difference.expected
    return f"{account}: {difference.what}: expected {expected}, found {found}"


def _verdict(count: int) -> str:
    if not count:
        return "the books agree"
    return "1 difference" if count == 1 else f"{count} differences"


def _document(totals: Totals) -> dict[str, int]:
    return asdict(totals) | {"granted": totals.granted}


def _print(totals: Totals) -> None:
    amounts = {
        "granted": totals.granted,
        "  bought": totals.purchased,
        "  by hand": totals.credited,
        "  written off": totals.written_off,
        "balance": totals.balance,
        "reserved": totals.reserved,
        "used": totals.used,
        "expired": totals.expired,
        "debited": totals.debited,
    }
    width = max(len(sats(amount)) for amount in amounts.values())
    counts = {"balances": totals.accounts, "entries": totals.entries}
    lines = {name: f"{number:>{width}}" for name, number in counts.items()}
    lines |= {name: f"{sats(amount):>{width}} sat" for name, amount in amounts.items()}
    print_pairs(lines)

"""Comparing the books with the node."""

from dataclasses import asdict
from typing import Any

import click

from l402.cli.group import pass_gate
from l402.cli.output import json_option, print_json, print_table, sats
from l402.cli.progress import Progress
from l402.cli.times import shown
from l402.gate import Gate
from l402.nodes.base import Settlement
from l402.reconciliation import Reading, Reconciliation
from l402.store.comparison import AmountDifference, Comparison, Presented, Sums
from l402.store.settlements import Settled, Settlements


@click.command()
@click.option("--from-start", is_flag=True, help="Read all of the node's invoices anew.")
@json_option
@pass_gate
def reconcile(gate: Gate, from_start: bool, as_json: bool) -> None:
    """Compare what was paid at the node with what was presented here.

    The node's invoices are read from where the last run ended, or from the first one. Those whose
    description ends in a handle of ours are compared with the payments on record:

    \b
    never presented  paid, and never used; the customer may still come
    never settled    presented, and not paid at the node: this must not be
    underpaid        less arrived than was sold: this must not be
    overpaid         more arrived, which payers may do

    The sums are of all invoices ever read, not of this run alone. It may run while requests are
    served, may be stopped and started again, and changes no balance. If something is that must
    not be, the exit code is 1.

    --from-start is for another node, and for secret keys that an earlier run did not have; what
    was read of the former node stays known.

    \b
    Example:
      flask --app shop l402 reconcile
    """
    network = gate.defaults.network
    comparison = Comparison(gate.store.db, network)
    reconciliation = Reconciliation(gate.desk, gate.keys, Settlements(gate.store.db))
    with Progress("invoices of the node") as progress:
        report = _Report(progress, as_json)
        reading = reconciliation.read(report.listed, anew=from_start)
        progress.begin("payments at the node")
        for payment, state in reconciliation.unsettled(comparison.unread()):
            report.unsettled(payment, state)
        progress.begin("payments")
        sums = comparison.run(report.unused, report.differs)
    if as_json:
        head = {"ok": not report.wrong, "network": network, "read": asdict(reading)}
        print_json(head | {"totals": asdict(sums)} | report.kept)
    else:
        _print(reading, sums, report.wrong)
    if report.wrong:
        raise click.exceptions.Exit(1)


class _Report:
    """What was found: printed as it comes, or kept for one document."""

    def __init__(self, progress: Progress, as_json: bool) -> None:
        self._progress, self._as_json = progress, as_json
        self.wrong = 0
        self.kept: dict[str, list[dict[str, Any]]] = {
            "never_presented": [], "never_settled": [], "underpaid": [], "overpaid": [],
        }  # fmt: skip

    def listed(self, invoices: int) -> None:
        self._progress.rows += invoices

    def unused(self, found: Settled) -> None:
        text = f"{sats(found.received)} sat, settled {shown(found.settled_at)}, {found.handle}"
        self._tell("never presented", found, text)

    def unsettled(self, found: Presented, state: Settlement) -> None:
        text = f"{sats(found.msat)} sat, presented {shown(found.presented_at)} by {found.token_id};"
        self._tell("never settled", found, f"{text} at the node: {state.value}", state=state.value)
        self.wrong += 1

    def differs(self, found: AmountDifference) -> None:
        text = f"expected {sats(found.expected)} sat, received {sats(found.received)}"
        under = found.received < found.expected
        self._tell("underpaid" if under else "overpaid", found, f"{text}, {found.handle}")
        self.wrong += under

    def _tell(
        self, what: str, found: Settled | Presented | AmountDifference, text: str, **more: str
    ) -> None:
        if self._as_json:
            self.kept[what.replace(" ", "_")].append(asdict(found) | more)
        else:
            self._progress.clear()
            click.echo(f"{what}: {found.payment_hash}: {text}")


def _print(reading: Reading, sums: Sums, wrong: int) -> None:
    click.echo(f"{reading.invoices} invoices read, {reading.new} paid ones of ours were new\n")
    rows = {
        "paid at the node": sums.settled,
        "  presented": sums.presented,
        "  never presented": sums.unused,
        "on record": sums.recorded,
        "  not among the paid": sums.unread,
    }
    lines = [(name, each.count, sats(each.msat)) for name, each in rows.items()]
    print_table(("", "COUNT", "SATS"), lines, numbers=("COUNT", "SATS"))
    found = "1 payment is" if wrong == 1 else f"{wrong} payments are"
    click.echo(f"\n{f'{found} wrong' if wrong else 'the books agree with the node'}")

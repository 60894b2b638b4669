"""Taking back what was sold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import click
from flask import current_app

from l402 import signals
from l402.cli import times
from l402.cli.group import Misuse, pass_gate
from l402.cli.output import json_option, print_json, print_table, sats
from l402.cli.subject import Subject, subject
from l402.cli.times import time
from l402.errors import ConfigurationError
from l402.gate import Gate
from l402.settings import check_service
from l402.store.revocations import Kind


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one subject, and how much of the record it concerns."""

    kind: Kind
    subject: str
    issued_before: datetime | None
    outcome: str
    credentials: int
    payments: int
    msat: int


@click.command()
@click.argument("what", nargs=-1)
@click.option("--token", "kind", flag_value="token", help="WHAT is a token id not yet shown.")
@click.option(
    "--payment", "kind", flag_value="payment", help="WHAT is a payment hash not yet shown."
)
@click.option("--service", help="Instead of WHAT: all of this service …")
@click.option("--before", type=time, help="… that was issued before then.")
@click.option("--why", help="A reason, for the record.")
@click.option("--dry-run", is_flag=True, help="Say what would be revoked, and change nothing.")
@json_option
@pass_gate
def revoke(
    gate: Gate,
    *,
    what: tuple[str, ...],
    kind: Kind | None,
    service: str | None,
    before: datetime | None,
    why: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Revoke tokens: every process refuses them within a second.

    WHAT is a token id, its first 6 or more digits, a payment hash, or the handle l402:…:… in
    which an invoice's description ends. Full ids and handles may be revoked before they are first
    presented. To revoke twice is no error; nothing takes a revocation back. If one WHAT cannot be
    understood, none is revoked. TIME is ISO 8601 (in UTC, if it has no offset) or unix seconds.

    \b
    Examples:
      flask --app shop l402 revoke 5f2a9c --why "key leaked"
      flask --app shop l402 revoke --service weather --before 2026-01-31 --dry-run
    """
    if service or before:
        if what or kind:
            raise click.UsageError("write WHAT, or --service with --before; not both")
        subjects = [_service(gate, service, before)]
    elif what:
        subjects = [subject(gate, name, kind) for name in what]
    else:
        raise click.UsageError("say WHAT to revoke, or --service with --before")
    outcomes = [_revoke(gate, chosen, why, dry_run) for chosen in dict.fromkeys(subjects)]
    if as_json:
        print_json({"dry_run": dry_run, "revocations": [asdict(done) for done in outcomes]})
    else:
        _print(outcomes)


def _service(gate: Gate, service: str | None, before: datetime | None) -> Subject:
    if service is None or before is None:
        raise click.UsageError("--service and --before go together")
    try:
        check_service(service, "--service")
    except ConfigurationError as error:
        raise Misuse(str(error)) from None
    if before > times.now(gate.clock()):
        raise Misuse("--before is in the future: what is sold from now on would be refused too")
    return Subject("service", service, before)


def _revoke(gate: Gate, chosen: Subject, why: str | None, dry_run: bool) -> _Outcome:
    revocations = gate.store.revocations
    kind, name, before = chosen.kind, chosen.name, chosen.issued_before
    reach = revocations.matching(kind, name, issued_before=before)
    outcome = "would be revoked"
    if not dry_run:
        new = revocations.revoke(kind, name, issued_before=before, why=why)
        outcome = "revoked" if new else "was revoked already"
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        signals.revoked.send(app, kind=kind, subject=name)
    return _Outcome(kind, name, before, outcome, reach.credentials, reach.payments, reach.msat)


def _print(outcomes: Sequence[_Outcome]) -> None:
    rows = [
        (done.kind, _named(done), done.outcome, done.credentials, done.payments, sats(done.msat))
        for done in outcomes
    ]
    headings = ("KIND", "SUBJECT", "OUTCOME", "TOKENS", "PAYMENTS", "SATS")
    print_table(headings, rows, numbers=headings[3:])


def _named(done: _Outcome) -> str:
    return done.subject + (f" before {times.iso(done.issued_before)}" if done.issued_before else "")

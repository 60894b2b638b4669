"""What was sold: a page of credentials, or one of them."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from l402.cli import times
from l402.cli.group import NotFound, pass_gate
from l402.cli.output import json_option, print_json, print_pairs, print_table, sats
from l402.cli.subject import credential
from l402.cli.times import shown, time
from l402.gate import Gate
from l402.store.credentials import CredentialState, PaymentState


@click.command("list")
@click.option("--service", help="Only of this service.")
@click.option("--active", is_flag=True, help="Only what opens something now.")
@click.option("--revoked", is_flag=True, help="Only what is revoked.")
@click.option("--since", type=time, help="Only what was first presented since then.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--after", metavar="TOKEN_ID", help="Go on behind this token id.")
@json_option
@pass_gate
def list_(
    gate: Gate,
    *,
    service: str | None,
    active: bool,
    revoked: bool,
    since: datetime | None,
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List what was sold, the newest first.

    A token is listed from its first paid presentation on; unpaid challenges are only counted (see
    stats). TIME is ISO 8601 (in UTC, if it has no offset) or unix seconds.

    \b
    Examples:
      flask --app shop l402 list --active
      flask --app shop l402 list --service weather --since 2026-01-31 --json
    """
    now = times.now(gate.clock())
    try:
        page = gate.store.credentials.page(
            now=now, service=service, active=active or None, revoked=revoked or None,
            since=since, after=after and after.lower(), limit=limit + 1,
        )  # fmt: skip
    except ValueError as error:
        raise NotFound(f"--after: {error}") from None
    page, more = page[:limit], len(page) > limit
    if as_json:
        credentials = [_document(state, now) for state in page]
        print_json({"credentials": credentials, "next": page[-1].token_id if more else None})
        return
    _print_page(page, now)
    if more:
        click.echo(f"\nmore: --after {page[-1].token_id}")


@click.command()
@click.argument("what")
@json_option
@pass_gate
def show(gate: Gate, what: str, as_json: bool) -> None:
    """Show all that is known of one sale.

    WHAT is a token id, its first 6 or more digits, a payment hash, or the handle l402:…:… in
    which an invoice's description ends.

    \b
    Examples:
      flask --app shop l402 show 5f2a9c
      flask --app shop l402 show l402:5f2a9c0011223344:89abcdef
    """
    state, now = credential(gate, what), times.now(gate.clock())
    if as_json:
        print_json(_document(state, now))
        return
    print_pairs(
        {
            "token id": state.token_id,
            "service": state.service,
            "state": _word(state, now),
            "why": state.why,
            "paid": f"{sats(state.msat)} sat",
            "first shown": shown(state.first_presented_at),
            "uses": state.uses,
            "last used": shown(state.last_used_at),
        }
    )
    for payment in state.payments:
        click.echo()
        print_pairs(_lines(payment, now))


def _word(state: CredentialState | PaymentState, now: datetime) -> str:
    if state.revoked:
        return "revoked"
    return "active" if state.active(now) else "expired"


def _document(state: CredentialState, now: datetime) -> dict[str, Any]:
    return asdict(state) | {
        "state": _word(state, now),
        "msat": state.msat,
        "ends_at": state.ends_at,
        "why": state.why,
        "payments": [
            asdict(payment) | {"state": _word(payment, now)} for payment in state.payments
        ],
    }


def _print_page(page: list[CredentialState], now: datetime) -> None:
    rows = [
        (
            state.token_id[:16], state.service, sats(state.msat), _word(state, now),
            shown(state.ends_at), state.uses, shown(state.last_used_at),
        )
        for state in page
    ]  # fmt: skip
    headings = ("TOKEN", "SERVICE", "SATS", "STATE", "ENDS", "USES", "LAST USED")
    print_table(headings, rows, numbers=("SATS", "USES"))


def _lines(payment: PaymentState, now: datetime) -> dict[str, object]:
    return {
        "payment hash": payment.payment_hash,
        "paid": f"{sats(payment.msat)} sat for {payment.method} {payment.endpoint}",
        "buys": f"{payment.kind} of {payment.service} on {payment.network}",
        "issued": shown(payment.issued_at),
        "presented": f"{shown(payment.presented_at)} ({payment.status})",
        "settled": payment.settled_at and shown(payment.settled_at),
        "ends": f"{shown(min(payment.ends_at, payment.valid_until))} ({_word(payment, now)})",
    }

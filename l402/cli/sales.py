"""What was sold: a page of credentials, or one of them."""

from datetime import datetime
from typing import Any

import click

from l402.cli import times
from l402.cli.group import NotFound, pass_gate
from l402.cli.output import json_option, print_json, print_pairs, print_table, sats
from l402.cli.subject import credential
from l402.cli.times import shown, time
from l402.gate import Gate
from l402.store.credits import Credit
from l402.store.history import MOST, History
from l402.store.ledger import EFFECTS, Entry
from l402.store.states import CredentialState, PaymentState


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
    stats). BALANCE is the credit that it may still spend, in satoshis; - if it never had any.
    STATE is active, exhausted (its balance is used up), expired or revoked.

    TIME is ISO 8601 (in UTC, if it has no offset) or unix seconds.

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

    That is what was paid, what it opens, and the last entries of the ledger for each balance: what
    is + was added, what is - was taken off; the amount after it counts what calls in flight hold.

    WHAT is a token id, its first 6 or more digits, a payment hash, or the handle l402:…:… in
    which an invoice's description ends.

    \b
    Examples:
      flask --app shop l402 show 5f2a9c
      flask --app shop l402 show l402:5f2a9c0011223344:89abcdef
    """
    state, now = credential(gate, what), times.now(gate.clock())
    history = History(gate.store.db)
    entries = {each.service: history.latest(state.token_id, each.service) for each in state.credits}
    if as_json:
        lately = [entry._asdict() for latest in entries.values() for entry in latest]
        print_json(_document(state, now) | {"entries": lately})
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
    for credit in state.credits:
        click.echo()
        print_pairs(_balance(credit, now))
        click.echo()
        _print_entries(entries[credit.service])


def _word(state: CredentialState | PaymentState, now: datetime) -> str:
    if state.revoked:
        return "revoked"
    if state.active(now):
        return "active"
    return "exhausted" if isinstance(state, CredentialState) and state.exhausted(now) else "expired"


def _document(state: CredentialState, now: datetime) -> dict[str, Any]:
    return state._asdict() | {
        "state": _word(state, now),
        "msat": state.msat,
        "ends_at": state.ends_at,
        "why": state.why,
        "balance": state.balance(now),
        "payments": [
            payment._asdict() | {"state": _word(payment, now)} for payment in state.payments
        ],
        "credits": [credit._asdict() for credit in state.credits],
    }


def _print_page(page: list[CredentialState], now: datetime) -> None:
    rows = [
        (
            state.token_id[:16], state.service, sats(state.msat), _left(state, now),
            _word(state, now), shown(state.ends_at), state.uses, shown(state.last_used_at),
        )
        for state in page
    ]  # fmt: skip
    headings = ("TOKEN", "SERVICE", "SATS", "BALANCE", "STATE", "ENDS", "USES", "LAST USED")
    print_table(headings, rows, numbers=("SATS", "BALANCE", "USES"))


def _left(state: CredentialState, now: datetime) -> str:
    balance = state.balance(now)
    return "-" if balance is None else sats(balance)


def _lines(payment: PaymentState, now: datetime) -> dict[str, object]:
    return {
        "payment hash": payment.payment_hash,
        "paid": f"{sats(payment.msat)} sat for {payment.method} {payment.endpoint}",
        "rate": payment.rate or None,
        "buys": f"{payment.kind} of {payment.service} on {payment.network}",
        "issued": shown(payment.issued_at),
        "presented": f"{shown(payment.presented_at)} ({payment.status})",
        "settled": payment.settled_at and shown(payment.settled_at),
        "ends": f"{shown(min(payment.ends_at, payment.valid_until))} ({_word(payment, now)})",
    }


def _balance(credit: Credit, now: datetime) -> dict[str, object]:
    return {
        "balance": f"{sats(credit.balance)} sat for {credit.service}",
        "reserved": f"{sats(credit.reserved)} sat, for calls in flight",
        "ends": f"{shown(credit.ends_at)}{'' if now < credit.ends_at else ' (ended)'}",
    }


def _print_entries(entries: list[Entry]) -> None:
    headings = ("TIME", "ENTRY", "SATS", "AFTER", "FOR")
    rows = [
        (shown(each.at), each.kind, _change(each), sats(each.balance_after), _for(each))
        for each in entries
    ]
    print_table(headings, rows, numbers=("SATS", "AFTER"))
    if len(entries) == MOST:
        click.echo(f"older entries than these {MOST}: see export usage, or l402_entry")


def _change(entry: Entry) -> str:
    sign = {1: "+", -1: "-", 0: ""}[EFFECTS[entry.kind]]
    return f"{sign}{sats(entry.msat)}"


def _for(entry: Entry) -> str:
    call = f"{entry.method} {entry.endpoint}" if entry.endpoint else None
    return entry.why or call or entry.operation

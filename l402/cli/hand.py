"""Changing a balance by hand: goodwill, and mistakes put right. No money moves."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from l402.cli import times
from l402.cli.group import Misuse, NotFound, pass_gate
from l402.cli.output import json_option, print_json, sats
from l402.cli.subject import credential
from l402.cli.times import shown
from l402.gate import Gate
from l402.store.credits import Credit
from l402.store.history import History
from l402.store.states import CredentialState

_LONGEST_ID = 100


@dataclass(frozen=True, slots=True)
class _Change:
    """What is asked for; `msat` is below zero for what is taken off."""

    msat: int
    why: str
    identifier: str
    service: str | None
    dry_run: bool


def _identifier(context: click.Context, option: click.Parameter, text: str) -> str:
    if not 0 < len(text) <= _LONGEST_ID or not text.isprintable() or text != text.strip():
        raise click.BadParameter(f"write 1 to {_LONGEST_ID} printable characters")
    return text


def _reason(context: click.Context, option: click.Parameter, text: str) -> str:
    if not text.strip():
        raise click.BadParameter("say in a few words why")
    return text


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what both of them take."""
    for option in (
        json_option,
        click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        click.option("--service", help="Which balance, if the token has several."),
        click.option(
            "--id",
            "identifier",
            required=True,
            callback=_identifier,
            help="Your name for this change, such as a ticket's number; it counts once.",
        ),
        click.option("--why", required=True, callback=_reason, help="The reason, for the ledger."),
        click.option(
            "--sats", "amount", type=click.IntRange(1, 10**12), required=True, help="How much."
        ),
        click.argument("token"),
    ):
        command = option(command)
    return command


@click.command()
@_options
@pass_gate
def credit(gate: Gate, /, token: str, amount: int, as_json: bool, **named: Any) -> None:
    """Add to a token's balance by hand; no money is sent anywhere.

    TOKEN is a token id, its first 6 or more digits, a payment hash, or the handle l402:…:… in
    which an invoice's description ends. The token must have had credit, must not be revoked, and
    its credit must not have ended; the end stays as it is.

    --id makes it safe to run again: the same id counts once, and with another amount or token it
    is an error. The change stands in the ledger with its reason, and is on the disk when this
    returns.

    \b
    Example:
      flask --app shop l402 credit 5f2a9c --sats 100 --why "the outage of Monday" --id ticket-17
    """
    _run(gate, token, _Change(amount * 1000, **named), as_json)


@click.command()
@_options
@pass_gate
def debit(gate: Gate, /, token: str, amount: int, as_json: bool, **named: Any) -> None:
    """Take off a token's balance by hand; no money is sent anywhere.

    A balance never goes below zero, and what calls in flight hold cannot be taken: then nothing
    is, and the error says what is left. TOKEN, --id and the rest are as with credit.

    \b
    Example:
      flask --app shop l402 debit 5f2a9c --sats 100 --why "credited twice" --id ticket-18
    """
    _run(gate, token, _Change(-amount * 1000, **named), as_json)


def _run(gate: Gate, token: str, change: _Change, as_json: bool) -> None:
    state, now = credential(gate, token), times.now(gate.clock())
    own = _balance(state, change.service)
    done = History(gate.store.db).by_hand(change.identifier) is not None
    if not done:
        _require_live(state, own, now)
        _require_enough(own, change)
    outcome, balance = _adjust(gate, state, own, change, now, done)
    if as_json:
        document = {"token_id": state.token_id, "service": own.service, "msat": change.msat}
        print_json(document | {"id": change.identifier, "outcome": outcome, "balance": balance})
    else:
        named = f"{sats(abs(change.msat))} sat, {change.identifier}"
        click.echo(
            f"{outcome}: {named}: {state.token_id[:16]} has {sats(balance)} sat for {own.service}"
        )


def _adjust(
    gate: Gate, state: CredentialState, own: Credit, change: _Change, now: datetime, done: bool
) -> tuple[str, int]:
    """Make the change, and say what became of it, and what is left to be spent."""
    word = "credited" if change.msat > 0 else "debited"
    if change.dry_run and not done:
        return f"would be {word}", own.balance + change.msat
    try:
        made = gate.store.credits.adjust(
            state.token_id, own.service, change.msat,
            why=change.why, operation=change.identifier, now=now,
        )  # fmt: skip
    except ValueError as error:
        raise (Misuse if done else click.ClickException)(f"{change.identifier}: {error}") from None
    return (word if made.first else f"was {word} already"), made.balance


def _balance(state: CredentialState, service: str | None) -> Credit:
    named = [each for each in state.credits if service in (None, each.service)]
    if not named:
        raise NotFound(f"{state.token_id} has no credit{f' for {service}' if service else ''}")
    if len(named) > 1:
        services = ", ".join(each.service for each in named)
        raise Misuse(f"{state.token_id} has several balances: add --service, one of {services}")
    return named[0]


def _require_live(state: CredentialState, own: Credit, now: datetime) -> None:
    if state.revoked:
        raise click.ClickException(f"{state.token_id} is revoked")
    if own.ends_at <= now:
        raise click.ClickException(f"its credit for {own.service} ended on {shown(own.ends_at)}")
    if not state.key(now):
        raise click.ClickException(f"{state.token_id} opens nothing any more: its macaroons ended")


def _require_enough(own: Credit, change: _Change) -> None:
    if own.balance + change.msat < 0:
        held = f", and calls in flight hold {sats(own.reserved)} sat" if own.reserved else ""
        raise click.ClickException(
            f"only {sats(own.balance)} sat are left to be taken off{held}; nothing was changed"
        )

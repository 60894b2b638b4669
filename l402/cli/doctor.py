"""What is wrong with the set-up, and what would mend it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask.cli import ScriptInfo

from l402.cli.output import json_option, print_json
from l402.doctor import Severity, Verdict, examine


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(1),
    envvar="WEB_CONCURRENCY",
    help="How many processes serve the app; $WEB_CONCURRENCY if that is set.",
)
@click.option("--no-invoice", is_flag=True, help="Have the node issue no invoice.")
@click.option("--fail-on-warning", is_flag=True, help="End with 1 for a warning too.")
@json_option
@click.pass_context
def doctor(
    context: click.Context,
    workers: int | None,
    no_invoice: bool,
    fail_on_warning: bool,
    as_json: bool,
) -> None:
    """Look for what is wrong with the set-up.

    Each check is one line: whether it passed, its name, what was found and, if it did not pass,
    what to do. Where that cannot be told it says "unknown": the check needs another that failed,
    or the answer shows in requests alone. Also an app that cannot be loaded is told what to mend.

    The node is asked for one invoice of 1 sat, which its description names as a test; nobody is
    shown it, and it expires. In the database a row is written and undone.

    \b
    Ends with:
      0  nothing is wrong, or there are warnings alone
      1  there is an error; with --fail-on-warning, or a warning

    \b
    Examples:
      flask --app shop l402 doctor
      flask --app shop l402 doctor --json --fail-on-warning --workers 4
    """
    app = context.ensure_object(ScriptInfo).load_app
    found = []
    with _told_once():
        for name, verdict in examine(app, workers=workers, invoicing=not no_invoice):
            found.append((name, verdict))
            if not as_json:
                click.echo(_line(name, verdict))
    failed = [verdict.severity for _, verdict in found if verdict.passed is False]
    errors, warnings = (failed.count(each) for each in (Severity.ERROR, Severity.WARNING))
    if as_json:
        checks = [{"check": name} | verdict._asdict() for name, verdict in found]
        print_json({"ok": not errors, "errors": errors, "warnings": warnings, "checks": checks})
    else:
        click.echo(f"\n{_count(errors, 'error')}, {_count(warnings, 'warning')}")
    if errors or (fail_on_warning and warnings):
        raise click.exceptions.Exit(1)


@contextmanager
def _told_once() -> Iterator[None]:
    """Keep what is said of the node out of the log: the verdicts say it."""
    log = logging.getLogger("l402.node")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _line(name: str, verdict: Verdict) -> str:
    word = {True: "ok", None: "unknown"}.get(verdict.passed, str(verdict.severity))
    fix = f"; {verdict.fix}" if verdict.fix else ""
    return f"{word:<8} {name:<16} {verdict.detail}{fix}"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"

"""The record's tables: bringing them up to this release, and telling where they stand."""

import click

from l402.cli.group import pass_gate
from l402.cli.output import json_option, print_json
from l402.gate import Gate
from l402.store.url import shown


@click.command()
@json_option
@pass_gate
def upgrade(gate: Gate, as_json: bool) -> None:
    """Make our tables, or bring them up to this release.

    Run it once before the first start, and after each update of Flask-L402; a second run changes
    nothing. It touches no tables but those that begin with l402_.

    \b
    Example:
      flask --app shop l402 upgrade
    """
    from l402.store import migrate  # Alembic takes 50 ms

    url = _url(gate)
    before = migrate.current(url)
    migrate.upgrade(url)
    after = migrate.current(url)
    if as_json:
        print_json({"database": shown(gate.store.db.url), "before": before, "revision": after})
    elif before == after:
        click.echo(f"{shown(gate.store.db.url)} is at revision {after} already")
    else:
        click.echo(f"{shown(gate.store.db.url)} is at revision {after} now, was {before or 'new'}")


@click.command()
@json_option
@pass_gate
def current(gate: Gate, as_json: bool) -> None:
    """Tell whether our tables are this release's.

    \b
    Example:
      flask --app shop l402 current
    """
    from l402.store import migrate

    revision, head = migrate.current(_url(gate)), migrate.head()
    if as_json:
        print_json({"revision": revision, "head": head, "is_head": revision == head})
    elif revision == head:
        click.echo(f"{revision} (head)")
    else:
        click.echo(f"{revision or 'no tables'}; the head is {head}: run flask l402 upgrade")


def _url(gate: Gate) -> str:
    return gate.store.db.url.render_as_string(hide_password=False)

"""The stand-in wallet of the simulated node, for clients that pay through lnd's REST API."""

import click
from flask import current_app

from l402.blueprint import wallet_macaroon
from l402.cli.group import pass_gate
from l402.cli.output import json_option, print_json, print_pairs
from l402.gate import Gate
from l402.nodes.simulated import SimulatedNode

#: What follows the wallet's address in lnd's own API.
_SEND = "/v2/router/send"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the app is served.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5000,
    envvar="PORT",
    show_default=True,
    help="Its port; $PORT if that is set.",
)
@json_option
@pass_gate
def wallet(gate: Gate, host: str, port: int, as_json: bool) -> None:
    """Print how to pay at the simulated node.

    An address and a credential, for any client that can pay through lnd's REST API. They are good
    on this machine alone, and for play money; with a real node there is no such wallet.

    \b
    Example:
      flask --app shop l402 wallet --json
    """
    if not isinstance(gate.desk.node, SimulatedNode):
        raise click.ClickException("only the simulated node has a wallet; pay with your own")
    document = {"rest": _address(host, port), "macaroon_hex": wallet_macaroon(gate.keys)}
    print_json(document) if as_json else print_pairs(document)


def _address(host: str, port: int) -> str:
    rules = [rule.rule for rule in current_app.url_map.iter_rules() if rule.rule.endswith(_SEND)]
    if not rules:
        raise click.ClickException("L402_URL_PREFIX is None: this app serves no wallet")
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}{rules[0].removesuffix(_SEND)}"

"""The demonstration with real nodes: an lnd that sells and one that pays, on a chain of their own.

As ``demo.py``; it needs Go, and the modules of tests/ on the path, as ``make`` sets it. Nothing is
left of it but the programs that Go built, in the user's cache.
"""
# ruff: noqa: T201

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from example import Example, check_port
from lightning.binaries import binaries
from narration import DemoFailed, expect, step
from purchase import Stage, demonstrate
from support.daemons import NotYet
from support.lnd import Lnd
from support.network import Books, Network, network
from wallet import Wallet


@contextmanager
def regtest() -> Iterator[Stage]:
    """The example with bob's lnd as its node, and alice's lnd as the wallet."""
    check_port()
    _build()
    with TemporaryDirectory(prefix="flask-l402-demo-") as name, _nodes(Path(name)) as nodes:
        example, alice = Example(_environment(Path(name), nodes)), nodes.alice
        with example.serving() as server:
            wallet = Wallet(alice.url, alice.macaroon().read_bytes().hex(), alice.tls_cert)
            confirm = partial(_confirm, nodes, Books(nodes))
            yield Stage(example, server, wallet, confirm, _hint(alice))


def _build() -> None:
    try:
        binaries(tell=print)
    except RuntimeError as error:
        raise DemoFailed(str(error)) from error


@contextmanager
def _nodes(folder: Path) -> Iterator[Network]:
    print("Starting btcd and two lnd, alice who pays and bob who sells, with a channel between …")
    with ExitStack() as stack:
        try:
            nodes = stack.enter_context(network(folder))
            said = nodes.bob.call("GET", "/v1/getinfo")
        except (AssertionError, NotYet, OSError) as error:
            raise DemoFailed(f"the nodes did not start: {error}") from error
        print(f"They run lnd {said['version'].split()[0]}, at block {said['block_height']}.")
        yield nodes


def _environment(folder: Path, nodes: Network) -> dict[str, str]:
    """Configure the example as in production, with nothing from this machine's own."""
    secret = folder / "secret-key"
    secret.write_text(secrets.token_hex(32))
    macaroon = nodes.bob.bake(folder, "invoices:read", "invoices:write")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "PYTHONPATH"))}
    return inherited | {
        "APP_CONFIG": "production",
        "FLASK_L402_NODE": nodes.bob.node_url(macaroon),
        "FLASK_L402_SECRET_KEY_PATH": str(secret),
        "FLASK_L402_DATABASE_URL": f"sqlite:///{folder / 'l402.db'}",
    }


def _hint(payer: Lnd) -> str:
    return (
        f"Alice's lnd pays for clients of your own (network regtest): gRPC {payer.grpc}, REST"
        f" {payer.url},\n  {payer.tls_cert}\n  {payer.macaroon()}\n"
    )


def _confirm(nodes: Network, books: Books, payment_hash: str) -> None:
    step("the invoice, as bob's lnd tells it")
    invoice = nodes.bob.call("GET", f"/v1/invoice/{payment_hash}")
    for name in ("state", "amt_paid_sat", "memo", "settle_date"):
        print(f"   {name:13} {invoice[name]}")
    expect(invoice["state"] == "SETTLED", "the invoice is settled")
    paid, received = books.payments, books.received
    print(f"   payments that alice's lnd made: {paid}; received by bob's: {received} sat")
    expect((paid, received) == (1, 10), "there was one payment, of 10 sat")


if __name__ == "__main__":
    sys.exit(demonstrate(regtest()))

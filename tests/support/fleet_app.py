"""A small shop for servers of several processes; its configuration is in the environment."""

import os
import secrets
from pathlib import Path

from flask import Flask

from l402 import L402, current_payment, paywall, signals
from support.fleet_sabotage import SABOTAGES

#: The file, in the fleet's folder, with a line for each payment that a process saw first.
FIRST_PAID = "first-paid"


def create_app() -> Flask:
    """Make the app from ``FLASK_L402_…`` and ``FLASK_RATELIMIT_…``; its view names its process.

    ``FLASK_FLEET_SABOTAGE`` names what is broken in it.
    """
    app = Flask("fleet")
    app.config.from_prefixed_env()
    app.config.update(L402_NODE="simulated:", L402_SIMULATED=True, L402_SERVICE="fleet")
    if sabotage := app.config.get("FLEET_SABOTAGE"):
        SABOTAGES[sabotage]()
    L402(app)

    @app.get("/quote")
    @paywall(sats=10)
    def quote() -> str:
        return str(os.getpid())

    @app.get("/limited")
    @paywall(sats=10, limit="10/hour")
    def limited() -> str:
        return str(os.getpid())

    @app.get("/call")
    @paywall(sats=10, uses=1)
    def call() -> str:
        return str(current_payment.paid)

    @app.get("/draw")
    @paywall(sats=1, uses=5000)
    def draw() -> str:
        return secrets.token_hex(8)

    note = Path(app.config["FLEET_FOLDER"], FIRST_PAID)

    @signals.first_paid.connect_via(app, weak=False)
    def first_paid(sender: Flask, payment_hash: str, **_: object) -> None:
        with note.open("a") as lines:  # one short line: whole, whoever else appends
            lines.write(f"{payment_hash}\n")

    return app

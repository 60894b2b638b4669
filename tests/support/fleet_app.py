"""A small shop for a server of several processes; its configuration is in the environment."""

import os

from flask import Flask

from l402 import L402, current_payment, paywall


def create_app() -> Flask:
    """Make the app from ``FLASK_L402_…`` and ``FLASK_RATELIMIT_…``; its view names its process."""
    app = Flask("fleet")
    app.config.from_prefixed_env()
    app.config.update(L402_NODE="simulated:", L402_SIMULATED=True, L402_SERVICE="fleet")
    L402(app)

    @app.get("/quote")
    @paywall(sats=10)
    def quote() -> str:
        return str(os.getpid())

    @app.get("/call")
    @paywall(sats=10, uses=1)
    def call() -> str:
        return str(current_payment.paid)

    return app

"""The app that is measured: one view bare, and the same view under a paywall."""

import os
from pathlib import Path

from flask import Flask

from l402 import L402, paywall
from l402.store import migrate
from l402.testing import PayingClient

UNLIMITED = "1000000000/minute"


def create_app() -> Flask:
    """Return the app on the database that ``BENCH_DATABASE`` names."""
    app = Flask("shop")
    app.test_client_class = PayingClient
    app.config.update(
        L402_NODE="simulated:",
        L402_SIMULATED=True,
        L402_SECRET_KEY="only for measuring, never for selling",
        L402_DATABASE_URL=os.environ["BENCH_DATABASE"],
        L402_RATE_LIMIT=UNLIMITED,
        L402_CHALLENGE_LIMIT=UNLIMITED,
        L402_CHALLENGE_LIMIT_TOTAL=UNLIMITED,
    )
    L402(app)
    add_bare(app)
    app.add_url_rule("/paid", "paid", paywall(sats=10)(view))
    return app


def bare_app() -> Flask:
    """Return the same app without the extension."""
    app = Flask("bare")
    add_bare(app)
    return app


def add_bare(app: Flask) -> None:
    """Add the view that is free."""
    app.add_url_rule("/bare", "bare", lambda: view())


def view() -> dict[str, str]:
    """The view itself."""
    return {"quote": "A penny saved is a penny earned."}


def prepare(directory: str) -> str:
    """Migrate a new SQLite file, name it in the environment, and return one paid Authorization."""
    os.environ["BENCH_DATABASE"] = f"sqlite:///{Path(directory) / 'l402.db'}"
    migrate.upgrade(os.environ["BENCH_DATABASE"])
    client = create_app().test_client()
    assert isinstance(client, PayingClient)
    assert client.get("/paid").status_code == 200
    assert client.authorization
    return client.authorization

"""Set-ups for the doctor: one in which all is well, to be broken by a test.

Test modules take them in by ``pytest_plugins = ["support.patients"]``.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.cli import ScriptInfo
from flask.testing import FlaskCliRunner
from werkzeug.middleware.proxy_fix import ProxyFix

from l402 import L402, paywall
from l402.cli import cli
from support.canaries import forms
from support.lnd_stand_in import LndStandIn, lnd_stand_in

PASSWORD = "canary-passw0rd"


class SetUp:
    """A shop with a node, a database and a secret file; `config` and the rest may be changed."""

    def __init__(self, folder: Path, database: str, lnd: LndStandIn) -> None:
        self.folder, self.lnd = folder, lnd
        self.secret = secrets.token_hex(32)
        self.secret_file = folder / "secret-key"
        self.secret_file.write_text(self.secret)
        self.secret_file.chmod(0o600)
        self.config: dict[str, Any] = {
            "L402_NODE": lnd.url(),
            "L402_SERVICE": "weather",
            "L402_SECRET_KEY_PATH": str(self.secret_file),
            "L402_DATABASE_URL": database,
        }
        self.wrap: Callable[[Any], Any] | None = lambda app: ProxyFix(app, x_for=1)
        self.clock: Callable[[], float] = time.time
        self.sell: Callable[[Flask], object] = sell_quote
        self.kept = [self.secret, lnd.macaroon.read_bytes(), PASSWORD]
        self.outputs: list[str] = []
        self._made: list[Flask] = []

    @property
    def database(self) -> Path:
        """The file of its database."""
        return Path(str(self.config["L402_DATABASE_URL"]).removeprefix("sqlite:///"))

    def use_secret(self, secret: str) -> None:
        """Have another secret key in the file."""
        self.secret_file.write_text(secret)
        self.kept.append(secret)

    def make_app(self) -> Flask:
        """Load the app as it is now."""
        app = Flask("shop")
        app.config.update(self.config)
        L402(app, clock=self.clock)
        self._made.append(app)
        self.sell(app)
        if self.wrap is not None:
            app.wsgi_app = self.wrap(app.wsgi_app)  # type: ignore[method-assign]
        return app

    def examine(self, *options: str) -> Result:
        """Run ``flask l402 doctor``, and keep what it writes."""
        app = ScriptInfo(create_app=self.make_app)
        done = FlaskCliRunner(Flask("runner")).invoke(cli, ["doctor", *options], obj=app)
        self.outputs.append(done.output)
        return done

    def findings(self, *options: str) -> dict[str, dict[str, Any]]:
        """Return what the doctor found, by check."""
        document = json.loads(self.examine("--json", *options).stdout)
        return {finding["check"]: finding for finding in document["checks"]}

    def close(self) -> None:
        """Let go of what the apps opened."""
        for app in self._made:
            app.extensions["l402"].sync.close()
            app.extensions["l402"].store.close()


def sell_quote(app: Flask) -> None:
    """Sell one view for ten satoshis."""

    @app.get("/quote")
    @paywall(sats=10)
    def quote() -> str:
        return "quote"


@pytest.fixture
def set_up(tmp_path: Path, database: str) -> Iterator[SetUp]:
    """A set-up in which all is well; whatever a test makes of it, no output holds a secret."""
    with lnd_stand_in(tmp_path) as lnd:
        made = SetUp(tmp_path, database, lnd)
        try:
            yield made
        finally:
            made.close()
    for output in made.outputs:
        for secret in made.kept:
            assert not [form for form in forms(secret) if form in output]

"""The example's configuration: one class for each place it runs in, chosen by ``APP_CONFIG``.

Every key can be overridden from the environment: ``FLASK_L402_NODE=…``, ``FLASK_L402_SERVICE=…``.
"""

import os
import secrets
from pathlib import Path

from flask import Flask


class Config:
    """What holds everywhere."""

    L402_SERVICE = "example"
    #: What one bitcoin costs, fixed here; a shop would name URLs that tell it (docs/prices.md).
    L402_RATES = {"USD": "100000"}
    MAX_CONTENT_LENGTH = 64 * 1024  # bytes of a request's body
    #: Proxies in front of the app, each of which sets X-Forwarded-For and X-Forwarded-Proto.
    TRUSTED_PROXIES = 0


class Development(Config):
    """No real money: a simulated node, SQLite and a secret key, all in the instance folder."""

    L402_NODE = "simulated:"
    L402_SIMULATED = True


class Production(Config):
    """A real node; ``L402_NODE`` and ``L402_SECRET_KEY_PATH`` come from the environment."""


class Testing(Config):
    """A simulated node, and a secret key that lasts as long as the process."""

    TESTING = True
    L402_NODE = "simulated:"
    L402_SECRET_KEY = secrets.token_hex(32)


CONFIGS: dict[str, type[Config]] = {
    "development": Development,
    "production": Production,
    "testing": Testing,
}


def configure(app: Flask) -> None:
    """Load the chosen class, then the ``FLASK_…`` variables.

    :raises RuntimeError: ``APP_CONFIG`` names no class, or is not set under a real server
    """
    chosen = CONFIGS[_choice()]
    app.config.from_object(chosen)
    app.config.from_prefixed_env()
    given = app.config.keys() & {"L402_SECRET_KEY", "L402_SECRET_KEY_PATH"}
    if chosen is Development and not given:
        path = Path(app.instance_path) / "l402-secret-key"
        make_secret(path)
        app.config["L402_SECRET_KEY_PATH"] = str(path)


def make_secret(path: Path) -> None:
    """Write a new secret key to `path`, for its owner alone to read, unless there is one.

    Several processes may do so at once: one of them makes the key, whole, and the others find it.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        os.link(draft, path)  # unlike a rename it never replaces another process's key
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _choice() -> str:
    names = ", ".join(CONFIGS)
    name = os.environ.get("APP_CONFIG")
    if name in CONFIGS:
        return name
    if name:
        raise RuntimeError(f"APP_CONFIG={name!r} is none of {names}")
    # The flask command sets this; a server that faces customers must not sell for play money.
    if os.environ.get("FLASK_RUN_FROM_CLI") == "true":
        return "development"
    raise RuntimeError(f"APP_CONFIG is not set; write for example APP_CONFIG=production ({names})")

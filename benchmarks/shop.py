"""The app that is measured: one view bare, and the same view under a paywall."""

import os
import secrets
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from flask import Flask, Response, request, stream_with_context

from l402 import L402, current_payment, paywall
from l402.protocol import token
from l402.store import migrate

UNLIMITED = "1000000000/minute"


#: A real node's settings, as in production; nobody is asked, for paid requests ask no node.
LND = f"lnd+https://127.0.0.1:1?network=regtest&macaroon=02{'00' * 40}"


def create_app(node: str = "simulated:", concurrency: int = 2) -> Flask:
    """Return the app on the database that ``BENCH_DATABASE`` names."""
    app = Flask("shop")
    app.config.update(
        L402_NODE=node,
        L402_NODE_CONCURRENCY=concurrency,
        L402_SERVICE="shop",
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
    app.add_url_rule("/call", "call", paywall(sats=1, uses=100)(view))
    app.add_url_rule("/words", "words", paywall(credit=500, reserve=50)(metered_words))
    return app


def bare_app() -> Flask:
    """Return the same app without the extension."""
    app = Flask("bare")
    add_bare(app)
    return app


def add_bare(app: Flask) -> None:
    """Add the view that is free."""
    app.add_url_rule("/bare", "bare", lambda: view())
    app.add_url_rule("/free-words", "free_words", free_words)


def paid_token(app: Flask, kind: str = token.PASS, msat: int = 10_000) -> str:
    """Return the Authorization of somebody who has paid for the paid view of `app`, or calls."""
    gate, now, preimage = app.extensions["l402"], int(time.time()), secrets.token_bytes(32)
    ends = now + 3600
    grant = token.Grant(
        "shop", kind, msat, gate.defaults.network, now, now, ends, ends, "GET", "paid",
        gate.store.ledger.id(), 0, "",
    )  # fmt: skip
    payment_hash = sha256(preimage).digest()
    raw = token.mint(gate.keys, payment_hash, secrets.token_bytes(32), grant)
    return f"L402 {b64encode(raw).decode()}:{preimage.hex()}"


def view() -> dict[str, str]:
    """The view itself."""
    return {"quote": "A penny saved is a penny earned."}


def prepare(directory: str) -> None:
    """Migrate a new SQLite file and name it in the environment."""
    os.environ["BENCH_DATABASE"] = f"sqlite:///{Path(directory) / 'l402.db'}"
    migrate.upgrade(os.environ["BENCH_DATABASE"])


def free_words() -> Response:
    """Stream as many words as ``?words=`` says."""
    return _stream(lambda: None)


def metered_words() -> Response:
    """Stream the same words, each charged by itself."""
    return _stream(lambda: current_payment.charge(msat=100))


def _stream(charge: Callable[[], None]) -> Response:
    def words() -> Iterator[str]:
        for number in range(int(request.args["words"])):
            charge()
            yield f"data: word{number}\n\n"

    return Response(stream_with_context(words()), mimetype="text/event-stream")

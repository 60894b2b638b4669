"""The app that is measured: one view bare, and the same view under a paywall."""

import os
import secrets
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256

from flask import Flask, Response, request, stream_with_context

from benchmarks.backends import Backend
from benchmarks.instant import InstantNode
from l402 import L402, current_payment, paywall
from l402.protocol import token

_UNLIMITED = "1000000000/minute"
_SATS = 10
#: A real node's settings, as in production. Paid requests ask no node; for challenges an instant
#: one stands in for it.
_INSTANT = f"lnd+https://127.0.0.1:1?network=regtest&macaroon=02{'00' * 40}"
#: Calls of the node at a time; as many as a server has threads
_CONCURRENCY = 4


def create_app(backend: Backend, node: str | None = None, concurrency: int = _CONCURRENCY) -> Flask:
    """Return the app; its node is the one that a URL names, or one that answers at once."""
    app = Flask("shop")
    app.config.update(
        L402_NODE=node or _INSTANT,
        L402_NODE_CONCURRENCY=concurrency,
        L402_SERVICE="shop",
        L402_SECRET_KEY="only for measuring, never for selling",
        L402_DATABASE_URL=backend.database,
        L402_RATE_LIMIT=_UNLIMITED,
        L402_CHALLENGE_LIMIT=_UNLIMITED,
        L402_CHALLENGE_LIMIT_TOTAL=_UNLIMITED,
    )
    if backend.limits:
        app.config["L402_RATELIMIT_STORAGE_URI"] = backend.limits
    L402(app)
    if node is None:
        gate = app.extensions["l402"]
        gate.desk.node = InstantNode(_SATS * 1000, gate.defaults.invoice_expiry)
    add_bare(app)
    app.add_url_rule("/paid", "paid", paywall(sats=_SATS)(view))
    app.add_url_rule("/call", "call", paywall(sats=1, uses=100)(view))
    app.add_url_rule("/words", "words", paywall(credit=500, reserve=50)(metered_words))
    return app


def served_app() -> Flask:
    """Return the app for a server's process, which is told of all by its environment."""
    node, concurrency = os.environ.get("BENCH_NODE"), os.environ.get("BENCH_CONCURRENCY")
    return create_app(Backend.from_environment(), node, int(concurrency or _CONCURRENCY))


def bare_app() -> Flask:
    """Return the same app without the extension."""
    app = Flask("bare")
    add_bare(app)
    return app


def add_bare(app: Flask) -> None:
    """Add the views that are free."""
    app.add_url_rule("/bare", "bare", lambda: view())
    app.add_url_rule("/free-words", "free_words", free_words)


def paid_token(app: Flask, kind: str = token.PASS, msat: int = _SATS * 1000) -> str:
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

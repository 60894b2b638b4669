"""Who is judged otherwise than the rules say."""

from typing import Any

from flask import Flask
from test_accounts import client_of
from test_gate import ask

from l402 import current_payment, paywall

SERVICE = "shop"


def set_price(app: Flask, endpoint: str, msat: int) -> None:
    gate = app.extensions["l402"]
    gate.store.prices.set(SERVICE, endpoint, "GET", msat)
    gate.sync._read_at = float("-inf")  # a second has passed


def test_what_a_callable_named_holds_for_each_call(make_app: Any) -> None:
    """Calls bought at a callable's price cost that on the way back, though one was set since."""
    app = make_app()

    @app.get("/called")
    @paywall(sats=lambda: 2, uses=10)
    def called() -> dict[str, Any]:
        return {"paid": current_payment.paid}

    client = client_of(app)
    assert client.get("/called").json == {"paid": 2000}
    set_price(app, "called", 3_000)
    assert client.get("/called").json == {"paid": 2000}


def test_a_revoked_token_streams_no_further(make_app: Any) -> None:
    """Revoked in mid-stream, an account has no more set aside for it."""
    app = make_app()

    @app.get("/words")
    @paywall(credit=10, reserve=1)
    def words() -> Any:
        charge = current_payment.charge

        def flow() -> Any:
            for n in range(100):
                charge(msat=100)
                yield str(n)

        return flow()

    client = client_of(app)
    answer = client.get("/words", buffered=False)
    chunks = iter(answer.response)
    next(chunks)
    gate = app.extensions["l402"]
    token = client.authorization
    (shown,) = gate.authentic(token)
    gate.store.revocations.revoke("token", shown.token_id.hex(), why="test")
    gate.sync._read_at = float("-inf")
    assert ask(app, token, "/words").json["reason"] == "revoked"
    rest = sum(1 for _ in chunks)
    answer.close()
    assert rest < 15


def test_a_view_behind_a_wrapper_is_not_refused_after_paying(make_app: Any) -> None:
    """A decorator without functools.wraps: a rate that moved meanwhile refuses nobody who paid."""
    rate = ["97000"]
    app = make_app(L402_RATES=lambda currency: rate[0], L402_RATE_MAX_AGE=60)
    inner = paywall(price="1 USD")(lambda: "yours")
    app.add_url_rule("/behind", "behind", lambda: inner())
    refused = ask(app, None, "/behind")
    preimage = app.extensions["l402"].desk.node.settle(refused.json["invoice"])
    app.extensions["l402"].clock.now += 100
    rate[0] = "96000"
    ask(app, None, "/behind").close()
    answer = ask(app, f"L402 {refused.json['macaroon']}:{preimage.hex()}", "/behind")
    assert answer.status_code == 200

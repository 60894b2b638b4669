"""Our own routes: a credential's state, and the stand-in wallet's locks."""

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Clock
from flask import Flask
from test_gate import CHALLENGE, ask, buy

from l402.blueprint import wallet_macaroon
from l402.store import Store

WALLET = "/l402/simulated/v2/router/send"


def test_a_holder_sees_the_credentials_state(app: Flask) -> None:
    """Service, what was paid, ends, uses so far and revoked; kept by no cache."""
    client, authorization = buy(app)
    client.get("/quote")
    response = ask(app, authorization, "/l402/credential")
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    gate = app.extensions["l402"]
    assert response.json == {
        "token_id": gate.holders.authentic(authorization)[0].token_id.hex(),
        "service": "shop", "kind": "pass", "network": "simulated", "paid_msat": 10_000,
        "issued_at": 1_800_000_000, "ends_at": 1_800_004_200, "ends_in": "1 h 10 min",
        "expired": False, "revoked": False, "uses": 2,
        "key_ends_at": 1_800_004_200, "balances": {},
    }  # fmt: skip


def test_expired_and_revoked_credentials_have_a_state_too(
    app: Flask, clock: Clock, database: str
) -> None:
    """An authentic credential gets 200 whatever became of it, before its first use as well."""
    challenge = CHALLENGE.fullmatch(ask(app).headers["WWW-Authenticate"])
    assert challenge
    gate = app.extensions["l402"]
    authorization = f"L402 {challenge[1]}:{gate.desk.node.settle(challenge[2]).hex()}"
    assert ask(app, authorization, "/l402/credential").json["uses"] == 0
    token_id = gate.holders.authentic(authorization)[0].token_id.hex()
    gate.store.revocations.revoke("token", token_id)
    clock.now += 86400
    state = ask(app, authorization, "/l402/credential").json
    assert (state["revoked"], state["expired"], state["ends_in"]) == (True, True, None)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 403), ("Bearer x", 403), ("L402 AAAA:" + "0" * 64, 403), ("L402 x", 400),
    ],
)  # fmt: skip
def test_others_are_refused_without_a_challenge(
    app: Flask, authorization: str | None, status: int
) -> None:
    """Whoever shows no paid token of ours gets 403, malformed 400, and never an invoice."""
    response = ask(app, authorization, "/l402/credential")
    assert response.status_code == status
    assert "WWW-Authenticate" not in response.headers


def test_inquiries_are_limited_by_address(make_app: Callable[..., Flask]) -> None:
    """Asking for states is as limited as asking for challenges."""
    app = make_app(L402_CHALLENGE_LIMIT="2/hour")
    codes = [ask(app, path="/l402/credential").status_code for _ in range(3)]
    assert codes == [403, 403, 429]


def test_the_stand_in_wallet_pays_whoever_may_use_it(app: Flask) -> None:
    """From loopback and with its macaroon: lnd's answer, with the preimage that opens."""
    challenge = CHALLENGE.fullmatch(ask(app).headers["WWW-Authenticate"])
    assert challenge
    right = {"Grpc-Metadata-macaroon": wallet_macaroon(app.extensions["l402"].keys)}
    response = app.test_client().post(WALLET, json={"payment_request": challenge[2]}, headers=right)
    result = response.json["result"]
    assert (result["status"], result["value_msat"]) == ("SUCCEEDED", "10000")
    authorization = f"L402 {challenge[1]}:{result['payment_preimage']}"
    assert ask(app, authorization).status_code == 200
    failed = app.test_client().post(WALLET, json={"payment_request": "lnbcrt1x"}, headers=right)
    assert failed.json["result"]["status"] == "FAILED"
    assert failed.json["result"]["payment_preimage"] == "0" * 64
    assert app.test_client().post(WALLET, json=[], headers=right).status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"Grpc-Metadata-macaroon": "00"}},
        {"headers": {"Grpc-Metadata-macaroon": "\xe9"}},
        {"headers": {"X-Forwarded-For": "127.0.0.1"}}, {"headers": {"Forwarded": "for=127.0.0.1"}},
        {"headers": {"X-Real-IP": "127.0.0.1"}}, {"headers": {"Via": "1.1 x"}},
        {"headers": {"X-Forwarded-Whatever": "x"}},
        {"headers": {"Host": "shop.example"}}, {"headers": {"Host": "127.0.0.1.example:80"}},
        {"environ_base": {"REMOTE_ADDR": "198.51.100.7"}}, {"environ_base": {"REMOTE_ADDR": ""}},
    ],
)  # fmt: skip
def test_the_stand_in_wallet_is_locked_to_everybody_else(app: Flask, wrong: dict[str, Any]) -> None:
    """Another address, another Host, any proxy's header or a wrong macaroon: 403."""
    challenge = CHALLENGE.fullmatch(ask(app).headers["WWW-Authenticate"])
    assert challenge
    headers = {"Grpc-Metadata-macaroon": wallet_macaroon(app.extensions["l402"].keys)}
    headers |= wrong.pop("headers", {})
    response = app.test_client().post(
        WALLET, json={"payment_request": challenge[2]}, headers=headers, **wrong
    )
    assert response.status_code == 403
    assert b"preimage" not in response.data


def test_no_prefix_no_routes_and_no_wallet_for_real_nodes(
    make_app: Callable[..., Flask], database: str
) -> None:
    """URL_PREFIX=None registers nothing; a real node has no stand-in wallet."""
    bare = make_app(L402_URL_PREFIX=None)
    assert not [r for r in bare.url_map.iter_rules() if r.endpoint.startswith("l402.")]
    real = make_app(
        L402_NODE="lnd+https://127.0.0.1:8080?macaroon=0200000000000000000000000000000000000000000000000000000000000000000000000000000000"
    )
    assert {r.endpoint for r in real.url_map.iter_rules() if r.endpoint.startswith("l402.")} == {
        "l402.credential"
    }
    assert Store(database)

"""The status table, row by row, and what stands behind it."""

import re
import threading
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Clock
from flask import Flask
from sqlalchemy import create_engine, text

from l402.errors import NodeUnreachable, StoreUnavailable
from l402.nodes.base import Settlement
from l402.protocol import bolt11
from l402.testing import PayingClient

CHALLENGE = re.compile(
    r'L402 macaroon="([A-Za-z0-9+/]+=*)", invoice="(lnbcrt[0-9a-z]+)", version="0", token="\1"'
)


def rows(database: str, table: str) -> int:
    with create_engine(database).connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def buy(app: Flask, path: str = "/quote") -> tuple[PayingClient, str]:
    """Return a client and the Authorization that it bought."""
    client = app.test_client()
    assert isinstance(client, PayingClient)
    assert client.get(path).status_code == 200
    assert client.authorization
    return client, client.authorization


def ask(app: Flask, authorization: str | None = None, path: str = "/quote", **kwargs: Any) -> Any:
    """Send one request without paying."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    with app.test_request_context():
        pass
    client = app.test_client()
    client.__class__ = app.test_client_class.__mro__[1]  # the plain FlaskClient
    return client.open(path, headers=headers, **kwargs)


def test_an_unpaid_request_gets_a_challenge_to_the_byte(app: Flask) -> None:
    """No Authorization: 402, one header line, its twin in the body, and nothing kept by caches."""
    response = ask(app)
    assert response.status_code == 402
    assert len(response.headers.getlist("WWW-Authenticate")) == 1
    found = CHALLENGE.fullmatch(response.headers["WWW-Authenticate"])
    assert found
    assert response.headers["Cache-Control"] == "no-store"
    assert "Authorization" in response.headers["Vary"]
    invoice = bolt11.decode(found[2])
    assert invoice.msat == 10_000
    assert response.json == {
        "error": "payment_required", "reason": "no_credential",
        "macaroon": found[1], "token": found[1],
        "invoice": found[2], "paymentRequest": found[2],
        "amountSats": 10, "priceSats": 10, "payment_hash": invoice.payment_hash.hex(),
    }  # fmt: skip
    raw = b64decode(found[1], validate=True)
    assert len(found[1]) < 6 * 1024
    assert raw[2] == 4  # the location is not empty
    assert b"\x00\x00" + invoice.payment_hash in raw


@pytest.mark.parametrize("other", ["Bearer abc", "Basic YTpi", "Whatever", "", "L4021 a:b"])
def test_other_schemes_get_a_challenge(app: Flask, other: str) -> None:
    """Bearer, Basic and unknown schemes are answered as if nothing was shown."""
    response = ask(app, other)
    assert (response.status_code, response.json["reason"]) == (402, "no_credential")


def test_paying_opens_the_view_and_repeats_cost_nothing(app: Flask, database: str) -> None:
    """One payment, any number of calls, no WWW-Authenticate on them, one row of each kind."""
    client, _ = buy(app)
    for _ in range(3):
        response = client.get("/quote")
        assert response.status_code == 200
        assert "WWW-Authenticate" not in response.headers
        assert response.headers["Cache-Control"] == "private"
        assert "Authorization" in response.headers["Vary"]
        assert response.headers["L402-Simulated"]
    assert client.payments == 1
    assert response.json["paid"] == 10_000
    assert rows(database, "l402_payment") == rows(database, "l402_credential") == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda m, p: f"L402 {m}:{p}",
        lambda m, p: f"l402 {m}:{p.upper()}",
        lambda m, p: f"LSAT {m}:{p}",
        lambda m, p: f"L402 L402 {m}:{p}",
        lambda m, p: f"L402 LSAT {m}:{p}",
        lambda m, p: f"LSAT {m}:{p},L402 {m}:{p}",
        lambda m, p: f"LSAT {m}:{p}, L402 {m}:{p}",
        lambda m, p: f"L402 {m.rstrip('=')}:{p}",
        lambda m, p: f"L402 {urlsafe_b64encode(b64decode(m)).decode()}:{p}",
        lambda m, p: f"L402 {urlsafe_b64encode(b64decode(m)).decode().rstrip('=')}:{p}",
        lambda m, p: f"L402 broken:1, L402 {m}:{p}",
        lambda m, p: f"Bearer abc, L402 {m}:{p}",
    ],
)
def test_every_form_that_clients_send_is_accepted(
    app: Flask, write: Callable[[str, str], str]
) -> None:
    """Schemes, alphabets, padding, doubled schemes and joined lines all open the view."""
    _, authorization = buy(app)
    macaroon, preimage = authorization.removeprefix("L402 ").split(":")
    assert ask(app, write(macaroon, preimage)).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "L402", "L402 ", "L402 :", "L402 abc", "L402 AAAA:12", "L402 AAAA:" + "g" * 64,
        "L402 AAAA:" + "0" * 63, "L402 AAAA:" + "0" * 66, "L402 A_+A:" + "0" * 64,
        "L402 A:" + "0" * 64, "L402 ????:" + "0" * 64, "L402 AAAA=:" + "0" * 64 + "x",
        "L402 " + "A" * 16400 + ":" + "0" * 64, "L402 " + "A" * 12000 + ":" + "0" * 64,
        ",".join(["L402 AAAA:" + "0" * 64] * 5),
    ],
)  # fmt: skip
def test_what_paying_cannot_mend_is_a_bad_request(app: Flask, authorization: str) -> None:
    """A preimage that is not hex, a macaroon that is not base64, too much of anything: 400."""
    response = ask(app, authorization)
    assert (response.status_code, response.json["reason"]) == (400, "malformed")
    assert "WWW-Authenticate" not in response.headers


@pytest.mark.parametrize("macaroon", [b"", b"\x02", b"hello", b"\x01" * 40, b"\x02" + b"\0" * 99])
def test_another_servers_macaroon_gets_a_challenge(app: Flask, macaroon: bytes) -> None:
    """Valid base64 that is no macaroon of ours is answered with a fresh challenge."""
    shown = b64encode(macaroon or b"x").decode()
    response = ask(app, f"L402 {shown}:{'0' * 64}")
    assert (response.status_code, response.json["reason"]) == (402, "invalid")


def test_a_wrong_preimage_and_a_flipped_bit_are_invalid(app: Flask) -> None:
    """Whoever lacks the right preimage or signature is told no more than `invalid`."""
    _, authorization = buy(app)
    macaroon, preimage = authorization.removeprefix("L402 ").split(":")
    flipped = bytearray(b64decode(macaroon))
    flipped[-1] ^= 1
    for shown in (f"{macaroon}:{'0' * 64}", f"{b64encode(flipped).decode()}:{preimage}"):
        response = ask(app, f"L402 {shown}")
        assert (response.status_code, response.json["reason"]) == (402, "invalid")
        assert response.headers["WWW-Authenticate"]


def test_a_known_token_with_a_wrong_preimage_stays_shut(app: Flask) -> None:
    """The cache is keyed by what was shown, so a known token id opens nothing by itself."""
    client, authorization = buy(app)
    assert client.get("/quote").status_code == 200
    macaroon, _ = authorization.removeprefix("L402 ").split(":")
    assert ask(app, f"L402 {macaroon}:{'1' * 64}").status_code == 402


def test_an_expired_pass_is_offered_anew_to_the_second(app: Flask, clock: Clock) -> None:
    """A pass lasts from the invoice's end for its length, and not a second more."""
    _, authorization = buy(app)
    clock.now += 600 + 3600 - 1
    assert ask(app, authorization).status_code == 200
    clock.now += 1
    response = ask(app, authorization)
    assert (response.status_code, response.json["reason"]) == (402, "expired")
    assert CHALLENGE.fullmatch(response.headers["WWW-Authenticate"])


def test_a_cheap_pass_never_opens_a_dearer_view(app: Flask) -> None:
    """What was paid opens what costs no more, of the same service."""
    _client, authorization = buy(app)
    assert ask(app, authorization, "/fact").status_code == 200
    assert ask(app, authorization, "/dear").json["reason"] == "price_too_low"
    assert ask(app, authorization, "/foreign").json["reason"] == "wrong_service"
    _, dear = buy(app, "/dear")
    assert ask(app, dear).status_code == 200


def test_a_removed_key_refuses_and_a_rotated_one_does_not(
    make_app: Callable[..., Flask], app: Flask
) -> None:
    """Rotation keeps paid tokens good; removing the key that signed them refuses them."""
    from conftest import SECRET

    _, authorization = buy(app)
    new = "another secret of more than 32 bytes, made anew"
    rotated = make_app(L402_SECRET_KEY=new, L402_SECRET_KEY_FALLBACKS=[SECRET])
    assert ask(rotated, authorization).status_code == 200
    response = ask(make_app(L402_SECRET_KEY=new), authorization)
    assert (response.status_code, response.json["reason"]) == (402, "invalid")


def test_two_credentials_are_judged_whole_and_one_opens(app: Flask) -> None:
    """Of several credentials the one that covers the view opens it; parts are never mixed."""
    _, cheap = buy(app)
    _, dear = buy(app, "/dear")
    assert ask(app, f"{cheap}, {dear}", "/dear").status_code == 200
    first, second = (c.removeprefix("L402 ").split(":") for c in (cheap, dear))
    mixed = f"L402 {first[0]}:{second[1]}, L402 {second[0]}:{first[1]}"
    assert ask(app, mixed).json["reason"] == "invalid"


def test_a_revoked_token_gets_a_challenge_at_once_in_this_process(
    app: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the process has read the revocation, which it does within a second, it refuses."""
    _client, authorization = buy(app)
    gate = app.extensions["l402"]
    token_id = gate.holders.authentic(authorization)[0].token_id
    gate.store.revocations.revoke("token", token_id.hex(), why="test")
    gate.sync._read_at = float("-inf")  # a second has passed
    response = ask(app, authorization)
    assert (response.status_code, response.json["reason"]) == (402, "revoked")


def test_the_tokens_limit_is_answered_with_429(make_app: Callable[..., Flask]) -> None:
    """Over its rate: 429 with Retry-After and no challenge; another token is not touched."""
    app = make_app(L402_RATE_LIMIT="3/hour")
    _, authorization = buy(app)
    assert [ask(app, authorization).status_code for _ in range(3)] == [200, 200, 429]
    response = ask(app, authorization)
    assert 0 < int(response.headers["Retry-After"]) <= 3600
    assert "WWW-Authenticate" not in response.headers
    assert response.json["reason"] == "rate_limited"
    buy(app)


def test_a_views_limit_is_a_bucket_of_its_own(app: Flask) -> None:
    """`limit=` counts per token and endpoint; other views go on."""
    _client, authorization = buy(app, "/limited")
    assert [ask(app, authorization, "/limited").status_code for _ in range(2)] == [200, 429]
    assert ask(app, authorization).status_code == 200


def test_challenges_are_limited_by_address(make_app: Callable[..., Flask]) -> None:
    """An address that only asks gets 429, without an invoice; a holder is served."""
    app = make_app(L402_CHALLENGE_LIMIT="2/hour")
    _, authorization = buy(app)
    assert [ask(app).status_code for _ in range(2)] == [402, 429]
    assert ask(app, "L402 AAAA:" + "0" * 64).status_code == 429
    assert ask(app, authorization).status_code == 200
    elsewhere = {"REMOTE_ADDR": "198.51.100.7"}
    assert ask(app, environ_base=elsewhere).status_code == 402


def test_a_store_that_does_not_answer_costs_nobody_money(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cached pass is served for a while; a new one gets 503, and nobody a challenge."""
    _client, authorization = buy(app)
    fresh = app.test_client()
    challenge = ask(app).headers["WWW-Authenticate"]
    gate = app.extensions["l402"]

    def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(gate.store.revocations, "changes", down)
    monkeypatch.setattr(gate.store.payments, "admit", down)
    found = CHALLENGE.fullmatch(challenge)
    assert found
    preimage = gate.desk.node.settle(found[2])
    response = ask(app, f"L402 {found[1]}:{preimage.hex()}")
    assert (response.status_code, response.json["reason"]) == (503, "store_unavailable")
    assert response.headers["Retry-After"]
    assert "WWW-Authenticate" not in response.headers
    gate.sync._read_at -= 2
    assert ask(app, authorization).status_code == 200
    assert ask(app).status_code == 503
    gate.sync._read_at -= 61
    assert ask(app, authorization).status_code == 503
    monkeypatch.undo()
    gate.sync._down = None
    assert ask(app, authorization).status_code == 200
    assert fresh.get("/quote").status_code == 200


def test_a_node_that_does_not_answer_leaves_holders_alone(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a credential: 503 and Retry-After; with one: served."""
    _, authorization = buy(app)

    def down(*_: object) -> None:
        raise NodeUnreachable("down", retry_after=7)

    monkeypatch.setattr(app.extensions["l402"].desk, "create_invoice", down)
    response = ask(app)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
    assert response.json["reason"] == "node_unavailable"
    assert ask(app, authorization).status_code == 200


@pytest.mark.parametrize(
    ("answers", "status", "reason"),
    [
        ([Settlement.SETTLED], 200, None),
        ([Settlement.IN_FLIGHT, Settlement.SETTLED], 200, None),
        ([Settlement.OPEN] * 4, 503, "unsettled"),
        ([NodeUnreachable("down")], 503, "unsettled"),
        ([Settlement.GONE], 402, "unpaid"),
        ([Settlement.UNDERPAID], 402, "unpaid"),
    ],
)
def test_strict_asks_the_node_once_per_payment(
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[Any],
    status: int,
    reason: str | None,
) -> None:
    """Strict: settled opens and is remembered, in flight waits, unknown or underpaid is offered."""
    gate = app.extensions["l402"]
    gate.bookings.strict = True
    asked: list[bytes] = []

    def look_up(payment_hash: bytes) -> Settlement:
        asked.append(payment_hash)
        answer = answers[min(len(asked), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(gate.desk, "look_up", look_up)
    monkeypatch.setattr("l402.bookings._SETTLEMENT_PAUSE", 0)
    client = app.test_client()
    response = client.get("/quote")
    assert response.status_code == status
    assert ("WWW-Authenticate" in response.headers) == (status == 402)
    if reason:
        assert response.json["reason"] == reason
    else:
        before = len(asked)
        gate.holders.verified.evict(lambda _: True)
        assert client.get("/quote").status_code == 200
        assert len(asked) == before


def test_free_by_callable_needs_no_token(app: Flask) -> None:
    """A callable price of 0 serves the request, and current_payment is falsy."""
    response = ask(app, path="/report?rows=0")
    assert (response.status_code, response.json) == (200, {"paid": 0, "sold": False})
    assert ask(app, path="/report?rows=7").json["amountSats"] == 7
    assert ask(app, path="/report?rows=x").status_code == 400


def test_unpaid_challenges_leave_no_rows(app: Flask, database: str) -> None:
    """Strangers cannot grow the tables: challenges leave the day's count and nothing else."""
    for _ in range(20):
        assert ask(app).status_code == 402
    app.extensions["l402"].sync.flush()
    assert rows(database, "l402_payment") == rows(database, "l402_credential") == 0
    assert rows(database, "l402_challenge_count") == 1


def test_appended_caveats_only_narrow_and_never_reach_the_record(app: Flask, database: str) -> None:
    """A holder's narrowed copy opens less, and what was booked is what we signed."""
    import hmac
    from hashlib import sha256

    _, authorization = buy(app)
    macaroon, preimage = authorization.removeprefix("L402 ").split(":")

    def narrowed(caveat: str) -> str:
        raw = b64decode(macaroon)
        head, signature = raw[:-35], raw[-32:]
        signature = hmac.digest(signature, caveat.encode(), sha256)
        extended = head + bytes([2, len(caveat)]) + caveat.encode() + b"\0\0\x06\x20" + signature
        return f"L402 {b64encode(extended).decode()}:{preimage}"

    for caveat, status in {
        f"preimage={preimage}": 200, f"preimage={'0' * 64}": 402, "unknown=1": 200,
        "endpoint=quote": 200, "endpoint=fact": 402, "paid_msat=9999": 402,
        "paid_msat=10000": 200, "ends_at=1": 402, "shop_valid_until=1": 402,
        "services=shop:0,other:0": 200, "services=other:0": 402, "kind=credit": 402,
        "paid_msat=99999999": 200, "ends_at=soon": 402, "method=GET": 200, "method=POST": 402,
    }.items():  # fmt: skip
        assert ask(app, narrowed(caveat)).status_code == status, caveat
    assert ask(app, narrowed("paid_msat=99999999"), "/dear").status_code == 402
    with create_engine(database).connect() as connection:
        assert connection.execute(text("SELECT msat FROM l402_payment")).scalars().all() == [10_000]


def test_racing_first_presentations_are_booked_once(app: Flask, database: str) -> None:
    """Threads that show the same new token at once leave one payment and one signal."""
    from l402.signals import first_paid

    challenge = CHALLENGE.fullmatch(ask(app).headers["WWW-Authenticate"])
    assert challenge
    preimage = app.extensions["l402"].desk.node.settle(challenge[2])
    authorization = f"L402 {challenge[1]}:{preimage.hex()}"
    seen: list[object] = []
    statuses: list[int] = []

    def listen(_: object, **told: object) -> None:
        seen.append(told)

    barrier = threading.Barrier(8)

    def show() -> None:
        barrier.wait(30)
        statuses.append(ask(app, authorization).status_code)

    with first_paid.connected_to(listen, app):
        threads = [threading.Thread(target=show) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert statuses == [200] * 8
    assert len(seen) == 1
    assert rows(database, "l402_payment") == 1


def test_a_limited_token_does_not_spoil_a_good_one(make_app: Callable[..., Flask]) -> None:
    """Of two covering tokens one is over its rate: the other opens the view."""
    app = make_app(L402_RATE_LIMIT="2/hour")
    _, spent = buy(app)
    assert [ask(app, spent).status_code for _ in range(2)] == [200, 429]
    _, fresh = buy(app)
    assert ask(app, f"{spent}, {fresh}").status_code == 200


def test_a_price_callable_never_runs_uncounted(make_app: Callable[..., Flask]) -> None:
    """Neither a stale token nor a cheap one lets anybody run a price callable without limit."""
    from l402 import paywall

    app = make_app(L402_CHALLENGE_LIMIT="5/hour", L402_RATE_LIMIT="5/hour")
    ran: list[int] = []

    @app.get("/priced")
    @paywall(sats=lambda: ran.append(1) or 20)
    def priced() -> str:
        return ""

    _, cheap = buy(app)
    for _ in range(20):
        ask(app, cheap, "/priced")
        ask(app, path="/priced")
    assert len(ran) <= 10


def test_a_forked_child_asks_the_record_again(app: Flask) -> None:
    """What the parent had verified and booked, and its locks, are not the child's."""
    import os

    _, authorization = buy(app)
    gate = app.extensions["l402"]
    gate.store.revocations.revoke("token", gate.holders.authentic(authorization)[0].token_id.hex())
    with gate.holders.verified._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if ask(app, authorization).status_code == 402 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

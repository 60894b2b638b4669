"""Idempotency-Key: sent again, answered again, charged once."""

import io
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Clock
from flask import Flask, Response, abort, request
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from test_accounts import append_caveat, balance, client_of, token_id
from test_gate import ask
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from benchmarks.shop import paid_token
from l402 import idempotency, paywall
from l402.errors import Malformed
from l402.protocol.authorization import parse
from l402.protocol.token import CREDIT
from l402.testing import PayingClient

PRICE = 2000


class Shop:
    """Views that count their runs, and a client with credit for fifty calls."""

    def __init__(self, app: Flask) -> None:
        self.app, self.runs, self.gate = app, 0, app.extensions["l402"]
        self.go, self.running = threading.Event(), threading.Event()
        self.go.set()

        @app.post("/job/<name>")
        @paywall(sats=2, uses=50)
        def job(name: str) -> Any:
            self.runs += 1
            self.running.set()
            assert self.go.wait(30)
            code = int(request.args.get("code", 201))
            answer = Response(f"{name} {self.runs}", code, {"X-Job": str(self.runs)})
            answer.set_cookie("visitor", "one")
            return answer

        @app.get("/large")
        @paywall(sats=2, uses=50)
        def large() -> str:
            self.runs += 1
            return "x" * (idempotency.LARGEST + 1)

        @app.get("/flow")
        @paywall(sats=2, uses=50)
        def flow() -> Response:
            self.runs += 1
            return Response(iter(["a", "b"]))

        self.client: PayingClient = client_of(app)
        self.send("first", code=500)
        self.runs = 0

    def send(self, name: str, key: str | None = None, **kwargs: Any) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        query = {"code": kwargs.pop("code", 201)}
        return self.client.post(f"/job/{name}", headers=headers, query_string=query, **kwargs)

    @property
    def left(self) -> int:
        left = balance(self.app, self.client.authorization)
        assert left is not None
        return left


@pytest.fixture
def shop(app: Flask) -> Shop:
    return Shop(app)


def test_a_finished_call_is_answered_again(shop: Shop) -> None:
    """The same status, headers and body; no run, no charge; no cookie of the first visitor."""
    before = shop.left
    first, again = shop.send("a", '"k1"'), shop.send("a", '"k1"')
    assert (again.status_code, again.data) == (first.status_code, first.data) == (201, b"a 1")
    assert again.headers["X-Job"] == "1"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Cache-Control"] == "private"
    assert "Authorization" in again.headers["Vary"]
    assert "Set-Cookie" not in again.headers
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["L402-Balance-Msat"] == str(before - PRICE)
    assert shop.runs == 1
    assert shop.left == before - PRICE


def test_quoted_and_bare_keys_are_one(shop: Shop) -> None:
    """A structured string and the bare value name the same key; other text another."""
    assert shop.send("a", '"k1"').data == shop.send("a", "k1").data == b"a 1"
    assert shop.send("a", '"k2"').data == b"a 2"
    assert shop.send("a").data == b"a 3"


@pytest.mark.parametrize("key", ["", '""', '"', '"a', 'a"b', "x" * 256, "é", '"\x7f"', "a, b"])
def test_what_is_no_key_is_a_bad_request(shop: Shop, key: str) -> None:
    """400, and nothing is run or charged."""
    before = shop.left
    answer = shop.send("a", key)
    assert (answer.status_code, answer.json["reason"]) == (400, "malformed")
    assert "Idempotency-Key" in answer.json["detail"]
    assert (shop.runs, shop.left) == (0, before)


def test_another_request_under_the_same_key_is_refused(shop: Shop) -> None:
    """422 for another path, query, body or method; parameters in another order are the same."""
    shop.send("a", "k", data=b"one")
    for other in (
        shop.send("b", "k", data=b"one"),
        shop.send("a", "k", data=b"two"),
        shop.send("a", "k", data=b"one", code=202),
        shop.client.get("/large", headers={"Idempotency-Key": "k"}),
    ):
        assert (other.status_code, other.json["reason"]) == (422, "other_request")
    assert shop.send("a", "k", data=b"one").status_code == 201
    assert shop.runs == 1


def test_a_form_that_was_read_before_is_compared_too(app: Flask) -> None:
    """A host's hook or a price may take a form's bytes; its fields and files still count."""
    app.before_request(lambda: request.form.get("csrf") and None)

    @app.post("/form")
    @paywall(sats=2, uses=50)
    def form() -> str:
        return request.form["name"] + (
            request.files["file"].read().decode() if request.files else ""
        )

    client = client_of(app)
    for number, (sent, other) in enumerate([
        ({"name": "ada"}, {"name": "bob"}),
        ({"name": "ada", "file": "one"}, {"name": "ada", "file": "two"}),
    ]):  # fmt: skip

        def send(fields: dict[str, str], key: str = f"k{number}") -> Any:
            named = {name: (io.BytesIO(value.encode()), "a.txt") if name == "file" else value
                     for name, value in fields.items()}  # fmt: skip
            return client.post("/form", data=named, headers={"Idempotency-Key": key})

        assert send(sent).text == send(sent).text == "".join(sent.values())
        assert send(other).status_code == 422


def test_keys_belong_to_accounts(shop: Shop) -> None:
    """Another account's call under the same key is another call."""
    shop.send("a", "k")
    client = client_of(shop.app)
    answer = client.post("/job/a?code=201", headers={"Idempotency-Key": "k"})
    assert answer.data == b"a 2"
    assert token_id(client.authorization) != token_id(shop.client.authorization)


def test_a_call_in_progress_is_refused(shop: Shop) -> None:
    """409 with Retry-After while the first one runs; then its answer."""
    shop.go.clear()
    shop.running.clear()
    answers: list[Any] = []
    header = shop.client.authorization

    def send() -> None:
        answers.append(
            ask(shop.app, None, "/job/a", method="POST",
                query_string={"code": 201}, environ_overrides=keyed)
        )  # fmt: skip

    keyed = {"HTTP_AUTHORIZATION": header, "HTTP_IDEMPOTENCY_KEY": "k"}
    thread = threading.Thread(target=send)
    thread.start()
    assert shop.running.wait(30)
    refused = shop.send("a", "k")
    assert (refused.status_code, refused.json["reason"]) == (409, "in_progress")
    assert refused.headers["Retry-After"]
    shop.go.set()
    thread.join(30)
    assert answers[0].data == shop.send("a", "k").data == b"a 1"
    assert shop.runs == 1


def test_a_failed_call_runs_again(shop: Shop) -> None:
    """What was not charged is not kept."""
    before = shop.left
    assert shop.send("a", "k", code=503).status_code == 503
    assert shop.left == before
    assert shop.send("a", "k", code=503).status_code == 503
    assert shop.runs == 2


def test_what_is_too_large_or_streamed_cannot_be_replayed(shop: Shop) -> None:
    """It is delivered and charged once; then 409, uncharged."""
    for path in ("/large", "/flow"):
        before = shop.left
        keyed = {"Idempotency-Key": f"key-of-{path}"}
        first = shop.client.get(path, headers=keyed)
        assert first.status_code == 200
        first.close()
        again = shop.client.get(path, headers=keyed)
        assert (again.status_code, again.json["reason"]) == (409, "not_replayable")
        assert shop.left == before - PRICE
    assert shop.runs == 2


def test_another_token_does_not_pay_for_a_repeat(shop: Shop) -> None:
    """What the first token's account knows under a key is the answer, whoever is shown beside."""
    client = client_of(shop.app)
    client.post("/job/a?code=500")
    both = f"{shop.client.authorization}, {client.authorization}"
    keyed = {"HTTP_IDEMPOTENCY_KEY": "k"}
    ask(shop.app, both, "/flow", environ_overrides=keyed).close()
    runs, left = shop.runs, balance(shop.app, client.authorization)
    for path, status in (("/flow", 409), ("/large", 422)):
        assert ask(shop.app, both, path, environ_overrides=keyed).status_code == status
    assert (shop.runs, balance(shop.app, client.authorization)) == (runs, left)


def test_an_empty_balance_still_replays(shop: Shop) -> None:
    """What was paid for is answered again without any credit left."""
    shop.send("a", "k")
    while shop.left:
        shop.send("b")
    payments, runs = shop.client.payments, shop.runs
    assert shop.send("a", "k").data == b"a 1"
    assert (shop.client.payments, shop.runs) == (payments, runs)


def names(app: Flask, **price: Any) -> set[str]:
    """Sell names, each once; return those that are taken."""
    taken: set[str] = set()

    def check() -> None:
        if request.args["name"] in taken:
            abort(410, "taken")

    @app.post("/names")
    @paywall(uses=5, validate=check, **price)
    def sold() -> str:
        taken.add(request.args["name"])
        return "yours"

    return taken


def test_a_repeat_is_not_checked_again(app: Flask) -> None:
    """What the call itself has changed does not have `validate=` refuse the call's repeat."""
    names(app, sats=1)
    client = client_of(app)
    asked = {"path": "/names?name=alice", "headers": {"Idempotency-Key": '"k"'}}
    assert client.post(**asked).text == client.post(**asked).text == "yours"
    assert client.post("/names?name=alice").status_code == 410
    other = client.post("/names?name=bob", headers=asked["headers"])
    assert (other.status_code, other.json["reason"]) == (422, "other_request")


def test_a_repeat_has_no_price(make_app: Callable[..., Flask], clock: Clock) -> None:
    """Nothing is reckoned for an answer that was paid for: no rate is needed."""
    rates = ["97000"]
    app = make_app(L402_RATES=lambda _currency: rates.pop(), L402_RATE_MAX_AGE=60)
    names(app, price="0.01 USD")
    client = client_of(app)
    asked = {"path": "/names?name=alice", "headers": {"Idempotency-Key": '"k"'}}
    assert client.post(**asked).text == "yours"
    clock.now += 3600
    assert client.post(**asked).text == "yours"
    assert client.post("/names?name=bob").status_code == 503


def test_revocation_comes_before_a_replay(shop: Shop) -> None:
    """Who may call no more gets no earlier answer either."""
    shop.send("a", "k")
    shop.gate.store.revocations.revoke("token", token_id(shop.client.authorization).hex())
    shop.gate.sync._read()
    keyed = {"HTTP_IDEMPOTENCY_KEY": "k"}
    answer = ask(shop.app, shop.client.authorization, "/job/a", method="POST",
                 query_string={"code": 201}, environ_overrides=keyed)  # fmt: skip
    assert (answer.status_code, answer.json["reason"]) == (402, "revoked")


def test_answers_are_kept_for_a_day(shop: Shop, clock: Clock) -> None:
    """After that the key is new."""
    shop.send("a", "k")
    clock.now += 86400 - 1
    assert shop.send("a", "k").data == b"a 1"
    clock.now += 1
    assert shop.send("a", "k").data == b"a 2"


def test_a_402_is_never_kept(shop: Shop) -> None:
    """A challenge under a key does not stand in the way of the paid call."""
    client = client_of(shop.app)
    answer = client.post("/job/a?code=201", headers={"Idempotency-Key": "new"})
    assert client.payments == 1
    assert answer.status_code == 201


def test_passes_take_no_notice_of_it(shop: Shop) -> None:
    """A pass has nothing to charge twice."""
    client = client_of(shop.app)
    for key in ("k", "k", ""):
        assert client.get("/quote", headers={"Idempotency-Key": key}).status_code == 200


@given(st.text(max_size=300))
def test_any_header_is_a_key_or_malformed(text: str) -> None:
    """Whatever stands in the header: one digest of 32 bytes, or our own error."""
    environ = EnvironBuilder().get_environ() | {"HTTP_IDEMPOTENCY_KEY": text}
    try:
        read = idempotency.call(Request(environ))
    except Malformed:
        return
    assert read is not None
    assert len(read().key) == len(read().fingerprint) == 32


def test_a_view_may_read_the_body_as_a_stream(app: Flask) -> None:
    """Taking the fingerprint leaves the body where the view looks for it."""

    @app.post("/count")
    @paywall(sats=2, uses=5)
    def count() -> str:
        return str(len(request.stream.read()))

    client = client_of(app)
    assert client.post("/count", data=b"x" * 100, headers={"Idempotency-Key": "k"}).text == "100"


def test_a_body_that_is_too_large_for_a_key_is_refused(shop: Shop) -> None:
    """413, before anything is held of it; without a key it is the host's to judge."""
    before, large = shop.left, b"x" * (idempotency.LARGEST_REQUEST + 1)
    assert shop.send("a", "k", data=large).status_code == 413
    assert (shop.runs, shop.left) == (0, before)
    assert shop.send("a", data=large).status_code == 201


def test_the_order_of_one_names_values_counts(shop: Shop) -> None:
    """?a=1&a=2 and ?a=2&a=1 are two requests; the order of the names does not matter."""
    keyed = {"Idempotency-Key": "k"}
    for query, status in (("a=1&a=2&b=3", 201), ("b=3&a=1&a=2", 201), ("a=2&a=1&b=3", 422)):
        answer = shop.client.post(f"/job/a?{query}", headers=keyed)
        assert answer.status_code == status


def test_head_and_get_are_two_requests(shop: Shop) -> None:
    """The answer to a HEAD has no body to give to a GET."""
    keyed = {"Idempotency-Key": "k"}
    assert shop.client.head("/large", headers=keyed).status_code == 200
    assert shop.client.get("/large", headers=keyed).status_code == 422


def test_a_part_is_not_kept(app: Flask) -> None:
    """A 304 answers a validator, a 206 a range: neither is given to who asked for the whole."""

    @app.get("/partly")
    @paywall(sats=2, uses=5)
    def partly() -> Response:
        return Response(status=304)

    client, keyed = client_of(app), {"Idempotency-Key": "k"}
    assert client.get("/partly", headers=keyed).status_code == 304
    assert client.get("/partly", headers=keyed).json["reason"] == "not_replayable"


def test_looking_for_an_answer_books_nothing(shop: Shop, clock: Clock) -> None:
    """A token that its limits keep out is not booked because its call came with a key."""
    clock.now = time.time()
    (held,) = parse(header := paid_token(shop.app, CREDIT, 100_000))
    narrowed = f"L402 {append_caveat(held.macaroon, 'paid_msat=1')}:{held.preimage.hex()}"
    keyed = {"Authorization": narrowed, "Idempotency-Key": "k"}
    refused = FlaskClient(shop.app).post("/job/one", headers=keyed)
    assert (refused.status_code, refused.json["reason"]) == (402, "narrowed")
    assert shop.gate.store.credentials.state(token_id(header)) is None

"""Selling calls: reserved before the view runs, taken where it returns, given back if it failed."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Clock
from flask import Flask, Response, abort, request, stream_with_context
from sqlalchemy import create_engine, text
from test_accounts import balance, client_of
from test_gate import ask

from l402 import current_payment, paywall
from l402.errors import StoreUnavailable
from l402.signals import admitted
from l402.testing import PayingClient

PRICE, BOUGHT = 2000, 10_000


@pytest.fixture
def shop(app: Flask) -> Flask:
    """Views that draw on credit and end in every way."""

    @app.get("/answer/<int:code>")
    @paywall(sats=2, uses=5)
    def answer(code: int) -> tuple[str, int]:
        return "as told", code

    @app.get("/aborts")
    @paywall(sats=2, uses=5)
    def aborts() -> str:
        abort(418)

    @app.get("/raises")
    @paywall(sats=2, uses=5)
    def raises() -> str:
        raise KeyError("a fault of the host's")

    @app.get("/found/<int:code>")
    @paywall(sats=2, uses=5, charge_on={200, 404})
    def found(code: int) -> tuple[str, int]:
        return "looked", code

    @app.get("/stream")
    @paywall(sats=2, uses=5)
    def stream() -> Response:
        before = current_payment.balance

        def words() -> Iterator[str]:
            yield f"{before},"
            yield str(balance_now())
            raise RuntimeError("the stream breaks")

        return Response(stream_with_context(words()))

    def balance_now() -> int:
        (credit,) = app.extensions["l402"].store.credits.of(current_payment.token.token_id)
        return int(credit.balance + credit.reserved)

    @app.get("/report2")
    @paywall(sats=lambda: int(request.args["rows"]), uses=2)
    def report2() -> dict[str, object]:
        return {"paid": current_payment.paid}

    @app.post("/post")
    @paywall(sats=2, uses=5)
    def post() -> Any:
        return request.get_json()

    @app.get("/awaited")
    @paywall(sats=2, uses=5)
    async def awaited() -> str:
        return "async"

    return app


def holder(app: Flask) -> PayingClient:
    """Return a client that has bought five calls and used none."""
    client = client_of(app)
    assert client.get("/answer/500").status_code == 500
    assert client.payments == 1
    assert balance(app, client.authorization) == BOUGHT
    return client


@pytest.mark.parametrize("code", [200, 201, 204, 302, 399])
def test_a_success_is_charged(shop: Flask, code: int) -> None:
    """Whatever the status below 400."""
    client = holder(shop)
    client.get(f"/answer/{code}")
    assert balance(shop, client.authorization) == BOUGHT - PRICE


@pytest.mark.parametrize(
    "path", ["/answer/400", "/answer/404", "/answer/500", "/answer/599", "/aborts", "/found/500"]
)
def test_a_failure_is_given_back(shop: Flask, path: str) -> None:
    """A status of 400 or more costs nothing, returned or raised; the header says what is left."""
    client = holder(shop)
    answer = client.get(path)
    assert answer.status_code >= 400
    assert answer.headers["L402-Balance-Msat"] == str(BOUGHT)
    assert balance(shop, client.authorization) == BOUGHT


def test_an_exception_is_given_back(shop: Flask) -> None:
    """A view that raises costs nothing, whether the host turns it into a 500 or not."""
    client = holder(shop)
    with pytest.raises(KeyError):
        client.get("/raises")
    shop.testing = False
    assert client.get("/raises").status_code == 500
    assert balance(shop, client.authorization) == BOUGHT


def test_a_host_may_charge_for_a_404(shop: Flask) -> None:
    """With charge_on the named statuses are charged, and no others."""
    client = holder(shop)
    client.get("/found/404")
    assert balance(shop, client.authorization) == BOUGHT - PRICE
    client.get("/found/201")
    assert balance(shop, client.authorization) == BOUGHT - PRICE


def test_head_is_charged_as_get_and_options_never(shop: Flask) -> None:
    """The view runs for HEAD as well; OPTIONS runs no view."""
    client = holder(shop)
    assert client.head("/answer/200").status_code == 200
    assert balance(shop, client.authorization) == BOUGHT - PRICE
    assert client.options("/answer/200").status_code == 200
    assert balance(shop, client.authorization) == BOUGHT - PRICE


def test_a_stream_is_taken_before_its_first_byte(shop: Flask) -> None:
    """Whatever becomes of the connection afterwards gives nothing back."""
    client = holder(shop)
    answer = client.get("/stream", buffered=False)
    chunks = iter(answer.response)
    first, second = next(chunks), next(chunks)
    assert first == f"{BOUGHT - PRICE},".encode()
    assert second == str(BOUGHT - PRICE).encode()
    answer.close()
    assert balance(shop, client.authorization) == BOUGHT - PRICE


def test_every_request_costs_its_own_price(shop: Flask) -> None:
    """A callable's price is reserved as it is now; a price of 0 draws on nothing."""
    client = client_of(shop)
    assert client.get("/report2?rows=3").json == {"paid": 3000}
    assert balance(shop, client.authorization) == 3000
    assert client.get("/report2?rows=1").json == {"paid": 1000}
    assert client.get("/report2?rows=0").json == {"paid": 0}
    assert balance(shop, client.authorization) == 2000
    assert client.payments == 1
    assert client.get("/report2?rows=5").json == {"paid": 5000}
    assert client.payments == 2
    assert balance(shop, client.authorization) == 7000


def test_async_views_draw_on_credit(shop: Flask) -> None:
    """As others do."""
    client = holder(shop)
    assert client.get("/awaited").text == "async"
    assert balance(shop, client.authorization) == BOUGHT - PRICE


def test_credit_ends(shop: Flask, clock: Clock) -> None:
    """It ends with its key, a configured time after its purchase, and a new account is sold."""
    client = holder(shop)
    clock.now += 365 * 86400 + 599
    assert client.get("/answer/200").status_code == 200
    clock.now += 1
    assert ask(shop, client.authorization, "/answer/200").json["reason"] == "expired"


def test_a_purchase_extends_the_whole_balance(shop: Flask, clock: Clock) -> None:
    """What is left lives on with what was bought last, for the newer key."""
    client = holder(shop)
    for _ in range(4):
        client.get("/answer/200")
    clock.now += 300 * 86400
    client.get("/report2?rows=2")
    assert client.payments == 1
    client.get("/answer/500")
    assert client.payments == 2
    clock.now += 300 * 86400
    assert balance(shop, client.authorization) == BOUGHT
    assert client.get("/answer/200").status_code == 200
    assert client.payments == 2


def test_several_credentials_are_charged_once(shop: Flask) -> None:
    """Of two tokens in one request exactly one pays, the first that can."""
    first, second = holder(shop), holder(shop)
    both = f"{first.authorization}, {second.authorization}"
    for _ in range(7):
        assert ask(shop, both, "/answer/200").status_code == 200
    assert balance(shop, first.authorization) == 0
    assert balance(shop, second.authorization) == BOUGHT - 2 * PRICE


def test_threads_that_race_for_the_last_calls(shop: Flask) -> None:
    """Of forty at once exactly as many succeed as were bought."""
    client = holder(shop)
    barrier, statuses = threading.Barrier(8), []

    def run() -> None:
        barrier.wait()
        for _ in range(5):
            statuses.append(ask(shop, client.authorization, "/answer/200").status_code)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(statuses) == 40
    assert statuses.count(200) == 5
    assert statuses.count(402) == 35
    assert balance(shop, client.authorization) == 0


def test_what_cannot_be_charged_is_not_handed_out(
    shop: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails while the view ran: 503, no answer, and the call is given back later."""
    client = holder(shop)
    gate = shop.extensions["l402"]
    take = gate.store.uses.take

    def fail(*_: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(gate.store.uses, "take", fail)
    answer = ask(shop, client.authorization, "/answer/200")
    assert (answer.status_code, answer.json["reason"]) == (503, "store_unavailable")
    assert answer.headers["Retry-After"]
    assert "as told" not in answer.text
    monkeypatch.setattr(gate.store.uses, "take", take)


def test_a_402_of_the_view_is_its_own(shop: Flask) -> None:
    """A view that answers 402 itself is passed through and not charged."""
    client = holder(shop)
    answer = ask(shop, client.authorization, "/answer/402")
    assert (answer.status_code, answer.text) == (402, "as told")
    assert balance(shop, client.authorization) == BOUGHT


def test_the_ledger_tells_it_all(shop: Flask, database: str) -> None:
    """Purchases, uses and releases stand in the book with the balance before and after."""
    client = holder(shop)
    client.get("/answer/200")
    client.get("/answer/404")
    with create_engine(database).connect() as connection:
        lines = connection.execute(
            text(
                "SELECT kind, msat, balance_before, balance_after FROM l402_entry ORDER BY entry_id"
            )
        ).all()
    assert [tuple(line) for line in lines] == [
        ("purchase", BOUGHT, 0, BOUGHT),
        ("release", PRICE, BOUGHT, BOUGHT),
        ("use", PRICE, BOUGHT, BOUGHT - PRICE),
        ("release", PRICE, BOUGHT - PRICE, BOUGHT - PRICE),
    ]


def test_pay_per_call(make_app: Callable[..., Flask]) -> None:
    """uses=1 is one payment for each call."""
    app = make_app()

    @app.get("/once")
    @paywall(sats=3, uses=1)
    def once() -> str:
        return "once"

    client = client_of(app)
    for paid in (1, 2, 3):
        assert client.get("/once").status_code == 200
        assert client.payments == paid


def test_a_receiver_that_raises_leaves_nothing_reserved(shop: Flask) -> None:
    """Whatever fails between the reservation and the answer gives the call back."""
    client = holder(shop)

    def fail(_: object, **__: object) -> None:
        raise KeyError("a receiver's fault")

    with admitted.connected_to(fail, shop), pytest.raises(KeyError):
        client.get("/answer/200")
    assert balance(shop, client.authorization) == BOUGHT


def test_a_public_answer_is_not_charged_in_debug(shop: Flask) -> None:
    """The error that tells its developer so comes before the call is charged."""

    @shop.get("/public")
    @paywall(sats=2, uses=5)
    def public() -> Response:
        return Response("public", headers={"Cache-Control": "public"})

    client = holder(shop)
    shop.debug = True
    with pytest.raises(RuntimeError, match="shared cache"):
        client.get("/public")
    assert balance(shop, client.authorization) == BOUGHT


def test_an_async_view_that_cannot_run_holds_nothing(
    shop: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what async views need, the request fails before anything is reserved."""
    client = holder(shop)

    def fail(_: object) -> None:
        raise RuntimeError("install flask[async]")

    monkeypatch.setattr(shop, "ensure_sync", fail)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="async"):
            client.get("/awaited")
    monkeypatch.undo()
    assert balance(shop, client.authorization) == BOUGHT
    assert not shop.extensions["l402"].store.uses.holds()

"""Metered views: they charge as they go on, and while their answer streams."""

import gc
import json
import logging
import threading
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from conftest import Clock
from flask import Flask, Response, abort, request, send_file, stream_with_context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymacaroons import Macaroon
from sqlalchemy import update
from test_accounts import balance, challenged, client_of, token_id
from test_gate import ask
from werkzeug.test import EnvironBuilder

from l402 import current_payment, paywall, sold, streams
from l402.errors import CreditExhausted, NodeUnreachable, StoreUnavailable
from l402.store.audit import Audit, Difference
from l402.store.tables import lease, use
from l402.testing import PayingClient, without_payment

RESERVE, BOUGHT, WORD = 2_000, 10_000, 100
PAST = datetime(2020, 1, 1, tzinfo=UTC)


class Shop:
    """Metered views, and a client who has bought credit."""

    def __init__(self, app: Flask) -> None:
        self.app, self.gate = app, app.extensions["l402"]
        self.closed: list[str] = []
        self.kept: list[Callable[..., None]] = []
        self.told: tuple[int, list[int]] = (0, [])
        sell(app, self)
        self.client: PayingClient = client_of(app)
        assert self.client.get("/compute?msat=0").status_code == 200
        assert self.client.payments == 1

    @property
    def left(self) -> int | None:
        return balance(self.app, self.client.authorization)

    def ask(self, path: str, **kwargs: Any) -> Any:
        """Send a request and pay no more."""
        return ask(self.app, self.client.authorization, path, **kwargs)

    def never_read(self, path: str) -> None:
        """Ask as a client does that hangs up before anything of the body is sent."""
        headers = {"Authorization": str(self.client.authorization)}
        environ = EnvironBuilder(path=path, headers=headers).get_environ()
        self.app.wsgi_app(environ, lambda *_: lambda _: None).close()

    def stream(self, path: str) -> tuple[Any, Iterator[bytes]]:
        """Begin to read an answer."""
        answer = self.client.get(path, buffered=False)
        return answer, iter(answer.response)

    def in_flight(self) -> int:
        return len(self.gate.store.db.fetch(use.select()))

    def charges(self) -> list[int]:
        """What each call was charged, in their order."""
        return [entry.msat for entry in self.gate.store.ledger.entries(kinds=["use"])]

    def differences(self) -> list[Difference]:
        found: list[Difference] = []
        Audit(self.gate.store.db).run(found.append, lambda _: None)
        return found


class SlowMeter:
    """A meter that holds one thread up when it is asked what is left, its charge counted."""

    def __init__(self, meter: Any) -> None:
        self._meter = meter
        self._late: threading.Thread | None = None
        self._came, self._go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        if name == "balance" and threading.current_thread() is self._late:
            self._came.set()
            assert self._go.wait(30)
        return getattr(self._meter, name)

    @contextmanager
    def holding_up(self, thread: threading.Thread) -> Iterator[None]:
        self._late = thread
        thread.start()
        assert self._came.wait(30)
        yield
        self._go.set()
        thread.join()


def sell(app: Flask, shop: Shop) -> None:
    metered = paywall(credit=10, reserve=2)

    @app.get("/compute")
    @metered
    def compute() -> tuple[dict[str, object], int]:
        before = current_payment.paid
        for msat in request.args.getlist("msat", int):
            current_payment.charge(msat=msat)
        told = {"before": before, "paid": current_payment.paid, "left": current_payment.balance}
        return told, request.args.get("code", 200, int)

    def words(count: int, charge: Callable[..., None]) -> Iterator[str]:
        try:
            for number in range(count):
                charge(msat=WORD)
                yield f"data: {number}\n\n"
        finally:
            shop.closed.append("words")

    @app.get("/sse/<int:count>")
    @metered
    def sse(count: int) -> Response:
        flow = stream_with_context(words(count, lambda msat: current_payment.charge(msat)))
        return Response(flow, mimetype="text/event-stream")

    @app.get("/text/<int:count>")
    @metered
    def text(count: int) -> Iterator[str]:
        return words(count, current_payment.charge)

    @app.get("/prompt/<int:count>")
    @metered
    def prompt(count: int) -> Iterator[str]:
        current_payment.charge(msat=1_500)
        return words(count, current_payment.charge)

    @app.get("/prepaid")
    @metered
    def prepaid() -> Iterator[str]:
        current_payment.charge(msat=1_500)
        return iter(["all", " paid"])

    @app.get("/breaks")
    @metered
    def breaks() -> Iterator[bytes]:
        charge = current_payment.charge

        def flow() -> Iterator[bytes]:
            for word in (b"one", b"two"):
                charge(msat=WORD)
                yield word
            charge(msat=WORD)
            raise KeyError("a fault of the host's")

        return flow()

    @app.get("/counts")
    @metered
    def counts() -> Iterator[str]:
        charge = current_payment.charge

        def flow() -> Iterator[str]:
            count = 0
            try:
                for number in range(50):
                    yield str(number)
                    count += 1
            finally:
                charge(msat=count * WORD)

        return flow()

    @app.get("/aborts")
    @metered
    def aborts() -> str:
        current_payment.charge(msat=500)
        abort(418)

    @app.get("/raises")
    @metered
    def raises() -> str:
        current_payment.charge(msat=500)
        raise KeyError("a fault of the host's")

    @app.get("/file")
    @metered
    def file() -> Response:
        current_payment.charge(msat=500)
        return send_file(BytesIO(b"a file"), mimetype="text/plain")

    @app.get("/partly")
    @metered
    def partly() -> dict[str, int]:
        done = 0
        try:
            while True:
                current_payment.charge(msat=1_800)
                done += 1
        except CreditExhausted:
            return {"done": done}

    @app.get("/threads")
    @metered
    def threads() -> str:
        charge = current_payment.charge
        workers = [
            threading.Thread(target=lambda: [charge(msat=7) for _ in range(100)]) for _ in range(8)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return str(current_payment.paid)

    @app.get("/overtaken")
    @metered
    def overtaken() -> str:
        payment = current_payment._get_current_object()  # type: ignore[attr-defined]
        meter, payment.meter = payment.meter, SlowMeter(payment.meter)
        late = threading.Thread(target=payment.charge, args=(WORD,))
        with payment.meter.holding_up(late):
            payment.charge(msat=700)
        payment.meter = meter
        return "both"

    @app.get("/awaited")
    @metered
    async def awaited() -> str:
        current_payment.charge(msat=WORD)
        return "async"

    @app.get("/outside")
    @metered
    def outside() -> Iterator[str]:
        def flow() -> Iterator[str]:
            current_payment.charge(msat=WORD)
            yield "never"

        return flow()

    @app.get("/unmetered")
    @paywall(sats=1, uses=5)
    def unmetered() -> str:
        current_payment.charge(msat=1)
        return "never"

    @app.get("/passed")
    @paywall(sats=1)
    def passed() -> str:
        current_payment.charge(msat=1)
        return "never"

    @app.get("/odd")
    @metered
    def odd() -> str:
        current_payment.charge(json.loads(request.args["msat"]))
        return "never"

    @app.get("/failing/<int:count>")
    @metered
    def failing(count: int) -> Response:
        return Response(words(count, current_payment.charge), status=404)

    @app.get("/pings")
    @metered
    def pings() -> Iterator[str]:
        return iter([": ping\n\n"] * 5)

    @app.get("/large")
    @metered
    def large() -> Iterator[bytes]:
        charge = current_payment.charge

        def flow() -> Iterator[bytes]:
            for _ in range(4):
                charge(msat=1)
                yield b"x" * 65536

        return flow()

    @app.get("/keeps")
    @metered
    def keeps() -> str:
        shop.kept.append(current_payment.charge)
        if "code" in request.args:
            abort(500)
        return "kept"

    @app.get("/story")
    @metered
    def story() -> Iterator[str]:
        charge, (first, costs) = current_payment.charge, shop.told
        charge(msat=first)

        def flow() -> Iterator[str]:
            for cost in costs:
                charge(msat=cost)
                yield "x"

        return flow()

    @app.after_request
    def hook(response: Response) -> Response:
        if request.args.get("hook") == "whole":
            response.get_data()
        return Response("another") if request.args.get("hook") == "replace" else response


@pytest.fixture
def shop(app: Flask) -> Iterator[Shop]:
    shop = Shop(app)
    yield shop
    assert shop.in_flight() == 0
    assert shop.differences() == []


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have words held back whenever they may be."""
    monkeypatch.setattr(streams, "_EVERY", 3600.0)
    monkeypatch.setattr(streams, "_SLACK", 0.0)


# --- before the answer begins


def test_a_call_costs_what_it_charges(shop: Shop) -> None:
    """Charges add up, and the header tells what is left after them, not besides the reserve."""
    answer = shop.client.get("/compute?msat=300&msat=0&msat=401")
    assert answer.json == {"before": 0, "paid": 701, "left": BOUGHT - RESERVE}
    assert answer.headers["L402-Balance-Msat"] == str(BOUGHT - 701)
    assert shop.left == BOUGHT - 701
    assert shop.charges() == [0, 701]


def test_a_challenge_asks_for_the_credit(shop: Shop) -> None:
    """Who has none is sold what the paywall says, and told what is set aside for a call."""
    refused = ask(shop.app, None, "/compute")
    assert (refused.status_code, refused.json["amountSats"], refused.json["priceSats"]) == (
        402, 10, 2,
    )  # fmt: skip
    words = {route.rule: route.words for route in sold(shop.app)}
    assert words["/compute"] == "10 sat of credit, charged by use, 2 sat set aside for each call"


def test_more_is_set_aside_as_it_is_used_up(shop: Shop) -> None:
    """Beyond the reserve another one is, or as much as the charge needs, or what is left."""
    assert shop.client.get("/compute?msat=2000&msat=1").json["left"] == BOUGHT - 2 * RESERVE
    assert shop.client.get("/compute?msat=5000").json == {"before": 0, "paid": 5_000, "left": 2_999}
    assert shop.client.get("/compute?msat=2999").json["left"] == 0
    assert shop.left == 0
    assert shop.client.payments == 1


def test_more_than_one_payment_may_buy(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that costs more than the highest price is paid for in parts."""
    monkeypatch.setattr(shop.gate, "defaults", shop.gate.defaults._replace(max_sats=15))
    monkeypatch.setattr(shop.gate.issuer, "max_sats", 15)
    assert shop.client.get("/compute?msat=36000").status_code == 402
    assert shop.client.get("/compute?msat=36000").status_code == 200
    assert shop.left == BOUGHT + 30_000 - 36_000


def test_less_than_the_reserve_is_not_enough(shop: Shop) -> None:
    """What cannot be set aside is asked for, for the same account."""
    shop.client.get("/compute?msat=8001")
    refused = shop.ask("/compute?msat=1")
    assert (refused.status_code, refused.json["reason"]) == (402, "exhausted")
    assert refused.json["balance_msat"] == 1_999
    assert challenged(refused) == token_id(shop.client.authorization)


def test_the_end_of_the_balance_before_the_answer(shop: Shop) -> None:
    """402 with a challenge for the same account that pays for the call; nothing is taken."""
    refused = shop.ask("/compute?msat=9000&msat=6500")
    assert (refused.status_code, refused.json["reason"]) == (402, "exhausted")
    assert refused.json["balance_msat"] == BOUGHT
    assert refused.json["amountSats"] == 16
    assert challenged(refused) == token_id(shop.client.authorization)
    assert shop.left == BOUGHT
    assert shop.client.get("/compute?msat=9000&msat=6500").status_code == 200
    assert shop.client.payments == 2
    assert shop.left == BOUGHT + 16_000 - 15_500


@pytest.mark.parametrize("path", ["/compute?msat=500&code=404", "/compute?msat=3000&code=500",
                                  "/aborts"])  # fmt: skip
def test_a_failure_costs_nothing(shop: Shop, path: str) -> None:
    """A status of 400 or more gives back all that was charged and set aside."""
    answer = shop.client.get(path)
    assert answer.status_code >= 400
    assert answer.headers["L402-Balance-Msat"] == str(BOUGHT)
    assert shop.left == BOUGHT


def test_an_exception_costs_nothing(shop: Shop) -> None:
    """A view that raises has charged nothing."""
    with pytest.raises(KeyError):
        shop.client.get("/raises")
    assert shop.left == BOUGHT


def test_a_view_may_do_with_what_there_is(shop: Shop) -> None:
    """Who catches the end of the balance answers what was paid for, and it is charged."""
    assert shop.client.get("/partly").json == {"done": 5}
    assert shop.left == BOUGHT - 9_000


def test_a_file_is_settled_at_once(shop: Shop) -> None:
    """What is sent by the server's own means is charged before it is."""
    answer, _ = shop.stream("/file")
    assert shop.in_flight() == 0
    answer.close()
    assert shop.left == BOUGHT - 500


def test_threads_charge_together(shop: Shop) -> None:
    """No charge of a thread gets lost, and the reserve grows once for all."""
    assert shop.client.get("/threads").text == "5600"
    assert shop.left == BOUGHT - 5_600


def test_a_thread_that_is_overtaken(shop: Shop) -> None:
    """What is taken is what all threads charged, whichever of them is the last to return."""
    assert shop.client.get("/overtaken").text == "both"
    assert shop.left == BOUGHT - 700 - WORD


def test_async_views_charge(shop: Shop) -> None:
    """As others do."""
    assert shop.client.get("/awaited").text == "async"
    assert shop.left == BOUGHT - WORD


def test_a_store_that_fails(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be set aside cannot be served: 503, and nothing is charged."""

    def fail(*_: object) -> None:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(shop.gate.store.uses, "extend", fail)
        answer = shop.ask("/compute?msat=2001")
    assert (answer.status_code, answer.json["reason"]) == (503, "store_unavailable")
    with monkeypatch.context() as patch:
        patch.setattr(shop.gate.store.uses, "take", fail)
        assert shop.ask("/compute?msat=1").status_code == 503
    shop.gate.store.uses.abandon(bytes.fromhex(shop.gate.store.db.fetch(use.select())[0].use_id))
    shop.gate.store.uses.renew()
    assert shop.left == BOUGHT


# --- what is no charge


@pytest.mark.parametrize("msat", [-1, 1.5, True, "1", None])
def test_an_amount_that_is_none(shop: Shop, msat: Any) -> None:
    """The error says what to write, and nothing is charged."""

    with pytest.raises(ValueError, match=r"write an int >= 0") as caught:
        shop.client.get("/odd", query_string={"msat": json.dumps(msat)})
    assert repr(msat) in str(caught.value)
    assert shop.left == BOUGHT


@pytest.mark.parametrize("path", ["/unmetered", "/passed"])
def test_a_view_that_is_not_metered(shop: Shop, path: str) -> None:
    """The error says how to meter it."""
    with pytest.raises(RuntimeError, match=r"@paywall\(credit=500, reserve=50\)"):
        shop.client.get(path)


def test_outside_of_a_request(shop: Shop) -> None:
    """In a generator without the context the error names both ways to have it."""
    with pytest.raises(RuntimeError, match=r"stream_with_context, or bind .*ent_payment\.charge"):
        shop.client.get("/outside")
    with pytest.raises(RuntimeError, match="while a view under @paywall runs"):
        current_payment.charge(msat=1)
    assert shop.left == BOUGHT


def test_a_charge_that_comes_too_late(shop: Shop) -> None:
    """Once its answer is complete nothing can be charged for a call."""
    for path in ("/keeps", "/keeps?code=500"):
        shop.client.get(path).close()
        with pytest.raises(RuntimeError, match="after the answer was complete"):
            shop.kept.pop()(msat=1)


def test_a_test_without_payment(shop: Shop) -> None:
    """Where the paywall is open, charges are counted and nobody pays."""
    with without_payment(shop.app):
        answer = ask(shop.app, None, "/compute?msat=999999999")
        assert (answer.status_code, answer.json["paid"]) == (200, 999_999_999)
        assert ask(shop.app, None, "/text/3").text.count("data") == 3
    assert shop.left == BOUGHT


# --- while the answer streams


@pytest.mark.parametrize("path", ["/sse/20", "/text/20"])
def test_a_stream_costs_what_was_sent(shop: Shop, path: str) -> None:
    """It arrives whole, and is settled when it ends."""
    answer = shop.client.get(path)
    assert answer.text == "".join(f"data: {number}\n\n" for number in range(20))
    assert answer.headers["L402-Balance-Msat"] == str(BOUGHT - RESERVE)
    assert shop.charges()[1:] == [20 * WORD]
    assert shop.left == BOUGHT - 20 * WORD


def test_nothing_is_settled_where_the_view_returns(shop: Shop) -> None:
    """What is charged is written down before its chunk goes out, and taken before the last does."""
    answer, chunks = shop.stream("/text/3")
    for number in (1, 2, 3):
        assert next(chunks)
        (found,) = shop.gate.store.db.fetch(use.select())
        assert (found.msat, found.charged) == (RESERVE, number * WORD)
    assert list(chunks) == []
    assert shop.in_flight() == 0
    answer.close()
    assert shop.left == BOUGHT - 3 * WORD


@pytest.mark.parametrize("read", [1, 2, 7])
def test_a_client_that_hangs_up(shop: Shop, read: int) -> None:
    """It is charged what was sent to it, and the host's generator is closed."""
    answer, chunks = shop.stream("/sse/100")
    for _ in range(read):
        next(chunks)
    answer.close()
    assert shop.left == BOUGHT - read * WORD
    assert shop.closed == ["words"]


def test_a_client_that_hangs_up_at_once(shop: Shop) -> None:
    """Whoever got nothing is charged nothing, and no use is booked."""
    shop.never_read("/sse/9")
    assert shop.left == BOUGHT
    assert shop.charges() == [0]


@pytest.mark.usefixtures("paced")
@pytest.mark.parametrize("read", [1, 2, 3])
def test_what_was_held_back_is_not_charged(shop: Shop, read: int) -> None:
    """Words go out together when they come too fast, a tenth of the reserve at most."""
    answer, chunks = shop.stream("/sse/100")
    sent = b"".join(next(chunks) for _ in range(read)).count(b"data")
    assert sent == [0, 1, 3, 5][read]
    answer.close()
    assert shop.left == BOUGHT - sent * WORD


@pytest.mark.usefixtures("paced")
def test_what_is_free_goes_out_at_once(shop: Shop) -> None:
    """Chunks that nothing is charged for are never held back, nor written down."""

    answer, chunks = shop.stream("/pings")
    assert len(list(chunks)) == 5
    answer.close()
    assert shop.left == BOUGHT


@pytest.mark.usefixtures("paced")
def test_a_large_chunk_is_not_held_back(shop: Shop) -> None:
    """However little it costs."""

    answer, chunks = shop.stream("/large")
    assert [len(chunk) for chunk in chunks] == [65536] * 4
    answer.close()


def test_the_view_charges_before_it_streams(shop: Shop) -> None:
    """What the view charged is taken, whether anything of the stream was sent or not."""
    shop.never_read("/prompt/9")
    answer, chunks = shop.stream("/prompt/9")
    next(chunks), next(chunks)
    answer.close()
    assert shop.charges()[1:] == [1_500, 1_500 + 2 * WORD]


def test_what_the_view_charged_is_written_down_first(shop: Shop) -> None:
    """Whoever is killed in mid-stream has charged what the view did, before the first byte."""
    answer, _ = shop.stream("/prepaid")
    (found,) = shop.gate.store.db.fetch(use.select())
    assert found.charged == 1_500
    answer.close()


def test_what_the_view_charged_cannot_be_written_down(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the stream is sent, and all that was set aside is given back."""

    def fail(*_: object) -> None:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(shop.gate.store.uses, "charge", fail)
        assert shop.client.get("/prepaid").status_code == 503
    shop.gate.store.uses.renew()
    assert shop.left == BOUGHT


def test_a_stream_that_is_not_charged(shop: Shop) -> None:
    """It comes whole, whatever it charges, and nobody pays."""
    assert shop.client.get("/failing/30").text.count("data") == 30
    assert shop.left == BOUGHT


def test_head_runs_no_generator(shop: Shop) -> None:
    """A HEAD is charged what its view charges, and nothing for a body that it does not get."""
    assert shop.client.head("/prompt/9").status_code == 200
    assert shop.client.head("/sse/9").status_code == 200
    assert shop.left == BOUGHT - 1_500


def test_a_stream_that_breaks(shop: Shop) -> None:
    """What was sent before is charged, and the fault passes through."""
    _, chunks = shop.stream("/breaks")
    assert [next(chunks), next(chunks)] == [b"one", b"two"]
    with pytest.raises(KeyError):
        next(chunks)
    assert shop.left == BOUGHT - 2 * WORD


@pytest.mark.usefixtures("paced")
def test_a_stream_that_breaks_sends_what_it_held(shop: Shop) -> None:
    """What had come before the fault is sent, and charged."""
    answer, chunks = shop.stream("/breaks")
    assert [next(chunks), next(chunks)] == [b"one", b"two"]
    with pytest.raises(KeyError):
        next(chunks)
    answer.close()


def test_a_host_may_count_at_the_end(shop: Shop) -> None:
    """A generator that charges as it is closed is charged, though its client is gone."""
    answer, chunks = shop.stream("/counts")
    for _ in range(4):
        next(chunks)
    answer.close()
    assert shop.left == BOUGHT - 3 * WORD


def test_the_end_of_the_balance_in_mid_stream(shop: Shop) -> None:
    """Server-sent events end with one that carries the 402's body; it opens the same account."""
    answer = shop.ask("/sse/101")
    events = answer.text.split("\n\n")
    assert answer.status_code == 200
    assert answer.text.count("data: ") == 101
    assert events[99] == "data: 99"
    last = answer.text.rpartition("event: payment-required\ndata: ")[2]
    assert last.endswith("\n\n")
    told = json.loads(last)
    assert (told["error"], told["reason"], told["balance_msat"]) == (
        "payment_required", "exhausted", 0,
    )  # fmt: skip
    assert (told["amountSats"], told["priceSats"]) == (10, 2)
    preimage = shop.gate.desk.node.settle(told["invoice"])
    paid = f"L402 {told['macaroon']}:{preimage.hex()}"
    assert token_id(paid) == token_id(shop.client.authorization)
    assert ask(shop.app, paid, "/sse/1").text == "data: 0\n\n"
    assert shop.left == BOUGHT - WORD


def test_other_streams_just_end(shop: Shop) -> None:
    """A plain text gets no event, and no invoice is made for it."""
    answer = shop.ask("/text/101")
    assert answer.text.endswith("data: 99\n\n")
    assert "payment-required" not in answer.text
    assert shop.left == 0


def test_a_remainder_is_used_up(shop: Shop) -> None:
    """What is left and less than the reserve is set aside for a call in mid-stream."""
    shop.client.get("/compute?msat=6950")
    assert shop.ask("/text/101").text.count("data") == 30
    assert shop.left == 50


@pytest.mark.parametrize("failure", ["node", "limit", "price"])
def test_the_end_without_an_offer(
    shop: Shop, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no invoice can be had the last event tells the reason and the balance alone."""

    def fail(*_: object) -> None:
        raise NodeUnreachable("no free slot")

    if failure == "node":
        monkeypatch.setattr(shop.gate.desk, "create_invoice", fail)
    elif failure == "limit":
        monkeypatch.setattr(shop.gate.limits, "admit_challenge", lambda *_: 30)
    else:
        monkeypatch.setattr(shop.gate.issuer, "max_sats", 1)
    last = shop.ask("/sse/101").text.rpartition("event: payment-required\ndata: ")[2]
    assert json.loads(last) == {
        "error": "payment_required", "reason": "exhausted", "balance_msat": 0,
    }  # fmt: skip


def test_credit_that_ends_in_mid_stream(shop: Shop, clock: Clock) -> None:
    """What is set aside stays; no more is, once the balance has ended."""
    answer, chunks = shop.stream("/sse/100")
    first = next(chunks)
    clock.now += 400 * 86400
    text = (first + b"".join(chunks)).decode()
    answer.close()
    assert text.count("data: ") == RESERVE // WORD + 1
    assert '"reason": "expired"' in text
    (held,) = shop.gate.store.credits.of(token_id(shop.client.authorization))
    assert (held.balance, held.reserved) == (BOUGHT - RESERVE, 0)


def test_a_holders_limit_is_kept(shop: Shop) -> None:
    """A token that was narrowed to an amount pays no more for a call, however it is charged."""
    text, _, preimage = str(shop.client.authorization)[5:].partition(":")
    narrowed = Macaroon.deserialize(urlsafe_b64encode(b64decode(text)).decode())
    narrowed.add_first_party_caveat("paid_msat=3000")
    shown = f"L402 {narrowed.serialize()}:{preimage}"
    assert ask(shop.app, shown, "/compute?msat=3000").status_code == 200
    refused = ask(shop.app, shown, "/compute?msat=3001")
    assert (refused.status_code, refused.json["reason"]) == (402, "narrowed")
    assert challenged(refused) != token_id(shop.client.authorization)
    assert ask(shop.app, shown, "/text/99").text.count("data") == 30
    assert shop.left == BOUGHT - 6_000


def test_a_store_that_fails_in_mid_stream(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written down is not sent; the rest is given back when the store answers."""
    answer, chunks = shop.stream("/sse/9")
    next(chunks)

    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(shop.gate.store.db, "alone", fail)
        with pytest.raises(StoreUnavailable):
            next(chunks)
        answer.close()
    shop.gate.store.uses.renew()
    assert shop.left == BOUGHT - WORD


def test_a_stream_whose_use_lapsed(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A process that was stopped for too long sends no more, and is charged what it had sent."""
    answer, chunks = shop.stream("/sse/9")
    next(chunks)
    with shop.gate.store.db.write() as connection:
        connection.execute(update(lease).values(expires_at=PAST))
    assert shop.gate.store.uses.recover() == 1
    with pytest.raises(StoreUnavailable, match="silent for too long"):
        next(chunks)
    with caplog.at_level(logging.WARNING):
        answer.close()
    assert shop.charges()[1:] == [WORD]


def test_a_stream_that_nobody_closes(shop: Shop) -> None:
    """A body that is dropped is settled by the process's own care."""

    assert shop.client.get("/text/9?hook=replace").text == "another"
    gc.collect()
    shop.gate.store.uses.renew()
    assert shop.left == BOUGHT


def test_an_answer_that_the_host_reads_whole(shop: Shop) -> None:
    """Where an after_request makes one piece of a stream, all of it is charged."""

    answer = shop.client.get("/text/9?hook=whole")
    assert answer.headers["Content-Length"] == str(len(answer.data))
    assert shop.left == BOUGHT - 9 * WORD


# --- Idempotency-Key


def test_a_metered_answer_is_given_again(shop: Shop) -> None:
    """Charged once, at what it cost then."""
    headers = {"Idempotency-Key": '"one"'}
    first = shop.client.get("/compute?msat=700", headers=headers)
    again = shop.client.get("/compute?msat=700", headers=headers)
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert shop.left == BOUGHT - 700


def test_a_stream_is_not_given_again(shop: Shop) -> None:
    """In progress while it goes out, and then not to be replayed."""
    headers = {"Idempotency-Key": '"two"'}
    answer = shop.client.get("/sse/3", headers=headers, buffered=False)
    again = shop.client.get("/sse/3", headers=headers)
    assert (again.status_code, again.json["reason"]) == (409, "in_progress")
    assert b"".join(answer.response).count(b"data") == 3
    answer.close()
    again = shop.client.get("/sse/3", headers=headers)
    assert (again.status_code, again.json["reason"]) == (409, "not_replayable")
    assert shop.left == BOUGHT - 3 * WORD


# --- any sequence


@st.composite
def stories(draw: st.DrawFn) -> tuple[int, list[int], int | None]:
    """What the view charges before it streams, what each chunk costs, and when the client goes."""
    costs = draw(st.lists(st.integers(0, 3_000), max_size=12))
    return draw(st.integers(0, 4_000)), costs, draw(st.none() | st.integers(0, 12))


def expected(first: int, costs: list[int], leaves: int | None) -> int:
    """What a model of one line a step says that the call is charged, if each chunk goes out.

    The client has the first chunk when it begins to read.
    """
    charged = first
    for number, cost in enumerate(costs):
        if number >= max(1, len(costs) if leaves is None else leaves) or charged + cost > BOUGHT:
            break
        charged += cost
    return charged


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(story=stories())
def test_any_story(shop: Shop, story: tuple[int, list[int], int | None]) -> None:
    """Whatever is charged and whenever the client hangs up: the model and the books agree."""
    first, costs, leaves = story
    shop.client.authorization = None
    shop.told = first, costs
    answer = shop.client.get("/story", buffered=False)
    chunks = iter(answer.response)
    for _ in range(len(costs) + 1 if leaves is None else leaves):
        next(chunks, None)
    answer.close()
    assert shop.left == BOUGHT - expected(first, costs, leaves)
    assert shop.differences() == []

"""The one way to a price: run time, configuration, code; and what a payer meets when it moves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock
from flask import Flask, Response, abort, g, request
from support.killing import await_
from support.sales import NOW
from test_accounts import client_of
from test_gate import CHALLENGE, ask, rows
from werkzeug.exceptions import HTTPException, NotFound

from l402 import current_payment, paywall
from l402.errors import ConfigurationError, PriceError, RateError, StoreUnavailable
from l402.prices import Prices, Quote, Source, nearest, parse_prices
from l402.rates import Money, make_rates
from l402.store.prices import Price
from l402.terms import Terms

RATES = make_rates({"USD": "97000.5"})
CENT = Money.parse("0.01 USD")


def terms(amount: Any = 10, **changes: Any) -> Terms:
    return Terms(
        amount,
        **{"service": "shop", "endpoint": "quote", "method": "GET", "valid_for": 60} | changes,
    )


def price(msat: int, endpoint: str = "quote", method: str = "GET") -> Price:
    return Price("shop", endpoint, method, msat, NOW, None)


# Which price


@pytest.mark.parametrize(("sats", "msat"), [(0, 0), (1, 1000), (10, 10_000), (lambda: 7, 7000)])
def test_price(sats: Any, msat: int) -> None:
    """A price in satoshis, constant or called for, is given in millisatoshis."""
    assert Prices({}, RATES).quote(terms(sats)) == Quote(msat, not callable(sats))
    assert Prices({}, RATES).quote(terms(msat // 100, unit=1)).msat == msat // 100


def test_a_price_in_a_currency_is_rounded_up_and_names_its_rate() -> None:
    """The quote says what it was reckoned at; without a rate there is none."""
    assert Prices({}, RATES).quote(terms(CENT)) == Quote(10_310, True, "USD 97000.5")
    with pytest.raises(RateError):
        Prices({}, RATES).quote(terms(Money.parse("0.01 EUR")))


def test_run_time_goes_before_configuration_before_code() -> None:
    """Each is in force while nothing that goes before it is there; so is its source."""
    prices = Prices(parse_prices({"quote": 12}), RATES)
    for written in (terms(), terms(lambda: 11), terms(CENT)):
        configured = prices.configure(written)
        prices.learn([price(5), price(1, "fact"), price(2, method="POST")])
        assert prices.quote(configured) == Quote(5, True)
        assert (prices.source(configured), prices.constant(configured)) == (Source.RUN_TIME, 5)
        prices.learn([])
        assert prices.quote(configured) == Quote(12_000, True)
        assert prices.source(configured) is Source.CONFIGURATION
        other = prices.configure(terms(written.amount, endpoint="fact"))
        assert prices.source(other) is Source.CODE
        assert prices.quote(other) == Prices({}, RATES).quote(written)


def test_a_method_goes_before_all_of_them() -> None:
    """A configured price may name a method; HEAD is GET."""
    prices = Prices(parse_prices({"quote": "7 sat", "head quote": "8 msat"}), RATES)
    assert prices.quote(prices.configure(terms())).msat == 8
    assert prices.quote(prices.configure(terms(method="POST"))).msat == 7_000


def test_free() -> None:
    """What is free is known without asking a callable, and a price at run time has a say."""
    prices = Prices({}, RATES)
    assert prices.free(terms(0))
    assert not prices.free(terms(lambda: 0))
    assert not prices.free(terms(CENT))
    prices.learn([price(0)])
    assert prices.free(terms())
    prices.learn([price(1)])
    assert not prices.free(terms(0))


def test_words() -> None:
    """What one payment buys is said at the price in force."""
    prices = Prices({}, RATES)
    assert prices.words(terms(CENT)) == "0.01 USD, any number of calls for 1 min"
    prices.learn([price(500)])
    assert prices.words(terms(CENT)) == "0.5 sat, any number of calls for 1 min"
    prices.learn([price(0)])
    assert prices.words(terms(CENT)) == "free"


@pytest.mark.parametrize(
    "value", [1.0, 0.5, -1, None, True, False, "10", [10], float("nan"), float("inf"), b"1", CENT]
)
def test_a_price_that_is_none(value: Any) -> None:
    """A callable that gives anything but an int of at least 0 is an error, and never free."""

    def price_of_rows() -> Any:
        return value

    with pytest.raises(PriceError, match="price_of_rows"):
        Prices({}, RATES).quote(terms(price_of_rows))


@pytest.mark.parametrize("error", [ValueError, KeyError, ZeroDivisionError, RecursionError])
def test_a_price_that_fails(error: type[Exception]) -> None:
    """A callable that raises is an error that names it, but not what it said."""

    def price_of_rows() -> int:
        raise error("a canary")

    with pytest.raises(PriceError, match=f"price_of_rows.*{error.__name__}") as caught:
        Prices({}, RATES).quote(terms(price_of_rows))
    assert "canary" not in str(caught.value)
    assert isinstance(caught.value.__cause__, error)


def test_a_price_that_refuses() -> None:
    """An HTTPException of the callable passes through: it refuses the request in its own words."""

    def not_here() -> int:
        raise NotFound

    with pytest.raises(HTTPException) as caught:
        Prices({}, RATES).quote(terms(not_here))
    assert caught.value.code == 404


def test_a_price_without_a_name() -> None:
    """A callable object is named by what it prints."""

    class Tariff:
        def __call__(self) -> Any:
            return "dear"

        def __repr__(self) -> str:
            return "Tariff(2026)"

    with pytest.raises(PriceError, match=r"Tariff\(2026\)"):
        Prices({}, RATES).quote(terms(Tariff()))


# The configuration


def test_every_way_to_write_a_price() -> None:
    """Satoshis are a number; text names the unit, or a currency."""
    written = {
        "a": 12, "b": "12", "c": "12 sat", "d": "12sat", "e": "100 msat", "f": "0.01 USD",
        "g.h": 0, "POST i": 1, "head j": 1,
    }  # fmt: skip
    assert parse_prices(written) == {
        ("a", ""): 12_000, ("b", ""): 12_000, ("c", ""): 12_000, ("d", ""): 12_000,
        ("e", ""): 100, ("f", ""): CENT, ("g.h", ""): 0, ("i", "POST"): 1_000,
        ("j", "GET"): 1_000,
    }  # fmt: skip


@pytest.mark.parametrize(
    "setting",
    [
        None, [], "quote=12", 12,
        {"quote": 1.5}, {"quote": -1}, {"quote": True}, {"quote": None}, {"quote": "dear"},
        {"quote": "1.5"}, {"quote": "-1 sat"}, {"quote": "1.5 sat"}, {"quote": "0 USD"},
        {"quote": "1 usd"}, {"quote": lambda: 1}, {"": 1}, {"a b c": 1}, {3: 1},
        {"quote": "\u0661 sat"},
    ],
)  # fmt: skip
def test_no_prices(setting: Any) -> None:
    """What is written otherwise is refused, with an example."""
    with pytest.raises(
        ConfigurationError, match=r"L402_PRICES.*write|L402_PRICES.*no price|sats=0"
    ):
        parse_prices(setting)


@pytest.mark.parametrize(
    "names", [("GET quote", "get quote"), ("HEAD quote", "GET quote"), ("quote", " quote")]
)
def test_two_prices_of_one(names: tuple[str, str]) -> None:
    """Of two prices for the same requests none is in force by chance."""
    with pytest.raises(ConfigurationError, match="quote has two prices"):
        parse_prices({names[0]: 1, names[1]: 2})


def test_a_price_in_the_wrong_unit() -> None:
    """The error says how satoshis are written, too."""
    with pytest.raises(ConfigurationError, match=r"'5 sats'.*'12 sat'"):
        parse_prices({"quote": "5 sats"})


def test_configured_prices_from_the_app(make_app: Callable[..., Flask]) -> None:
    """They are what is sold at, and what the app says of itself."""
    from l402 import sold

    app = make_app(L402_PRICES={"quote": "7500 msat", "report": 3, "POST echo": "0.01 USD"},
                   L402_RATES={"USD": "97000.5"})  # fmt: skip
    assert ask(app).json["amountSats"] == 8
    assert ask(app, path="/report?rows=9").json["amountSats"] == 3
    assert ask(app, path="/echo", method="POST").json["amountSats"] == 11
    words = {route.endpoint: route.words for route in sold(app)}
    assert words["quote"].startswith("7.5 sat")
    assert words["echo"].startswith("0.01 USD")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"L402_PRICES": {"qoute": 7}}, "L402_PRICES: 'qoute' is not for sale; did you mean quote"),
        ({"L402_PRICES": {"POST quote": 7}}, "'POST quote' is not for sale; did you mean"),
        ({"L402_PRICES": {"free": 7}}, "'free' is not for sale"),
        ({"L402_PRICES": {"quote": "1 EUR"}, "L402_RATES": {"USD": 97_000}}, "EUR"),
        ({"L402_PRICES": {"quote": "1 USD"}}, "USD"),
        ({"L402_PRICES": {"quote": 100_001}}, "above L402_MAX_PRICE"),
    ],
)
def test_a_configured_price_of_nothing_stops_the_app(
    make_app: Callable[..., Flask], settings: dict[str, Any], says: str
) -> None:
    """A price for what is not sold, or that cannot be reckoned, fails before the first answer."""
    app = make_app(**settings)
    with pytest.raises(ConfigurationError) as caught:
        ask(app)
    assert says in str(caught.value)


def test_a_metered_view_takes_no_configured_price(make_app: Callable[..., Flask]) -> None:
    """What a metered call costs is for its view to say."""
    app = make_app(L402_PRICES={"words": 7})

    @app.get("/words")
    @paywall(credit=50, reserve=5)
    def words() -> str:
        return "words"

    with pytest.raises(ConfigurationError, match="words is metered"):
        ask(app)


def test_a_metered_view_may_be_configured_free(make_app: Callable[..., Flask]) -> None:
    """A price of 0 opens it, and what its view charges is counted and not paid."""
    app = make_app(L402_PRICES={"words": 0})

    @app.get("/words")
    @paywall(credit=50, reserve=5)
    def words() -> dict[str, int]:
        current_payment.charge(msat=7)
        return {"paid": current_payment.paid}

    assert ask(app, path="/words").json == {"paid": 7}


def test_a_metered_view_has_no_price_at_run_time() -> None:
    """One from before it was metered changes nothing of what is set aside; 0 frees it."""
    prices, metered = Prices({}, RATES), terms(5, kind="credit", credit=50_000, metered=True)
    prices.learn([price(1_000)])
    assert prices.quote(metered) == Quote(5_000, True)
    assert (prices.constant(metered), prices.source(metered)) == (5_000, Source.CODE)
    prices.learn([price(0)])
    assert prices.free(metered)


def test_nearest() -> None:
    """A name that is close is named, one that is far is not."""
    assert nearest("qoute", ["quote", "report"]) == "; did you mean quote?"
    assert nearest("xyz", ["quote", "report"]) == ""


# A price that moves while it is sold at


class Shop:
    """An app, and its prices as another process sets them."""

    def __init__(self, app: Flask) -> None:
        self.app, self.gate = app, app.extensions["l402"]

        @app.get("/calls")
        @paywall(sats=10, uses=2)
        def calls() -> dict[str, Any]:
            return {"paid": current_payment.paid, "left": current_payment.balance}

        @app.get("/one")
        @paywall(sats=lambda: int(request.args["sats"]), uses=1)
        def one() -> dict[str, Any]:
            return {"paid": current_payment.paid}

    def reprice(self, msat: int | None, endpoint: str) -> None:
        if msat is None:
            self.gate.store.prices.unset("shop", endpoint, "GET")
        else:
            self.gate.store.prices.set("shop", endpoint, "GET", msat)
        self.gate.sync._read_at = float("-inf")  # a second has passed

    def pay(self, path: str) -> str:
        """Ask, and pay; return the Authorization."""
        response = ask(self.app, path=path)
        found = CHALLENGE.fullmatch(response.headers["WWW-Authenticate"])
        assert found, response.text
        return f"L402 {found[1]}:{self.gate.desk.node.settle(found[2]).hex()}"

    def ask(self, path: str, authorization: str | None = None) -> Any:
        return ask(self.app, authorization, path)


@pytest.fixture
def shop(app: Flask) -> Shop:
    return Shop(app)


@pytest.mark.parametrize("new", [1, 9_000, 11_000, 100_000])
def test_a_pass_bought_before_the_price_moved(shop: Shop, clock: Clock, new: int) -> None:
    """Lowered or raised: it opens its endpoint to its end; the next buyer pays the new price."""
    paid = shop.pay("/quote")
    shop.reprice(new, "quote")
    assert shop.ask("/quote", paid).json["paid"] == 10_000
    assert shop.ask("/quote").json["amountSats"] == -(-new // 1000)
    clock.now += 600 + 3599
    assert shop.ask("/quote", paid).status_code == 200
    clock.now += 1
    assert shop.ask("/quote", paid).json["reason"] == "expired"
    assert shop.ask("/quote", paid).json["amountSats"] == -(-new // 1000)


def test_a_pass_of_elsewhere_is_asked_todays_price(shop: Shop) -> None:
    """At another endpoint a pass opens what costs no more than was paid, today."""
    paid = shop.pay("/quote")
    assert shop.ask("/fact", paid).status_code == 200
    shop.reprice(10_001, "fact")
    assert shop.ask("/fact", paid).json["reason"] == "price_too_low"
    shop.reprice(10_000, "fact")
    assert shop.ask("/fact", paid).status_code == 200


def test_a_pass_opens_its_endpoint_by_another_token_of_its_account(shop: Shop) -> None:
    """Who tops an account up at a dear view keeps the first view, though its price has risen."""
    first = shop.pay("/quote")
    assert shop.ask("/quote", first).status_code == 200
    response = shop.ask("/dear", first)
    found = CHALLENGE.fullmatch(response.headers["WWW-Authenticate"])
    assert found
    second = f"L402 {found[1]}:{shop.gate.desk.node.settle(found[2]).hex()}"
    shop.reprice(50_000, "quote")
    assert shop.ask("/quote", second).status_code == 200


@pytest.mark.parametrize("new", [1, 9_000, 11_000, 15_000, 100_000])
def test_a_call_costs_what_was_asked_while_the_payer_comes_back(
    shop: Shop, clock: Clock, new: int
) -> None:
    """Until a minute after the invoice's end a call costs what was signed, then today's price."""
    paid = shop.pay("/calls")
    shop.reprice(new, "calls")
    clock.now += 659
    assert shop.ask("/calls", paid).json == {"paid": 10_000, "left": 10_000}
    clock.now += 1
    response = shop.ask("/calls", paid)
    if new <= 10_000:
        assert response.json == {"paid": new, "left": 10_000 - new}
        return
    assert (response.status_code, response.json["reason"]) == (402, "exhausted")
    assert response.json["balance_msat"] == 10_000
    assert response.json["amountSats"] == 2 * new // 1000


@pytest.mark.parametrize(("path", "endpoint"), [("/quote", "quote"), ("/calls", "calls")])
def test_freed_and_priced_again(shop: Shop, path: str, endpoint: str) -> None:
    """While it is free nobody pays, a holder neither; then it costs again."""
    paid = shop.pay(path)
    shop.reprice(0, endpoint)
    assert shop.ask(path).json["paid"] == 0
    assert shop.ask(path, paid).json["paid"] == 0
    assert "WWW-Authenticate" not in shop.ask(path, "L402 rubbish").headers
    shop.reprice(None, endpoint)
    assert shop.ask(path).status_code == 402
    assert shop.ask(path, paid).json["paid"] == 10_000


def test_a_free_view_is_sold_from_now_on(app: Flask) -> None:
    """A price set on what was free in the code is asked."""

    @app.get("/gift")
    @paywall(sats=0)
    def gift() -> str:
        return "gift"

    shop = Shop(app)
    assert shop.ask("/gift").status_code == 200
    shop.reprice(3_000, "gift")
    assert shop.ask("/gift").json["amountSats"] == 3
    assert shop.ask("/gift", shop.pay("/gift")).status_code == 200


@pytest.mark.parametrize("path", ["/report?rows=5", "/one?sats=5"])
def test_a_callable_replaced_while_the_payer_is_away(shop: Shop, clock: Clock, path: str) -> None:
    """Who was asked by a callable is served when a constant has replaced it, and the reverse."""
    endpoint = path[1:].partition("?")[0]
    by_callable = shop.pay(path)
    shop.reprice(9_000, endpoint)
    by_constant = shop.pay(path)
    assert shop.ask(path, by_callable).json["paid"] == 5_000
    shop.reprice(None, endpoint)
    assert shop.ask(path.replace("5", "8"), by_constant).json["paid"] == 9_000


def test_what_is_signed_is_booked(shop: Shop, database: str) -> None:
    """The price of the refused request and its rate stand with the payment."""
    from sqlalchemy import create_engine, text

    for path in ("/calls", "/one?sats=5"):
        shop.ask(path, shop.pay(path))
    with create_engine(database).connect() as connection:
        found = connection.execute(
            text("SELECT endpoint, msat, price_msat, rate FROM l402_payment")
        )
        assert sorted(tuple(row) for row in found) == [
            ("calls", 20_000, 10_000, ""), ("one", 5_000, 0, ""),
        ]  # fmt: skip


def test_a_price_is_narrowed_like_what_was_paid(shop: Shop) -> None:
    """A holder's own price_msat keeps dearer requests out."""
    from test_account_machine import narrowed

    macaroon, _, preimage = shop.pay("/quote").removeprefix("L402 ").partition(":")
    for caveat, status in {
        "price_msat=10000": 200, "price_msat=9999": 402, "rate=": 200, "rate=USD 1": 402,
    }.items():  # fmt: skip
        held = f"L402 {narrowed(macaroon, (caveat,))}:{preimage}"
        assert shop.ask("/quote", held).status_code == status, caveat


def test_the_last_known_prices_hold_while_the_store_is_down(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass bought elsewhere is judged by the price that this process knew last."""
    dear = shop.pay("/dear")
    assert shop.ask("/dear", dear).status_code == 200
    shop.reprice(15_000, "quote")
    assert shop.ask("/quote", dear).status_code == 200

    def down(*_: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(shop.gate.store.prices, "all", down)
    shop.gate.sync._read_at -= 2
    assert shop.ask("/quote", dear).status_code == 200
    assert shop.ask("/quote").status_code == 503
    shop.gate.prices.learn([price(25_000)])
    assert shop.ask("/quote", dear).status_code == 503  # no challenge without the record


def test_a_store_that_is_down_at_the_start_sells_nothing(
    make_app: Callable[..., Flask], database: str
) -> None:
    """No price is sold at, nor anything given away, before those of run time could be read."""
    before = gifts(make_app())
    for endpoint in ("quote", "gift", "count"):
        before.reprice(5_000, endpoint)
    paid = before.pay("/gift")
    with missing(database):
        shop = gifts(make_app())
        for path in ("/quote", "/gift", "/count?sats=0"):
            for shown in (None, paid, "L402 AAAA:" + "0" * 64):
                answer = shop.ask(path, shown)
                assert (answer.status_code, answer.json["reason"]) == (503, "store_unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
                assert "WWW-Authenticate" not in answer.headers
    await_(lambda: shop.ask("/gift").status_code == 402, "the store to be found again")
    assert [shop.ask(path).json["amountSats"] for path in ("/quote", "/gift", "/count?sats=0")] == [
        5, 5, 5,
    ]  # fmt: skip
    assert shop.ask("/gift", paid).text == "gift"


def gifts(app: Flask) -> Shop:
    """A shop in whose code some is free."""

    @app.get("/gift")
    @paywall(sats=0)
    def gift() -> str:
        return "gift"

    @app.get("/count")
    @paywall(sats=lambda: int(request.args["sats"]))
    def count() -> str:
        return "count"

    return Shop(app)


@contextmanager
def missing(database: str) -> Iterator[None]:
    """Have a directory where the database was."""
    path = Path(database.removeprefix("sqlite:///"))
    aside = path.rename(path.with_suffix(".aside"))
    path.mkdir()
    yield
    path.rmdir()
    aside.rename(path)


# A price that cannot be had


@pytest.mark.parametrize("value", [1.0, -1, None, "raises"])
def test_a_faulty_callable_is_a_500_without_an_invoice(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    """It is named in the log, nothing is sold, and nobody is served for nothing."""
    app.config["PROPAGATE_EXCEPTIONS"] = False
    gate = app.extensions["l402"]
    monkeypatch.setattr(gate.desk, "create_invoice", lambda *_: pytest.fail("an invoice was made"))

    def price_of_rows() -> Any:
        return 1 / 0 if value == "raises" else value

    @app.get("/priced")
    @paywall(sats=price_of_rows)
    def priced() -> str:
        return "served"

    response = ask(app, path="/priced")
    assert response.status_code == 500
    assert "WWW-Authenticate" not in response.headers
    assert "the price callable" in caplog.text
    assert "price_of_rows" in caplog.text


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("asker", ["price", "validate"])
def test_a_price_that_calls_a_view_that_is_sold(
    app: Flask, caplog: pytest.LogCaptureFixture, asker: str, shown: bool
) -> None:
    """One request is sold once: it is a 500, and neither view takes anything."""
    app.config["PROPAGATE_EXCEPTIONS"] = False
    shop, calls = Shop(app), app.view_functions["calls"]

    def price_of_another() -> int:
        return int(calls().get_json()["paid"]) // 1000

    def check() -> None:
        calls()

    @app.get("/resold")
    @paywall(
        sats=price_of_another if asker == "price" else 10,
        uses=1,
        validate=check if asker == "validate" else None,
    )
    def resold() -> str:
        return "resold"

    paid = shop.pay("/calls")
    shop.ask("/calls", paid)
    answer = shop.ask("/resold", paid if shown else None)
    assert (answer.status_code, "WWW-Authenticate" in answer.headers) == (500, False)
    assert "one request is sold once" in caplog.text
    assert asker == "validate" or "price_of_another raised RuntimeError" in caplog.text
    assert shop.ask("/calls", paid).json["left"] == 0  # two calls were bought: this is the second


def test_without_a_rate_nothing_is_sold_and_who_paid_is_served(
    make_app: Callable[..., Flask],
) -> None:
    """503 and Retry-After, no invoice; what was agreed before needs no rate."""
    market: dict[str, object] = {"price": "97000"}

    def rate(_: str) -> object:
        if market["price"] is None:
            raise OSError
        return market["price"]

    clock = Clock()
    app = make_app(L402_RATES=rate)
    shop = Shop(app)
    app.extensions["l402"].prices._rates._clock = clock

    @app.get("/cents")
    @paywall(price="0.01 USD")
    def cents() -> str:
        return "cents"

    @app.get("/dear_cents")
    @paywall(price="0.02 USD")
    def dear_cents() -> str:
        return "dear"

    paid, dear = shop.pay("/cents"), shop.pay("/dear_cents")
    market["price"] = None
    clock.now += 601
    response = shop.ask("/cents")
    assert (response.status_code, response.json["reason"]) == (503, "rate_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert "WWW-Authenticate" not in response.headers
    assert shop.ask("/cents", paid).status_code == 200
    assert shop.ask("/cents", dear).status_code == 503
    assert shop.ask("/cents", f"{dear}, {paid}").status_code == 200


# validate=


@pytest.fixture
def checked(app: Flask) -> Shop:
    def check() -> Any:
        g.ran = getattr(g, "ran", 0) + 1
        size = request.args.get("size", "")
        if not size.isdigit():
            abort(400, "size is a number")
        if int(size) > 9:
            return {"error": "too large"}, 413
        if size == "7":
            return Response("none of seven", 404, {"Cache-Control": "public"})
        if size == "8":
            raise KeyError("a fault of the host's")
        return None

    @app.get("/sized")
    @paywall(sats=10, validate=check)
    def sized() -> str:
        return "sized"

    @app.get("/sized_calls")
    @paywall(sats=10, uses=1, validate=check)
    def sized_calls() -> str:
        return "sized"

    return Shop(app)


@pytest.mark.parametrize("path", ["/sized", "/sized_calls"])
@pytest.mark.parametrize(
    ("size", "status", "says"),
    [("?", 400, "size is a number"), ("12", 413, "too large"), ("7", 404, "none of seven")],
)
def test_what_cannot_succeed_is_answered_without_an_invoice(
    checked: Shop, database: str, path: str, size: str, status: int, says: str
) -> None:
    """What `validate` returns or raises is the answer, to strangers and holders."""
    paid = checked.pay(f"{path}?size=1")
    for shown in (None, "L402 AAAA:" + "0" * 64, paid):
        response = checked.ask(f"{path}?size={size}", shown)
        assert (response.status_code, "WWW-Authenticate" in response.headers) == (status, False)
        assert says in response.text
        assert "public" not in response.headers["Cache-Control"]
    assert rows(database, "l402_use") == rows(database, "l402_entry") == 0
    assert checked.ask(f"{path}?size=1", paid).status_code == 200


def test_a_validate_that_fails_sells_nothing(checked: Shop) -> None:
    """Another exception is the host's fault, as in a view."""
    checked.app.config["PROPAGATE_EXCEPTIONS"] = False
    response = checked.ask("/sized?size=8")
    assert (response.status_code, "WWW-Authenticate" in response.headers) == (500, False)


def test_validate_runs_within_the_limits_and_on_free_views(make_app: Callable[..., Flask]) -> None:
    """Nobody makes it run without limit; a view that is free now can rely on it still."""
    app = make_app(L402_CHALLENGE_LIMIT="3/hour")
    ran: list[int] = []

    @app.get("/sized")
    @paywall(sats=10, validate=lambda: ran.append(1))
    def sized() -> str:
        return "sized"

    shop = Shop(app)
    assert [shop.ask("/sized").status_code for _ in range(5)] == [402, 402, 402, 429, 429]
    assert len(ran) == 3
    shop.reprice(0, "sized")
    assert shop.ask("/sized").status_code == 200
    assert len(ran) == 4


@pytest.mark.parametrize("validate", ["check", 3, True])
def test_no_validate(validate: Any) -> None:
    """It must be a plain callable."""

    async def later() -> None:
        return None

    for wrong in (validate, later):
        with pytest.raises(ConfigurationError, match="validate="):
            paywall(sats=1, validate=wrong)


def test_what_a_callable_named_holds_for_each_call(make_app: Any) -> None:
    """Calls bought at a callable's price cost that on the way back, though one was set since."""
    app = make_app()

    @app.get("/called")
    @paywall(sats=lambda: 2, uses=10)
    def called() -> dict[str, Any]:
        return {"paid": current_payment.paid}

    client = client_of(app)
    assert client.get("/called").json == {"paid": 2000}
    gate = app.extensions["l402"]
    gate.store.prices.set("shop", "called", "GET", 3_000)
    gate.sync._read_at = float("-inf")  # a second has passed
    assert client.get("/called").json == {"paid": 2000}

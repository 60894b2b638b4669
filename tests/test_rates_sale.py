"""Prices in a currency, through an app: what a payer meets, and what is written down."""

import re
import threading
from base64 import b64decode
from decimal import Decimal

import pytest
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text
from support.http_servers import http_answer, serving

from l402 import current_payment, paywall
from l402.errors import ConfigurationError
from l402.protocol import authorization, token
from l402.rates import feed as rate_feed
from l402.rates import url as rate_url

INVOICE_EXPIRY, WAY_BACK = 600, 60
ONE_CENT = 10_310  # msat at 97000.5, rounded up; the invoice is over whole satoshis


class Market:
    """A callable that gives the price of a bitcoin, or fails, as a test tells it to."""

    def __init__(self, price="97000.5"):
        self.price = price

    def __call__(self, _currency):
        if isinstance(self.price, Exception):
            raise self.price
        return self.price


@pytest.fixture
def market():
    return Market()


@pytest.fixture
def shop(make_app, market):
    return sell(make_app(L402_RATES=market))


def sell(app):
    @app.get("/pass")
    @paywall(price="0.01 USD")
    def pass_():
        return {"paid": current_payment.paid}

    @app.get("/two")
    @paywall(price="0.02 USD")
    def two():
        return {"paid": current_payment.paid}

    @app.get("/one")
    @paywall(price="0.01 USD", uses=1)
    def one():
        return {"paid": current_payment.paid}

    @app.get("/hundred")
    @paywall(price="0.01 USD", uses=100)
    def hundred():
        return {"paid": current_payment.paid}

    return app


class Payer:
    """Gets a challenge and pays it in two steps, so that a test can act between them."""

    def __init__(self, app):
        self.app, self.client = app, FlaskClient(app, app.response_class)
        self.authorization = None

    def get(self, path):
        headers = {"Authorization": self.authorization} if self.authorization else {}
        return self.client.get(path, headers=headers)

    def challenged(self, path):
        answer = self.get(path)
        assert answer.status_code == 402, answer.text
        return answer.json

    def pay(self, body):
        preimage = self.app.extensions["l402"].desk.node.settle(body["invoice"])
        self.authorization = f"L402 {body['macaroon']}:{preimage.hex()}"

    def grant(self):
        gate = self.app.extensions["l402"]
        (credential,) = authorization.parse(self.authorization)
        return token.verify(gate.keys, credential).grant

    def bought(self, path):
        """Buy at `path`, and see that it opens it."""
        self.pay(self.challenged(path))
        assert self.get(path).status_code == 200
        return self


@pytest.fixture
def payer(shop):
    return Payer(shop)


def payments(database):
    with create_engine(database).connect() as connection:
        rows = connection.execute(text("SELECT msat, price_msat, rate FROM l402_payment"))
        return [tuple(row) for row in rows]


@pytest.mark.parametrize(("path", "sats"), [("/pass", 11), ("/one", 11), ("/hundred", 1031)])
def test_the_challenge_is_over_todays_amount(payer, path, sats):
    """A price in dollars is asked for in satoshis at the rate in force, rounded up."""
    body = payer.challenged(path)
    assert (body["amountSats"], body["priceSats"]) == (sats, 11)


@pytest.mark.parametrize("path", ["/pass", "/one", "/hundred"])
def test_the_rate_is_signed_and_written_down(payer, path, database):
    """The token and the payment's row say what the price was reckoned at."""
    grant = payer.bought(path).grant()
    assert (grant.price, grant.rate) == (ONE_CENT, "USD 97000.5")
    assert payments(database) == [(grant.msat, ONE_CENT, "USD 97000.5")]


def test_a_price_in_satoshis_has_no_rate(payer, database):
    """What is sold for satoshis was reckoned at nothing."""
    payer.bought("/quote")
    assert payer.grant().rate == ""
    assert payments(database) == [(10_000, 10_000, "")]


@pytest.mark.parametrize("moved", ["78000", "116000", RuntimeError("the market is shut")])
@pytest.mark.parametrize("path", ["/pass", "/one", "/hundred"])
def test_a_move_before_the_retry_refuses_nobody(payer, market, clock, path, moved):
    """Who was asked a price is served at that price, though the rate moved or went meanwhile."""
    body = payer.challenged(path)
    market.price = moved
    clock.now += INVOICE_EXPIRY - 1
    payer.pay(body)
    clock.now += WAY_BACK
    answer = payer.get(path)
    assert answer.status_code == 200
    assert answer.json == {"paid": 11_000 if path == "/pass" else ONE_CENT}


def test_a_pass_is_good_to_its_end_without_any_rate(payer, market, clock):
    """A pass needs no rate at its own endpoint; elsewhere it does."""
    payer.bought("/pass")
    market.price = RuntimeError("the market is shut")
    clock.now += 3600
    assert payer.get("/pass").status_code == 200
    assert payer.get("/one").status_code == 503


def test_a_pass_is_good_to_any_token_of_its_account_without_a_rate(shop, payer, market, clock):
    """Who keeps the token of what was bought last is let in by what was bought here before."""
    payer.bought("/pass").bought("/two")
    market.price = RuntimeError("the market is shut")
    clock.now += INVOICE_EXPIRY + WAY_BACK + 600
    assert [payer.get(path).status_code for path in ("/pass", "/two", "/one")] == [200, 200, 503]
    (shown,) = shop.extensions["l402"].holders.authentic(payer.authorization)
    shop.extensions["l402"].store.revocations.revoke("token", shown.token_id.hex())
    shop.extensions["l402"].sync._read_at = float("-inf")  # a second has passed
    assert [payer.get(path).status_code for path in ("/pass", "/two")] == [503, 503]


def test_credit_is_money(payer, market, clock):
    """After the time to come back, each call on credit costs what its dollars are today."""
    payer.bought("/hundred")
    left = int(payer.get("/hundred").headers["L402-Balance-Msat"])
    assert left == 1_031_000 - 2 * ONE_CENT
    clock.now += INVOICE_EXPIRY + WAY_BACK
    market.price = "80000"
    answer = payer.get("/hundred")
    assert int(answer.headers["L402-Balance-Msat"]) == left - 12_500


def test_credit_waits_for_a_rate(payer, market, clock):
    """After the time to come back no call is charged at a rate that nobody knows."""
    payer.bought("/hundred")
    clock.now += INVOICE_EXPIRY + WAY_BACK
    market.price = RuntimeError("the market is shut")
    answer = payer.get("/hundred")
    assert (answer.status_code, answer.json["reason"]) == (503, "rate_unavailable")
    clock.now += int(answer.headers["Retry-After"])
    market.price = "97000"
    assert payer.get("/hundred").status_code == 200


@pytest.mark.parametrize(
    "price",
    [97000.5, None, 0, -1, "NaN", "soon", Decimal("Infinity"), Decimal("1e308"), KeyError("x")],
    ids=repr,
)
def test_without_a_rate_nothing_is_sold(payer, market, caplog, price):
    """An absurd source is a 503 that says when to come again; no invoice, and one line."""
    market.price = price
    invoices = []
    node = payer.app.extensions["l402"].desk.node
    node.create_invoice = lambda *asked: invoices.append(asked)
    for path in ("/pass", "/one", "/hundred") * 3:
        answer = payer.get(path)
        assert (answer.status_code, answer.json["reason"]) == (503, "rate_unavailable")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert "WWW-Authenticate" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-store"
    assert invoices == []
    lines = [record for record in caplog.records if record.name == "l402.rates"]
    assert len(lines) == 1
    assert lines[0].levelname == "ERROR"
    assert re.match(
        "no rate of USD, nothing is sold in it: (what )?the callable Market ", lines[0].getMessage()
    )


def test_other_views_sell_on(payer, market):
    """What has its price in satoshis needs no rate."""
    market.price = None
    assert payer.get("/pass").status_code == 503
    payer.bought("/quote")


def test_it_sells_again_when_the_source_is_back(payer, market, clock):
    """An outage ends by itself."""
    market.price = None
    wait = int(payer.get("/pass").headers["Retry-After"])
    market.price = "97000.5"
    clock.now += wait
    payer.bought("/pass")


@pytest.mark.parametrize("times", [Decimal("0.79"), Decimal("1.21"), 100, 10**6])
def test_a_jump_sells_nothing_cheaply(payer, market, clock, times):
    """A rate that jumps is not sold at: the old one to its end, then none."""
    assert payer.challenged("/pass")["amountSats"] == 11
    market.price = Decimal("97000") * times
    for _ in range(10):
        clock.now += 60
        assert payer.challenged("/pass")["amountSats"] == 11
    clock.now += 1
    assert payer.get("/pass").status_code == 503


def test_urls_that_agree_sell_and_the_one_that_lies_does_not(make_app, caplog):
    """Of three real servers one lies; then another falls silent, and nothing is sold."""
    prices = ["97000.5", "9700000", "97000.5"]

    def say(place):
        return lambda _request: http_answer(200, {"usd": prices[place]})

    with serving(say(0)) as one, serving(say(1)) as liar, serving(say(2)) as three:
        urls = [s.url + "/?key=canary#{currency_lower}" for s in (one, liar, three)]
        assert Payer(sell(make_app(L402_RATES=urls))).challenged("/pass")["amountSats"] == 11
        assert f"{liar.url[7:]}: 9700000 is off the median 97000.5" in caplog.text
        three.behaviour = lambda _request: http_answer(429, {})
        another = Payer(sell(make_app(L402_RATES=urls)))
        assert another.get("/pass").json["reason"] == "rate_unavailable"
        assert f"{three.url[7:]}: answered 429" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("behaviour", ["hang", "drip"])
def test_a_late_source_sells_nothing(make_app, monkeypatch, caplog, behaviour):
    """A real server that takes its time is a 503, with that reason in the log."""
    monkeypatch.setattr(rate_url, "WITHIN", 0.3)
    with serving(lambda _: None) as server:
        server.behaviour = getattr(server, behaviour)
        payer = Payer(sell(make_app(L402_RATES=[server.url + "/{currency}#price"])))
        answer = payer.get("/pass")
        assert (answer.status_code, answer.json["reason"]) == (503, "rate_unavailable")
        assert "WWW-Authenticate" not in answer.headers
    assert re.search(
        r"no rate of USD, nothing is sold in it: 0 of 1 sources agree \(.*no answer in time\)",
        caplog.text,
    )


def test_a_callable_that_hangs_sells_nothing(make_app, monkeypatch, caplog):
    """Nobody waits for it longer than a request's patience."""
    monkeypatch.setattr(rate_feed, "_PATIENCE", 0.3)
    end = threading.Event()
    payer = Payer(sell(make_app(L402_RATES=lambda _: end.wait(60))))
    try:
        answer = payer.get("/pass")
    finally:
        end.set()
    assert (answer.status_code, answer.json["reason"]) == (503, "rate_unavailable")
    assert "no rate of USD, nothing is sold in it: no answer in time" in caplog.text


@pytest.mark.parametrize("rates", [{}, {"EUR": 90000}])
def test_a_currency_without_a_rate_stops_the_app(make_app, rates):
    """A price in a currency that the configuration does not name is seen at the first request."""
    app = sell(make_app(L402_RATES=rates))
    with pytest.raises(ConfigurationError, match="a price in USD"):
        FlaskClient(app, app.response_class).get("/free")


def test_a_fixed_rate(make_app, database):
    """A fixed rate in the configuration is enough."""
    payer = Payer(sell(make_app(L402_RATES={"USD": 100_000})))
    assert payer.challenged("/one")["amountSats"] == 10
    payer.bought("/one")
    assert payments(database) == [(10_000, 10_000, "USD 100000")]


def test_the_caveat_reads_plainly(payer):
    """The token says its rate in words that anybody can read."""
    macaroon = payer.challenged("/pass")["macaroon"]
    assert b"rate=USD 97000.5" in b64decode(macaroon)

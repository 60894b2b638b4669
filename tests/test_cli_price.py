"""``flask l402 price``."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.views import MethodView
from support.sales import NOW

from l402 import paywall
from l402.cli import cli

Run = Callable[..., Result]


@pytest.fixture
def shop(app: Flask) -> Flask:
    @app.get("/calls")
    @paywall(sats=2, credit=50)
    def calls() -> str:
        return "calls"

    @app.get("/words")
    @paywall(credit=50, reserve=5)
    def words() -> str:
        return "words"

    class Shelf(MethodView):
        @paywall(sats=1)
        def get(self) -> str:
            return "read"

        @paywall(sats=2, service="other")
        def put(self) -> str:
            return "put"

    app.add_url_rule("/shelf", view_func=Shelf.as_view("shelf"))
    return app


@pytest.fixture
def run(shop: Flask) -> Run:
    def run(*arguments: str) -> Result:
        return shop.test_cli_runner().invoke(cli, ["price", *arguments])

    return run


def prices(app: Flask) -> dict[tuple[str, str, str], int]:
    found = app.extensions["l402"].store.prices.all()
    return {(each.service, each.method, each.endpoint): each.msat for each in found}


def test_set_and_unset(shop: Flask, run: Run) -> None:
    """What was set is in the record and said with what it replaces, and goes again."""
    done = run("set", "quote", "--sats", "12", "--why", "a test")
    assert (done.exit_code, done.stdout) == (
        0, "GET quote of shop: 12 sat (run time), was 10 sat (code); in every process within a"
        " second\n",
    )  # fmt: skip
    assert prices(shop) == {("shop", "GET", "quote"): 12_000}
    assert run("set", "quote", "--msat", "1500").stdout.startswith(
        "GET quote of shop: 1.5 sat (run time), was 12 sat (run time)"
    )
    assert run("unset", "quote").stdout.startswith(
        "GET quote of shop: 10 sat (code), was 1.5 sat (run time)"
    )
    assert prices(shop) == {}


def test_in_json(run: Run) -> None:
    """The document names what is in force now, and what was."""
    assert json.loads(run("set", "report", "--sats", "3", "--json").stdout) == {
        "service": "shop", "endpoint": "report", "method": "GET",
        "price": "3 sat", "source": "run time",
        "was": "a price set per request", "was_source": "code",
    }  # fmt: skip
    assert json.loads(run("unset", "report", "--json").stdout)["price"] == "a price set per request"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["qoute", "--sats", "1"], 3, "qoute is not for sale; did you mean quote?"),
        (["free", "--sats", "1"], 3, "free is not for sale"),
        (["nothing.like.it", "--sats", "1"], 3, "nothing.like.it is not for sale\n"),
        (["quote", "--method", "put", "--sats", "1"], 3, "there is GET quote of shop"),
        (["quote", "--service", "other", "--sats", "1"], 3, "there is GET quote of shop"),
        (["shelf", "--sats", "1"], 2, "may mean GET shelf of shop, PUT shelf of other; add"),
        (["quote"], 2, "--sats or --msat, or --free"),
        (["quote", "--sats", "1", "--msat", "1"], 2, "write one price"),
        (["quote", "--sats", "0"], 2, "--free"),
        (["quote", "--msat", "0"], 2, "--free"),
        (["quote", "--sats", "1", "--free"], 2, "--free is a price of 0"),
        (["quote", "--sats", "-1"], 2, "--sats"),
        (["quote", "--sats", "1.5"], 2, "--sats"),
        (["quote", "--sats", "100001"], 2, "above L402_MAX_PRICE (100000)"),
        (["words", "--sats", "1"], 2, "metered"),
    ],
)
def test_refused(shop: Flask, run: Run, arguments: list[str], code: int, says: str) -> None:
    """What cannot be set is refused in words that help, and changes nothing."""
    done = run("set", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert says in done.stderr
    assert prices(shop) == {}


@pytest.mark.parametrize("amount", [["--sats", "0"], []])
def test_free(shop: Flask, run: Run, amount: list[str]) -> None:
    """A price of 0 is taken when it is called free, of a metered view too."""
    for endpoint in ("quote", "words"):
        done = run("set", endpoint, *amount, "--free")
        assert done.exit_code == 0, done.stderr
        assert f"GET {endpoint} of shop: free (run time)" in done.stdout
        assert prices(shop)["shop", "GET", endpoint] == 0
        assert shop.test_client().get(f"/{endpoint}").status_code == 200


def test_one_method(shop: Flask, run: Run) -> None:
    """--method chooses of several, written in either case."""
    assert run("set", "shelf", "--method", "put", "--sats", "7").exit_code == 0
    assert prices(shop) == {("other", "PUT", "shelf"): 7_000}


def test_list(shop: Flask, run: Run) -> None:
    """Every price that is set is listed, one that is of nothing sold any more is marked."""
    gate = shop.extensions["l402"]
    assert run("list").stdout.splitlines() == ["SERVICE  METHOD  ENDPOINT  PRICE  SET  WHY"]
    gate.store.prices.set("shop", "gone", "GET", 5_000)
    run("set", "quote", "--free", "--why", "a test")
    _, gone, quote = run("list").stdout.splitlines()
    assert gone.split()[:4] == ["shop", "GET", "gone", "5"]
    assert gone.endswith("(not for sale)")
    assert quote.split()[:4] == ["shop", "GET", "quote", "free"]
    assert quote.endswith("a test")
    document = json.loads(run("list", "--json").stdout)
    told: list[dict[str, Any]] = document["prices"]
    assert [(each["endpoint"], each["msat"], each["sold"]) for each in told] == [
        ("gone", 5_000, False), ("quote", 0, True),
    ]  # fmt: skip
    assert told[0]["set_at"] > NOW.isoformat()[:2]


def test_a_price_from_before_it_was_metered(shop: Flask, run: Run) -> None:
    """A release may meter what had a price: the list says that it is not in force, routes too."""
    gate = shop.extensions["l402"]
    gate.store.prices.set("shop", "words", "GET", 1_000)
    assert run("list").stdout.endswith("(not in force: it is metered)\n")
    routes = shop.test_cli_runner().invoke(cli, ["routes"]).stdout
    (line,) = (line for line in routes.splitlines() if line.startswith("/words"))
    assert "metered  " in line
    assert "50 sat of credit, charged by use, 5 sat set aside for each call" in line
    assert run("unset", "words").exit_code == 0


def test_unset_what_is_not_set(run: Run) -> None:
    """There must be a price to unset; the nearest of those that are set are named."""
    run("set", "quote", "--sats", "1")
    done = run("unset", "qoute")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "no price is set for qoute; did you mean quote?" in done.stderr


def test_unset_what_was_sold_as_another_service(shop: Flask, run: Run) -> None:
    """Of two rows that differ in their service alone the error says how to name one."""
    for service in ("before", "shop"):
        shop.extensions["l402"].store.prices.set(service, "quote", "GET", 5_000)
    refused = run("unset", "quote", "--method", "GET")
    assert (refused.exit_code, "add --method or --service" in refused.stderr) == (2, True)
    assert run("unset", "quote", "--service", "before").exit_code == 0
    assert prices(shop) == {("shop", "GET", "quote"): 5_000}


def test_unset_what_is_not_sold_any_more(shop: Flask, run: Run) -> None:
    """A price outlives its endpoint until it is unset."""
    shop.extensions["l402"].store.prices.set("shop", "gone", "GET", 5_000)
    done = run("unset", "gone")
    assert (done.exit_code, prices(shop)) == (0, {})
    assert "not for sale" in done.stdout


def test_routes_say_what_is_in_force(shop: Flask, run: Run) -> None:
    """The catalogue shows each price in force, and where it comes from if not from the code."""
    run("set", "report", "--sats", "3")
    run("set", "calls", "--msat", "500")
    runner = shop.test_cli_runner()
    shop.extensions["l402"].sync._read_at = float("-inf")  # another process, or a second later
    lines = {line.split()[0]: line for line in runner.invoke(cli, ["routes"]).stdout.splitlines()}
    assert "3 sat (run time)" in lines["/report"]
    assert "3 sat, any number of calls" in lines["/report"]
    assert "0.5 sat (run time)" in lines["/calls"]
    assert "(" not in lines["/quote"]
    told = json.loads(runner.invoke(cli, ["routes", "--json"]).stdout)["routes"]
    by_rule = {each["rule"]: each for each in told}
    assert by_rule["/report"]["price_from"] == "run time"
    assert by_rule["/report"]["price_msat"] == 3_000

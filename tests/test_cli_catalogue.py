"""``flask l402 routes``."""

import json
from collections.abc import Callable

from flask import Flask
from flask.views import MethodView

from l402 import L402, paywall
from l402.cli import cli


def make_shop() -> Flask:
    app = Flask("shop")
    app.config.update(
        TESTING=True, L402_NODE="simulated:", L402_SECRET_KEY="0123456789abcdef" * 2,
        L402_SERVICE="shop", L402_DATABASE_URL="sqlite://",
    )  # fmt: skip
    L402(app)

    @app.route("/quote", methods=["GET", "POST"])
    @paywall(sats=10)
    def quote() -> str:
        return "quote"

    @app.get("/report")
    @paywall(sats=lambda: 3, service="reports", valid_for=90)
    def report() -> str:
        return "report"

    class Books(MethodView):
        @paywall(sats=1)
        def get(self) -> str:
            return "books"

        @paywall(sats=2)
        def put(self) -> str:
            return "put"

        def post(self) -> str:
            return "open"

    app.add_url_rule("/books", view_func=Books.as_view("books"))
    return app


def test_the_table() -> None:
    """Each rule is listed with its methods, its price, and in words what is sold."""
    done = make_shop().test_cli_runner().invoke(cli, ["routes"])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "RULE     METHODS   PRICE        SERVICE  SOLD",
        "/quote   GET,POST  10 sat       shop     10 sat, any number of calls for 1 h",
        "/report  GET       per request  reports  "
        "a price set per request, any number of calls for 1 min 30 s",
        "/books   GET       1 sat        shop     1 sat, any number of calls for 1 h",
        "/books   PUT       2 sat        shop     2 sat, any number of calls for 1 h",
    ]


def test_json() -> None:
    """The document gives prices in msat, and null for one that is set per request."""
    document = json.loads(make_shop().test_cli_runner().invoke(cli, ["routes", "--json"]).stdout)
    quote, report, *_ = document["routes"]
    assert quote == {
        "rule": "/quote",
        "methods": ["GET", "POST"],
        "endpoint": "quote",
        "service": "shop",
        "price_msat": 10_000,
        "price_from": "code",
        "kind": "pass",
        "valid_for": 3600,
        "sold": "10 sat, any number of calls for 1 h",
    }
    assert (report["price_msat"], report["valid_for"]) == (None, 90)


def test_an_open_route_fails(make_app: Callable[..., Flask]) -> None:
    """A paywall above its route, which sells nothing, ends the command with 1."""
    app = make_app()

    @paywall(sats=10)
    @app.get("/open")
    def view() -> str:
        return "open"

    done = app.test_cli_runner().invoke(cli, ["routes"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the route of view is open")

"""What is for sale, as an app can ask itself."""

from flask import Flask

from l402 import sold


def test_sold_names_every_route_with_words(app: Flask) -> None:
    """Each rule and method under a paywall once, and what one payment buys; no free ones."""
    routes = {(route.method, route.rule): route for route in sold(app)}
    assert routes["GET", "/quote"].words == "10 sat, any number of calls for 1 h"
    assert routes["POST", "/echo"].endpoint == "echo"
    assert "a price set per request" in routes["GET", "/report"].words
    assert ("GET", "/books") in routes
    assert ("POST", "/books") not in routes
    assert ("GET", "/free") not in routes


def test_no_paywall_means_nothing_for_sale() -> None:
    """An app without paywalls, and without the extension, sells nothing."""
    assert list(sold(Flask("bare"))) == []

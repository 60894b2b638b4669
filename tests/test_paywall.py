"""The decorator: what it takes, what it refuses, what it leaves alone."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, make_response
from flask.views import MethodView
from test_gate import ask, buy

from l402 import ConfigurationError, current_payment, paywall, signals
from l402.errors import PriceError
from l402.testing import PayingClient


@pytest.mark.parametrize(
    "wrong",
    [
        {"sats": -1}, {"sats": 1.5}, {"sats": "10"}, {"sats": True}, {"sats": None},
        {"sats": 1, "service": "no spaces"}, {"sats": 1, "service": ""},
        {"sats": 1, "valid_for": 10**12},
        {"sats": 1, "valid_for": 0}, {"sats": 1, "valid_for": -5}, {"sats": 1, "valid_for": "1h"},
        {"sats": 1, "valid_for": timedelta(milliseconds=5)},
        {"sats": 1, "limit": "often"}, {"sats": 1, "limit": ""}, {"sats": 1, "limit": "0/minute"},
        {"sats": 1, "description": ""}, {"sats": 1, "description": 7},
    ],
)  # fmt: skip
def test_a_wrong_argument_fails_at_decoration(wrong: dict[str, Any]) -> None:
    """The error names the argument and says what to write."""
    with pytest.raises(ConfigurationError, match="paywall"):
        paywall(**wrong)


def test_two_paywalls_on_one_view_fail_at_decoration() -> None:
    """One view has one price."""
    with pytest.raises(ConfigurationError, match="one price"):

        @paywall(sats=1)
        @paywall(sats=2)
        def view() -> str:
            return ""


def test_a_class_and_a_misused_decorator_fail_at_decoration() -> None:
    """A class is told where the paywall goes; no arguments at all is a TypeError."""
    with pytest.raises(ConfigurationError, match="methods"):

        @paywall(sats=1)
        class View(MethodView):
            pass


def test_a_paywall_above_the_route_stops_every_request(make_app: Callable[..., Flask]) -> None:
    """The route would be open, so nothing is served until the order is mended."""
    app = make_app(PROPAGATE_EXCEPTIONS=False)

    @paywall(sats=1)
    @app.get("/open")
    def view() -> str:
        return "leaked"

    for path in ("/open", "/free", "/quote", "/nowhere"):
        response = ask(app, path=path)
        assert response.status_code == 500
        assert b"leaked" not in response.data
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(ConfigurationError, match=r"@app.get"):
        ask(app, path="/free")


def test_class_and_method_paywalls_together_stop_every_request(
    make_app: Callable[..., Flask],
) -> None:
    """A class's and a method's paywall on one route are found before the first response."""
    app = make_app()

    class Twice(MethodView):
        decorators = [paywall(sats=1)]

        @paywall(sats=2)
        def get(self) -> str:
            return ""

    app.add_url_rule("/twice", view_func=Twice.as_view("twice"))
    with pytest.raises(ConfigurationError, match="two paywalls"):
        ask(app, path="/free")


def test_nothing_is_left_on_the_host(make_app: Callable[..., Flask]) -> None:
    """After the first request no hook of ours remains, and no host hook was skipped."""
    app = make_app()
    called: list[str] = []
    app.before_request(lambda: called.append("host"))
    for _ in range(2):
        assert ask(app, path="/free").status_code == 200
    assert called == ["host", "host"]
    assert len(app.before_request_funcs[None]) == 1
    assert not app.after_request_funcs
    assert not app.teardown_request_funcs


def test_without_the_extension_nothing_is_served() -> None:
    """A paywall on an app without L402 fails closed, and names the fix."""
    app = Flask("bare")
    app.testing = True

    @app.get("/quote")
    @paywall(sats=1)
    def view() -> str:
        return ""

    with pytest.raises(ConfigurationError, match=r"L402\(app\)"):
        app.test_client().get("/quote")


def test_blueprints_method_views_and_async_views_are_sold(app: Flask) -> None:
    """All sorts of views take a paywall; an unsold method of a class stays free."""
    blueprint = Blueprint("shop", __name__)

    @blueprint.get("/in-blueprint")
    @paywall(sats=1)
    async def view() -> str:
        await asyncio.sleep(0)
        return "sold"

    app.register_blueprint(blueprint)
    for path in ("/in-blueprint", "/books", "/async"):
        assert ask(app, path=path).status_code == 402
        client, _ = buy(app, path)
        assert client.payments == 1
    assert ask(app, path="/books", method="POST").data == b"posted"


def test_head_is_gated_as_get_and_options_is_free(app: Flask) -> None:
    """HEAD needs a token and takes GET's; OPTIONS is never charged."""
    assert ask(app, method="HEAD").status_code == 402
    _, authorization = buy(app)
    assert ask(app, authorization, method="HEAD").status_code == 200
    assert ask(app, method="OPTIONS").status_code == 200


def test_a_post_is_replayed_after_payment(app: Flask) -> None:
    """The body reaches the view once it is paid for."""
    client = app.test_client()
    assert client.post("/echo", json={"a": 1}).json == {"echo": {"a": 1}}


@pytest.mark.parametrize("code", [400, 404, 500, 503])
def test_a_views_failure_is_passed_through_and_not_counted(app: Flask, code: int) -> None:
    """A status of 400 or more is no use; what was paid stays good."""
    _client, authorization = buy(app)
    gate = app.extensions["l402"]
    gate.sync.flush()
    token_id = gate.holders.authentic(authorization)[0].token_id
    before = gate.store.credentials.state(token_id).uses
    assert ask(app, authorization, f"/status/{code}").status_code == code
    assert ask(app, authorization, "/status/201").status_code == 201
    gate.sync.flush()
    assert gate.store.credentials.state(token_id).uses == before + 1


def test_an_exception_in_the_view_reaches_the_host(app: Flask) -> None:
    """HTTPExceptions and others pass through to the host's own handlers."""

    @app.get("/abort")
    @paywall(sats=1)
    def view() -> str:
        abort(418)

    client = app.test_client()
    assert client.get("/abort").status_code == 418
    assert client.payments == 1


def test_a_host_error_handler_cannot_strip_the_challenge(app: Flask) -> None:
    """Refusals are returned, so `errorhandler(HTTPException)` never sees them."""
    from werkzeug.exceptions import HTTPException

    app.register_error_handler(HTTPException, lambda e: ("caught", 418))
    assert ask(app).headers["WWW-Authenticate"].startswith('L402 macaroon="')


@pytest.mark.parametrize(
    "wrong", [lambda: 1.5, lambda: -1, lambda: None, lambda: True, lambda: 1 // 0, lambda: 10**9]
)
def test_a_price_callable_that_gives_no_price_is_a_500(
    make_app: Callable[..., Flask], wrong: Callable[[], Any]
) -> None:
    """Never free, never an invoice: the error names the callable or the endpoint."""
    app = make_app()

    @app.get("/odd")
    @paywall(sats=wrong)
    def odd() -> str:
        return "leaked"

    with pytest.raises(PriceError, match=r"lambda|odd"):
        ask(app, path="/odd")
    app.config["PROPAGATE_EXCEPTIONS"] = False
    assert ask(app, path="/odd").status_code == 500


def sell(app: Flask, path: str, *headers: tuple[str, str]) -> None:
    """Sell a view whose answer has these headers."""

    @app.get(path)
    @paywall(sats=1)
    def sold() -> Any:
        response = make_response("sold")
        for name, value in headers:
            response.headers.add(name, value)
        return response


def test_a_public_response_is_made_private(app: Flask) -> None:
    """A shared cache in front never keeps what was sold; in debug it is an error."""

    sell(app, "/cached", ("Cache-Control", "public, s-maxage=60, max-age=30"), ("Vary", "Accept"))
    client, authorization = buy(app, "/cached")
    response = client.get("/cached")
    assert response.cache_control.private
    assert not response.cache_control.public
    assert response.cache_control.s_maxage is None
    assert set(response.vary) == {"Accept", "Authorization"}
    app.debug = True
    with pytest.raises(RuntimeError, match="Cache-Control"):
        ask(app, authorization, "/cached")


def test_current_payment_outside_a_paywall_names_the_fix(app: Flask) -> None:
    """A RuntimeError, within a request and without one."""
    with pytest.raises(RuntimeError, match="stream_with_context"):
        _ = current_payment.paid
    with app.test_request_context(), pytest.raises(RuntimeError, match="@paywall"):
        _ = current_payment.paid


def test_current_payment_says_what_was_bought(app: Flask) -> None:
    """Token id, service, what was paid and until when, in msat and aware UTC."""
    seen: dict[str, Any] = {}

    @app.get("/seen")
    @paywall(sats=3)
    def view() -> str:
        seen.update(
            truth=bool(current_payment),
            paid=current_payment.paid,
            service=current_payment.service,
            ends_at=current_payment.ends_at,
            balance=current_payment.balance,
        )
        return ""

    buy(app, "/seen")
    assert seen.pop("ends_at").timestamp() == 1_800_000_000 + 600 + 3600
    assert seen == {"truth": True, "paid": 3000, "service": "shop", "balance": None}


def test_signals_tell_what_happened(app: Flask) -> None:
    """Challenged, refused, first paid and admitted are sent with the app, and no secrets."""
    told: list[tuple[str, dict[str, Any]]] = []
    names = ("challenged", "refused", "first_paid", "admitted", "rate_limited")
    listeners = [(lambda sender, _name=name, **kw: told.append((_name, kw))) for name in names]
    for name, listener in zip(names, listeners, strict=True):
        getattr(signals, name).connect(listener, app)
    _, authorization = buy(app)
    assert [name for name, _ in told] == ["challenged", "refused", "first_paid", "admitted"]
    macaroon, preimage = authorization.removeprefix("L402 ").split(":")
    assert macaroon not in str(told)
    assert preimage not in str(told)


def test_apps_in_one_process_share_nothing(make_app: Callable[..., Flask]) -> None:
    """A token of one app's service and secret opens nothing in another."""
    one, other = (
        make_app(),
        make_app(L402_SECRET_KEY="a quite different secret of 32 bytes and more"),
    )
    _, authorization = buy(one)
    assert ask(other, authorization).json["reason"] == "invalid"
    assert isinstance(one.test_client(), PayingClient)


def test_a_proxy_that_hides_all_callers_is_named_once(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """A loopback peer with forwarding headers and no ProxyFix: one warning; with it, none."""
    from werkzeug.middleware.proxy_fix import ProxyFix

    forwarded = {"HTTP_X_FORWARDED_FOR": "198.51.100.7"}
    bare = app.wsgi_app
    app.wsgi_app = ProxyFix(bare)  # type: ignore[method-assign]
    ask(app, environ_overrides=forwarded)
    assert "ProxyFix" not in caplog.text
    app.wsgi_app = bare  # type: ignore[method-assign]
    for _ in range(3):
        ask(app, environ_overrides=forwarded)
    assert caplog.text.count("ProxyFix") == 1


def test_a_paywall_above_another_decorator_above_the_route_is_found(
    make_app: Callable[..., Flask],
) -> None:
    """A decorator between the paywall and the route does not hide that the route is open."""
    from functools import wraps

    app = make_app()

    def login_required(view: Callable[[], str]) -> Callable[[], str]:
        return wraps(view)(lambda: view())

    @paywall(sats=1)
    @login_required
    @app.get("/open")
    def view() -> str:
        return "leaked"

    with pytest.raises(ConfigurationError, match="open"):
        ask(app, path="/open")


def test_a_second_route_below_the_paywall_is_found(make_app: Callable[..., Flask]) -> None:
    """A route that is sold does not excuse another one of the same function that is open."""
    app = make_app()

    @app.get("/a", endpoint="a")
    @paywall(sats=1)
    @app.get("/b", endpoint="b")
    def view() -> str:
        return "leaked"

    with pytest.raises(ConfigurationError, match="route of b is open"):
        ask(app, path="/b")


def test_a_cheap_pass_opens_no_dear_helper(app: Flask) -> None:
    """A view that calls a dearer one neither sells it at its own price nor serves it twice."""

    @paywall(sats=100)
    def full() -> str:
        return "dear"

    @app.get("/nested")
    @paywall(sats=1)
    def nested() -> Any:
        return full()

    @app.get("/through")
    def through() -> Any:
        from flask import request

        return full() if "full" in request.args else cheap()

    @paywall(sats=1)
    def cheap() -> str:
        return "cheap"

    client, authorization = buy(app, "/through")
    assert client.payments == 1
    assert ask(app, authorization, "/through?full=1").json["reason"] == "price_too_low"
    challenge = ask(app, path="/nested")
    assert challenge.status_code == 402
    with pytest.raises(RuntimeError, match="sold once"):
        buy(app, "/nested")


def test_options_never_runs_the_view(app: Flask) -> None:
    """Where a route lists OPTIONS, the answer is Flask's default and not what is sold."""

    @app.route("/o", methods=["GET", "OPTIONS"])
    @paywall(sats=10)
    def o() -> str:
        return "secret"

    response = ask(app, path="/o", method="OPTIONS")
    assert (response.status_code, response.data) == (200, b"")


def test_free_views_are_never_limited(make_app: Callable[..., Flask]) -> None:
    """`sats=0` serves everybody, and costs nobody a challenge."""
    app = make_app(L402_CHALLENGE_LIMIT="2/hour")

    @app.get("/gratis")
    @paywall(sats=0)
    def gratis() -> str:
        return str(bool(current_payment))

    assert {ask(app, path="/gratis").data for _ in range(5)} == {b"False"}
    assert ask(app).status_code == 402


def test_a_dispatching_view_is_found_on_sale(app: Flask) -> None:
    """A class that sells its dispatch_request is listed like any other."""
    from flask.views import View

    from l402 import sold

    class Dispatching(View):
        @paywall(sats=3)
        def dispatch_request(self) -> str:
            return "sold"

    app.add_url_rule("/dispatching", view_func=Dispatching.as_view("dispatching"))
    assert ask(app, path="/dispatching").status_code == 402
    assert "/dispatching" in {route.rule for route in sold(app)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["private, must-revalidate"], {"private", "must-revalidate"}),
        (["Private, Max-Age=30", "must-revalidate"], {"private", "max-age=30", "must-revalidate"}),
        (["private", "no-store"], {"private", "no-store"}),
        (["No-Store"], {"no-store"}),
    ],
)
def test_what_is_private_already_stays_as_it_is(
    app: Flask, given: list[str], expected: set[str]
) -> None:
    """In debug too, in any case of letters, and in one header or several."""

    controls = [("cache-control", value) for value in given]
    sell(app, "/careful", *controls, ("vary", "Accept"), ("Vary", "Origin"))
    _, authorization = buy(app, "/careful")
    app.debug = True
    answer = ask(app, authorization, "/careful")
    assert set(answer.headers["Cache-Control"].split(", ")) == expected
    assert len(answer.headers.getlist("Cache-Control")) == 1
    assert answer.headers.getlist("Vary") == ["Accept, Origin, Authorization"]


@pytest.mark.parametrize("given", [["private", "Public, S-MaxAge=60"], ["Public", "max-age=60"]])
def test_no_header_of_several_is_public(app: Flask, given: list[str]) -> None:
    """All that a view says of caches counts, however it writes it."""

    sell(app, "/careless", *(("Cache-Control", value) for value in given))
    _, authorization = buy(app, "/careless")
    control = ask(app, authorization, "/careless").headers.getlist("Cache-Control")
    assert len(control) == 1
    assert "private" in control[0]
    assert "public" not in control[0].lower()
    assert "s-maxage" not in control[0].lower()


def test_answers_raised_by_a_paid_view_are_private_too(app: Flask) -> None:
    """abort() gets our headers, and a public answer in it is made private; no scheme of its own."""

    @app.get("/raised/<what>")
    @paywall(sats=1)
    def raised(what: str) -> Any:
        if what == "missing":
            abort(404)
        response = make_response("sold")
        response.headers["Cache-Control"] = 'public, private="set-cookie"'
        response.headers["WWW-Authenticate"] = 'Basic realm="x"'
        abort(response)

    _, authorization = buy(app, "/raised/answer")
    missing = ask(app, authorization, "/raised/missing")
    assert (missing.status_code, missing.headers["Vary"]) == (404, "Authorization")
    assert missing.headers["L402-Simulated"]
    answer = ask(app, authorization, "/raised/answer")
    assert answer.headers["Cache-Control"] == "private"
    assert "WWW-Authenticate" not in answer.headers

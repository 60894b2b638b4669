"""A small API that sells its answers; start it with ``flask --app app run``.

``flask --app app l402 upgrade`` makes its tables first.
"""

import random
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    json,
    jsonify,
    request,
    stream_with_context,
)
from flask_cors import CORS
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from config import configure
from l402 import L402, current_payment, paywall, sold

MAX_ROWS = 500
MAX_WORDS = 10_000
WORD = 100  # msat

QUOTES = (
    ("Know thyself.", "inscribed at Delphi"),
    ("Fortune favours the bold.", "after Virgil"),
    ("The unexamined life is not worth living.", "Socrates, in Plato's Apology"),
    ("Brevity is the soul of wit.", "Shakespeare, Hamlet"),
)
FACTS = (
    "A day on Venus is longer than its year.",
    "Honey keeps for centuries when it is sealed.",
    "The number 402 was set aside in HTTP for payment, and left unused.",
    "One bitcoin is 100 million satoshis.",
)
FORECASTS = ("fair, a light breeze from the west", "rain by noon", "fog, clearing late")
ELEMENTS = {
    "hydrogen": ("H", 1), "helium": ("He", 2), "carbon": ("C", 6), "nitrogen": ("N", 7),
    "oxygen": ("O", 8), "neon": ("Ne", 10), "iron": ("Fe", 26), "copper": ("Cu", 29),
    "silver": ("Ag", 47), "tin": ("Sn", 50), "gold": ("Au", 79), "uranium": ("U", 92),
}  # fmt: skip

api = Blueprint("api", __name__)


def create_app() -> Flask:
    """Return the application, configured as ``APP_CONFIG`` says."""
    app = Flask(__name__)
    configure(app)
    if proxies := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies, x_proto=proxies
        )
    app.register_blueprint(api)
    app.register_error_handler(HTTPException, as_json)
    L402(app)
    CORS(
        app,
        send_wildcard=True,
        allow_headers=["Authorization", "Content-Type", "Accept-Authenticate", "Idempotency-Key"],
        expose_headers=[
            "WWW-Authenticate",
            "Retry-After",
            "L402-Balance-Msat",
            "Idempotency-Replayed",
        ],
    )
    return app


@api.get("/")
def index() -> dict[str, Any]:
    """Say what is for sale; free."""
    return {
        "for_sale": [
            {
                "path": route.rule,
                "method": route.method,
                "description": route.terms.description,
                "price": route.words,
            }
            for route in sold(current_app)
        ],
        "how": "Ask, pay the invoice in the 402's WWW-Authenticate header, and ask again with"
        " Authorization: L402 <macaroon>:<preimage>",
    }


@api.get("/quote")
@paywall(sats=10, description="Quotations")
def quote() -> dict[str, Any]:
    """Sell a quotation."""
    text, source = random.choice(QUOTES)  # noqa: S311
    return {"quote": text, "source": source, "paid_until": f"{current_payment.ends_at:%FT%TZ}"}


@api.get("/fact")
@paywall(sats=10, description="Facts")
def fact() -> dict[str, str]:
    """Sell a fact."""
    return {"fact": random.choice(FACTS)}  # noqa: S311


@api.post("/echo")
@paywall(sats=10, description="The JSON that you post, returned")
def echo() -> Response:
    """Sell the caller's own words."""
    try:
        return jsonify(request.get_json())
    except RecursionError:
        abort(400, "the JSON is nested too deeply")


@api.get("/lookup/<name>")
@paywall(sats=2, uses=100, description="Chemical elements, a hundred look-ups")
def lookup(name: str) -> dict[str, Any]:
    """Sell what is known of a chemical element; what is not known costs nothing."""
    if name.lower() not in ELEMENTS:
        abort(404, f"no element is known here as {name!r}")
    symbol, number = ELEMENTS[name.lower()]
    return {"symbol": symbol, "number": number, "sats_left": (current_payment.balance or 0) / 1000}


def price_of_rows() -> int:
    """Return the price of the report asked for: one sat for each row."""
    rows = request.args.get("rows", "10")
    digits = rows.isascii() and rows.isdigit() and len(rows) <= len(str(MAX_ROWS))
    if not digits or not 1 <= int(rows) <= MAX_ROWS:
        abort(400, f"rows is a whole number from 1 to {MAX_ROWS}")
    return int(rows)


@api.get("/report")
@paywall(sats=price_of_rows, description="A table of squares at one sat for each of ?rows=")
def report() -> dict[str, Any]:
    """Sell a report by its length."""
    rows = int(request.args.get("rows", "10"))
    return {"rows": [{"n": n, "square": n * n} for n in range(1, rows + 1)]}


@api.get("/forecast")
@paywall(price="0.02 USD", uses=1, description="A weather forecast")
def forecast() -> dict[str, str]:
    """Sell a forecast, each for two cents: its supplier bills in dollars."""
    return {"tomorrow": random.choice(FORECASTS)}  # noqa: S311


def check_words() -> None:
    """Refuse a stream of a length that is not sold, before anything is to be paid."""
    words = request.args.get("words", "20")
    digits = words.isascii() and words.isdigit() and len(words) <= len(str(MAX_WORDS))
    if not digits or not 1 <= int(words) <= MAX_WORDS:
        abort(400, f"words is a whole number from 1 to {MAX_WORDS}")


@api.get("/stream")
@paywall(credit=500, reserve=50, validate=check_words, description="Words, 0.1 sat for each")
def stream() -> Response:
    """Sell words by the word, as they are sent."""
    count = int(request.args.get("words", "20"))

    def words() -> Iterator[str]:
        for word in islice(cycle(" ".join(FACTS).split()), count):
            current_payment.charge(msat=WORD)
            yield f"data: {word}\n\n"

    return Response(stream_with_context(words()), mimetype="text/event-stream")


def as_json(error: HTTPException) -> Response:
    """Answer an error in JSON, as the rest of the API does."""
    response: Response = error.get_response()  # type: ignore[assignment]
    response.data = json.dumps({"error": error.name, "detail": error.description})
    response.content_type = "application/json"
    return response

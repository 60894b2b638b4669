"""Apps under test: real SQLite files, the simulated node, a clock that the test moves."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.views import MethodView

from l402 import L402, current_payment, paywall
from l402.store import migrate
from l402.testing import PayingClient

pytest.register_assert_rewrite("support")

SECRET = "correct horse battery staple, 2 x 16 bytes"


class Clock:
    """Unix seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "l402.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> str:
    """The URL of a migrated SQLite file of this test's own."""
    shutil.copy(migrated, tmp_path / "l402.db")
    return f"sqlite:///{tmp_path / 'l402.db'}"


def sell(app: Flask) -> None:
    """Put one view of every sort on sale."""

    @app.get("/quote")
    @paywall(sats=10)
    def quote() -> dict[str, object]:
        return {"paid": current_payment.paid, "token_id": current_payment.token_id}

    @app.get("/fact")
    @paywall(sats=10)
    def fact() -> str:
        return "fact"

    @app.get("/dear")
    @paywall(sats=20)
    def dear() -> str:
        return "dear"

    @app.get("/foreign")
    @paywall(sats=10, service="other")
    def foreign() -> str:
        return "foreign"

    @app.post("/echo")
    @paywall(sats=10)
    def echo() -> dict[str, object]:
        from flask import request

        return {"echo": request.get_json()}

    @app.get("/report")
    @paywall(sats=lambda: _rows())
    def report() -> dict[str, object]:
        return {"paid": current_payment.paid, "sold": bool(current_payment)}

    @app.get("/status/<int:code>")
    @paywall(sats=10)
    def status(code: int) -> tuple[str, int]:
        return "as told", code

    @app.get("/limited")
    @paywall(sats=10, limit="2/hour")
    def limited() -> str:
        return "limited"

    @app.get("/free")
    def free() -> str:
        return "free"

    class Books(MethodView):
        @paywall(sats=10)
        def get(self) -> str:
            return "books"

        def post(self) -> str:
            return "posted"

    app.add_url_rule("/books", view_func=Books.as_view("books"))

    @app.get("/async")
    @paywall(sats=10)
    async def asynchronous() -> str:
        return "async"


def _rows() -> int:
    from flask import abort, request

    rows = request.args.get("rows", "1")
    return int(rows) if rows.isdigit() else abort(400)


@pytest.fixture
def make_app(database: str, clock: Clock) -> Iterator[Callable[..., Flask]]:
    made: list[Flask] = []

    def make(**config: object) -> Flask:
        app = Flask("shop")
        app.test_client_class = PayingClient
        app.config.update(
            {
                "TESTING": True,
                "L402_NODE": "simulated:",
                "L402_SECRET_KEY": SECRET,
                "L402_SERVICE": "shop",
                "L402_DATABASE_URL": database,
            }
            | config
        )
        L402(app, clock=clock)
        sell(app)
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["l402"].sync.close()
        app.extensions["l402"].store.close()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app()

"""Setting up: what init_app checks, and what it leaves alone."""

import gc
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SECRET
from flask import Flask
from flask_limiter import Limiter
from test_gate import ask, buy

from l402 import L402, ConfigurationError


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"L402_SECRET_KEY": None}, "keygen"),
        ({"L402_SECRET_KEY": "short"}, "32"),
        ({"L402_SECRET_KEY": "a" * 64}, "random"),
        ({"SECRET_KEY": SECRET}, "Flask's own"),
        ({"L402_NODE": None}, "L402_NODE"),
        ({"L402_NODE": "nonsense"}, "node URL"),
        ({"L402_RATE_LIMIT": "often"}, "60/minute"),
        ({"L402_VALIDFOR": 5}, "L402_VALID_FOR"),
        ({"L402_SERVICE": "no spaces"}, "L402_SERVICE"),
        ({"L402_STRICT": True}, "look up"),
        ({"L402_DATABASE_URL": "nonsense"}, "L402_DATABASE_URL"),
        ({"TESTING": False}, "L402_SIMULATED"),
        (
            {
                "L402_NODE": "lnd+https://127.0.0.1:1?macaroon=0200000000000000000000000000000000000000000000000000000000000000000000000000000000",
                "L402_SERVICE": None,
            },
            "L402_SERVICE",
        ),
    ],
)
def test_a_wrong_set_up_fails_at_init(
    make_app: Callable[..., Flask], config: dict[str, object], names: str
) -> None:
    """The error names the key and says what to write, and quotes no secret."""
    with pytest.raises(ConfigurationError) as caught:
        make_app(**config)
    assert names in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_second_init_is_refused(app: Flask) -> None:
    """One app has one gate."""
    with pytest.raises(ConfigurationError, match="once"):
        L402(app)


def test_init_opens_nothing_and_starts_nothing(
    make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    """No file descriptor, no thread, no database file before the first request."""
    make_app()  # whatever is imported lazily, is
    gc.collect()
    open_files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    make_app(L402_DATABASE_URL=f"sqlite:///{tmp_path}/absent.db")
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_files
    assert threading.active_count() <= threads  # those of earlier tests may have ended
    assert not (tmp_path / "absent.db").exists()


def test_the_simulated_node_says_so(
    make_app: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    """A warning at start-up and a header on each answer."""
    with caplog.at_level(logging.WARNING, "l402"):
        app = make_app()
    assert "simulated" in caplog.text
    assert ask(app).headers["L402-Simulated"]


def test_a_hosts_limiter_lends_its_storage(database: str) -> None:
    """A Limiter handed in is counted in, initialised before or after L402."""
    limiter = Limiter(key_func=lambda: "x", storage_uri="memory://")
    app = Flask("shop")
    app.testing = True
    app.config.update(
        L402_NODE="simulated:", L402_SECRET_KEY=SECRET, L402_DATABASE_URL=database,
        L402_CHALLENGE_LIMIT="1/hour",
    )  # fmt: skip
    L402(app, limiter=limiter)
    limiter.init_app(app)
    from conftest import sell

    sell(app)
    client = app.test_client()
    assert [client.get("/quote").status_code for _ in range(2)] == [402, 429]
    limiter.reset()
    assert client.get("/quote").status_code == 402
    app.extensions["l402"].sync.close()


def test_a_missing_schema_is_a_503_that_names_the_command(
    make_app: Callable[..., Flask], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers get 503; the log names the command; nobody is asked to pay."""
    app = make_app(L402_DATABASE_URL=f"sqlite:///{tmp_path}/empty.db")
    with caplog.at_level(logging.WARNING, "l402"):
        response = ask(app)
    assert (response.status_code, response.json["reason"]) == (503, "store_unavailable")
    assert "flask l402 upgrade" in caplog.text


def test_free_views_have_no_hook_of_ours(app: Flask) -> None:
    """A free view answers as before, without headers of ours."""
    response = ask(app, path="/free")
    assert response.data == b"free"
    assert "Vary" not in response.headers
    assert "Cache-Control" not in response.headers


def test_factories_and_late_init_work(database: str) -> None:
    """L402() first and init_app later, for several apps."""
    extension = L402()
    apps = []
    for name in ("one", "two"):
        app = Flask(name)
        app.testing = True
        app.config.update(
            L402_NODE="simulated:", L402_SECRET_KEY=SECRET, L402_DATABASE_URL=database,
            L402_SERVICE=name,
        )  # fmt: skip
        extension.init_app(app)
        from conftest import sell

        sell(app)
        from l402.testing import PayingClient

        app.test_client_class = PayingClient
        apps.append(app)
    _, authorization = buy(apps[0])
    assert ask(apps[0], authorization).status_code == 200
    assert ask(apps[1], authorization).json["reason"] == "wrong_service"
    for app in apps:
        app.extensions["l402"].sync.close()

"""The example application and its configuration."""

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

import config
from app import create_app
from config import make_secret
from l402.errors import ConfigurationError
from l402.testing import PayingClient

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def example(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The example under test, on a database of its own."""
    monkeypatch.setenv("APP_CONFIG", "testing")
    monkeypatch.setenv("FLASK_L402_DATABASE_URL", database)
    app = create_app()
    app.test_client_class = PayingClient
    yield app
    app.extensions["l402"].sync.close()
    app.extensions["l402"].store.close()


@pytest.fixture
def poor(example: Flask) -> FlaskClient:
    """A caller who does not pay."""
    return FlaskClient(example)


def test_says_what_is_for_sale(poor: FlaskClient) -> None:
    """The free index names every sold route, with its price in words."""
    answer = poor.get("/")
    listed = {item["path"]: item for item in answer.json["for_sale"]}
    assert answer.status_code == 200
    assert listed["/quote"]["price"] == "10 sat, any number of calls for 1 h"
    assert listed["/echo"]["method"] == "POST"
    assert set(listed) == {
        "/quote", "/fact", "/echo", "/report", "/lookup/<name>", "/forecast", "/stream",
    }  # fmt: skip
    assert listed["/lookup/<name>"]["price"] == "200 sat for 100 calls, 2 sat for each"
    assert listed["/forecast"]["price"] == "0.02 USD, for each call"
    assert listed["/stream"]["price"].startswith("500 sat of credit, charged by use")
    assert all(item["description"] for item in listed.values())


@pytest.mark.parametrize("path", ["/quote", "/fact"])
def test_costs_ten(poor: FlaskClient, path: str) -> None:
    """A view under a constant price asks for that price."""
    answer = poor.get(path)
    assert (answer.status_code, answer.json["amountSats"]) == (402, 10)


def test_one_payment_opens_what_costs_no_more(example: Flask) -> None:
    """Ten satoshis paid at one view open the others of that price, any number of times."""
    buyer = example.test_client()
    answers = [buyer.get("/quote"), buyer.get("/quote"), buyer.get("/fact")]
    answers.append(buyer.post("/echo", json={"n": [1, None]}))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert answers[-1].json == {"n": [1, None]}
    assert buyer.payments == 1


def test_a_report_costs_a_sat_for_each_row(example: Flask) -> None:
    """What was paid for a report opens reports of up to that length."""
    buyer = example.test_client()
    assert len(buyer.get("/report?rows=20").json["rows"]) == 20
    assert len(buyer.get("/report?rows=7").json["rows"]) == 7
    assert buyer.payments == 1
    assert len(buyer.get("/report?rows=21").json["rows"]) == 21
    assert buyer.payments == 2


def test_look_ups_are_sold_by_the_hundred(example: Flask) -> None:
    """One payment of 200 sat, 2 sat off the balance for each answer, nothing for a 404."""
    buyer = example.test_client()
    assert buyer.get("/lookup/Gold").json == {"symbol": "Au", "number": 79, "sats_left": 198}
    assert buyer.get("/lookup/mithril").status_code == 404
    answer = buyer.get("/lookup/tin")
    assert answer.headers["L402-Balance-Msat"] == "196000"
    assert buyer.payments == 1


@pytest.mark.parametrize("rows", ["", "0", "-1", "x", "1.5", "1e1", "501", "٣", "9" * 5000])
def test_a_report_of_an_odd_length_is_a_400(poor: FlaskClient, rows: str) -> None:
    """A length that cannot be sold is refused before anything is to be paid."""
    answer = poor.get("/report", query_string={"rows": rows})
    assert answer.status_code == 400
    assert "WWW-Authenticate" not in answer.headers
    assert "from 1 to 500" in answer.json["detail"]


def test_a_forecast_costs_two_cents(example: Flask) -> None:
    """At the configured rate that is 20 sat for each."""
    assert example.config["L402_RATES"] == {"USD": "100000"}
    buyer = example.test_client()
    for bought in (1, 2):
        answer = buyer.get("/forecast")
        assert answer.json["tomorrow"]
        assert (answer.headers["L402-Balance-Msat"], buyer.payments) == ("0", bought)
    assert FlaskClient(example).get("/forecast").json["amountSats"] == 20


def test_a_stream_is_sold_by_the_word(example: Flask) -> None:
    """Each word costs 0.1 sat of 500 that are bought at once, as server-sent events."""
    buyer = example.test_client()
    answer = buyer.get("/stream?words=3")
    assert answer.mimetype == "text/event-stream"
    assert answer.text == "data: A\n\ndata: day\n\ndata: on\n\n"
    assert buyer.get("/stream").text.count("data: ") == 20
    assert buyer.get("/lookup/tin").headers["L402-Balance-Msat"] == str(500_000 - 2_300 - 2_000)
    assert buyer.payments == 1


def test_a_stream_ends_with_the_credit(example: Flask) -> None:
    """The last event of a stream that was cut short carries what buys more."""
    buyer = example.test_client()
    text = buyer.get("/stream?words=10000").text
    assert text.count("event: payment-required") == 1
    assert text.count("data: ") == 5_000 + 1
    told = json.loads(text.rpartition("data: ")[2])
    assert (told["reason"], told["amountSats"]) == ("exhausted", 500)
    assert buyer.get("/stream?words=1").status_code == 200
    assert buyer.payments == 2


@pytest.mark.parametrize("words", ["", "0", "-1", "x", "1.5", "10001", "٣"])
def test_a_stream_of_an_odd_length_is_a_400(poor: FlaskClient, words: str) -> None:
    """A length that is not sold is refused before anything is to be paid."""
    answer = poor.get("/stream", query_string={"words": words})
    assert answer.status_code == 400
    assert "WWW-Authenticate" not in answer.headers
    assert "from 1 to 10000" in answer.json["detail"]


def test_browsers_of_any_origin_can_read_the_challenge(poor: FlaskClient) -> None:
    """The 402 carries the headers of CORS, and exposes the challenge."""
    answer = poor.get("/quote", headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 402
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "WWW-Authenticate" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("path", ["/quote", "/echo"])
def test_browsers_may_send_a_credential(poor: FlaskClient, path: str) -> None:
    """A preflight is free and allows what a paying client sends."""
    answer = poor.options(
        path,
        headers={
            "Origin": "https://elsewhere.example",
            "Access-Control-Request-Method": "POST" if path == "/echo" else "GET",
            "Access-Control-Request-Headers": "authorization, content-type, accept-authenticate,"
            " idempotency-key",
        },
    )
    allowed = {name.strip() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert answer.status_code == 200
    assert {name.lower() for name in allowed} == {
        "authorization",
        "content-type",
        "accept-authenticate",
        "idempotency-key",
    }


def test_errors_are_json(poor: FlaskClient) -> None:
    """An error of Flask's own is answered in JSON, with its headers kept."""
    assert poor.get("/nowhere").json["error"] == "Not Found"
    assert "GET" in poor.post("/quote").headers["Allow"]


def test_proxies_are_believed_when_named(example: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one trusted proxy the caller's address is the one that it forwards."""
    monkeypatch.setenv("FLASK_TRUSTED_PROXIES", "1")
    app = create_app()
    app.add_url_rule("/address", view_func=lambda: request.remote_addr)
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert FlaskClient(app).get("/address", headers=forwarded).text == "203.0.113.9"
    example.add_url_rule("/address", view_func=lambda: request.remote_addr)
    assert FlaskClient(example).get("/address", headers=forwarded).text == "127.0.0.1"


def test_another_server_needs_the_configuration_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside the flask command nothing starts until APP_CONFIG is set."""
    monkeypatch.delenv("APP_CONFIG", raising=False)
    monkeypatch.delenv("FLASK_RUN_FROM_CLI", raising=False)
    with pytest.raises(RuntimeError, match="APP_CONFIG is not set"):
        create_app()


def test_an_unknown_configuration_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt APP_CONFIG is an error that lists the right ones."""
    monkeypatch.setenv("APP_CONFIG", "prod")
    with pytest.raises(RuntimeError, match="'prod' is none of development, production, testing"):
        create_app()


def test_production_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The production configuration has neither a node nor a secret of its own."""
    monkeypatch.setenv("APP_CONFIG", "production")
    with pytest.raises(ConfigurationError, match=r"L402_(NODE|SECRET_KEY)"):
        create_app()


def test_production_does_not_sell_for_play_money(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated node in production is refused unless it is allowed by name."""
    monkeypatch.setenv("APP_CONFIG", "production")
    monkeypatch.setenv("FLASK_L402_NODE", "simulated:")
    monkeypatch.setenv("FLASK_L402_SECRET_KEY", "0123456789abcdef" * 4)
    with pytest.raises(ConfigurationError, match="L402_SIMULATED"):
        create_app()


def test_development_makes_a_secret_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start writes a secret for its owner alone; later ones keep it."""
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "true")
    monkeypatch.delenv("APP_CONFIG", raising=False)
    paths = []
    for _ in range(2):
        app = Flask("example", instance_path=str(tmp_path / "instance"))
        config.configure(app)
        path = Path(app.config["L402_SECRET_KEY_PATH"])
        paths.append((path, path.read_text()))
    assert paths[0] == paths[1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32


def test_a_given_secret_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a secret from the environment none is written."""
    monkeypatch.setenv("APP_CONFIG", "development")
    monkeypatch.setenv("FLASK_L402_SECRET_KEY", "0123456789abcdef" * 4)
    app = Flask("example", instance_path=str(tmp_path / "instance"))
    config.configure(app)
    assert not (tmp_path / "instance").exists()


def test_processes_agree_on_one_secret(tmp_path: Path) -> None:
    """However many make the secret at once, one file results, and no draft is left."""
    path = tmp_path / "secret"
    threads = [threading.Thread(target=make_secret, args=(path,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]
    assert len(path.read_text().strip()) == 64


def test_the_flask_command_starts_it(tmp_path: Path) -> None:
    """``flask --app app routes`` loads the example with nothing configured but the database."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "APP_"))}
    environment["FLASK_L402_DATABASE_URL"] = f"sqlite:///{tmp_path}/l402.db"
    environment["FLASK_L402_SECRET_KEY"] = "0123456789abcdef" * 4
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "l402", "routes", "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "/report" in json.dumps(json.loads(done.stdout))

"""What must not be told: preimages, tokens, keys, the node's credential and passwords."""

import logging
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import SECRET, Clock
from flask import Flask, Response, request_finished
from support.canaries import forms
from support.http_servers import Certificate, Server, http_answer, serving
from support.postgres import free_port
from test_gate import CHALLENGE, ask, buy

from l402.bookings import sale
from l402.errors import L402Error
from l402.payment import CurrentPayment
from l402.protocol import authorization, token
from l402.settings import Settings
from l402.terms import Terms

OLDER = "an older canary of a secret key, which is long"
NODE_MACAROON = "02" + "ca9a51" * 20
PASSWORD = "canary p@ss/word"


def of(shown: str) -> list[bytes | str]:
    """The secrets in an Authorization: itself, the macaroon, its signature and the preimage."""
    macaroon, preimage = shown.removeprefix("L402 ").split(":")
    raw = b64decode(macaroon)
    return [shown, raw, raw[-32:], bytes.fromhex(preimage)]


class Ears:
    """Hears every log record at any level, formatted with its traceback, and every answer."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._answers: list[str] = []

    def answer(self, _: object, response: Response, **__: object) -> None:
        """Keep an answer: its body and its headers."""
        text = "\n".join([response.get_data(as_text=True), str(response.headers)])
        self._answers.append(text)

    def forget(self) -> None:
        """Drop the answers so far, such as the offer that was bought."""
        self._answers.clear()

    def assert_silent_of(self, kept: list[bytes | str], *, offers: bool = False) -> None:
        """Assert that none of `kept` was written anywhere; with `offers`, answers may hold it."""
        heard = [self._caplog.text, *(repr(vars(record)) for record in self._caplog.records)]
        heard += [] if offers else self._answers
        assert len(heard) > 1
        for secret in kept:
            for form in forms(secret):
                assert not [text for text in heard if form in text], form


@pytest.fixture
def ears(caplog: pytest.LogCaptureFixture) -> Ears:
    caplog.set_level(logging.DEBUG)
    for name in ("l402", "urllib3", "sqlalchemy", "werkzeug", "flask", "shop"):
        caplog.set_level(logging.DEBUG, name)
    return Ears(caplog)


@pytest.fixture
def shop(make_app: Callable[..., Flask], ears: Ears) -> Iterator[Flask]:
    """An app that answers its own faults with a 500, and is listened to."""
    app = make_app(L402_SECRET_KEY_FALLBACKS=[OLDER], PROPAGATE_EXCEPTIONS=False)
    with request_finished.connected_to(ears.answer, app):
        yield app


def bought(app: Flask) -> str:
    """Return the Authorization of a paid token that was not shown yet."""
    found = CHALLENGE.fullmatch(ask(app).headers["WWW-Authenticate"])
    assert found
    return f"L402 {found[1]}:{app.extensions['l402'].desk.node.settle(found[2]).hex()}"


def test_a_purchase_and_its_repeats_tell_no_secret(shop: Flask, ears: Ears) -> None:
    """Logs hold nothing of a sale that opens anything; answers no preimage and no key."""
    client, shown = buy(shop)
    assert client.get("/quote").status_code == 200
    shop.extensions["l402"].sync.flush()
    ears.assert_silent_of(of(shown), offers=True)
    ears.assert_silent_of([shown, of(shown)[-1], SECRET, OLDER])


def test_refusals_tell_no_secret(shop: Flask, ears: Ears, clock: Clock) -> None:
    """No refusal of any sort repeats what was shown, to the caller or to the log."""
    shown = bought(shop)
    macaroon, preimage = shown.removeprefix("L402 ").split(":")
    ears.forget()  # the offer itself
    flipped = b64encode(b64decode(macaroon)[:-1] + b"?").decode()
    for header, path, status in (
        (shown, "/dear", 402),
        (shown, "/foreign", 402),
        (f"L402 {flipped}:{preimage}", "/quote", 402),
        (f"L402 {macaroon}:{'0' * 64}", "/quote", 402),
        (f"L402 {macaroon}:{preimage}0", "/quote", 400),
        (f"L402 {macaroon} {preimage}", "/quote", 400),
        (f"L402 {macaroon}={preimage}:", "/quote", 400),
        (f"L402 {preimage}:{macaroon}", "/quote", 400),
        (f"Bearer {macaroon}:{preimage}", "/quote", 402),
        (",".join([shown] * 5), "/quote", 400),
        (shown + "x" * 16384, "/quote", 400),
        (shown, "/report?rows=999999", 500),
        (shown, "/limited", 200),
        (shown, "/limited", 200),
        (shown, "/limited", 429),
        (shown, "/status/500", 500),
    ):
        response = ask(shop, header, path)
        assert response.status_code == status, (header, path, response.json)
    clock.now += 86400
    assert ask(shop, shown).json["reason"] == "expired"
    ears.assert_silent_of([*of(shown), flipped, SECRET, OLDER])


def test_a_revoked_token_is_not_repeated(shop: Flask, ears: Ears) -> None:
    """The refusal of a revoked token tells nothing of it."""
    shown = bought(shop)
    ears.forget()
    gate = shop.extensions["l402"]
    gate.store.revocations.revoke("token", gate.holders.authentic(shown)[0].token_id.hex())
    assert ask(shop, shown).json["reason"] == "revoked"
    ears.assert_silent_of([*of(shown), SECRET, OLDER])


def test_a_store_that_fails_tells_no_secret(shop: Flask, ears: Ears, tmp_path: Path) -> None:
    """A purchase that meets a record that is gone is a 503 without a word about the token."""
    shown = bought(shop)
    ears.forget()
    gate = shop.extensions["l402"]
    gate.sync.close()
    gate.store.close()
    for path in tmp_path.glob("l402.db*"):
        path.rename(tmp_path / f"gone-{path.name}")
    response = ask(shop, shown)
    assert (response.status_code, response.json["reason"]) == (503, "store_unavailable")
    ears.assert_silent_of([*of(shown), SECRET, OLDER])


def test_a_database_that_is_away_tells_no_password(
    make_app: Callable[..., Flask], ears: Ears
) -> None:
    """Errors, logs and answers about a database name it without its password."""
    pytest.importorskip("psycopg")
    url = f"postgresql://l402:{quote(PASSWORD, safe='')}@127.0.0.1:{free_port()}/l402"
    app = make_app(L402_DATABASE_URL=url)
    with request_finished.connected_to(ears.answer, app):
        assert ask(app).status_code == 503
    store = app.extensions["l402"].store
    with pytest.raises(L402Error) as caught:
        store.ping()
    ears.assert_silent_of([PASSWORD, SECRET])
    for text in (str(caught.value), repr(caught.value), repr(store), str(store.db)):
        assert not [form for form in forms(PASSWORD) if form in text]


@pytest.fixture
def node_server(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A server that throws back what it was sent, and the URL that names it as a node."""
    certificate = Certificate.make(tmp_path / "tls")
    with serving(
        lambda request: http_answer(500, {"message": f"you said {request.headers}"}), certificate
    ) as server:
        yield (
            server,
            f"lnd+{server.url}?macaroon={NODE_MACAROON}"
            f"&tls_cert_path={certificate.cert}&network=regtest",
        )


def test_a_node_that_fails_tells_no_secret(
    make_app: Callable[..., Flask], ears: Ears, node_server: tuple[Server, str]
) -> None:
    """A node that refuses and quotes its macaroon, or is gone, leaves none of it in the log."""
    server, url = node_server
    app = make_app(L402_NODE=url)
    with request_finished.connected_to(ears.answer, app):
        assert ask(app).status_code == 503
        server.close()
        assert ask(app).status_code == 503
    ears.assert_silent_of([NODE_MACAROON, bytes.fromhex(NODE_MACAROON), SECRET])


def parts(app: Flask, shown: str) -> dict[str, Any]:
    """Everything about one request that a debugger or an error report may show."""
    gate = app.extensions["l402"]
    (credential,) = authorization.parse(shown)
    valid = token.verify(gate.keys, credential)
    return {
        "gate": gate,
        "settings": Settings.from_config(app.config),
        "key ring": gate.keys,
        "desk": gate.desk,
        "node": gate.desk.node,
        "store": gate.store,
        "database": gate.store.db,
        "limits": gate.limits,
        "sync": gate.sync,
        "verified": gate.holders.verified,
        "defaults": gate.defaults,
        "credential": credential,
        "token": valid,
        "payment": CurrentPayment(valid),
        "sale": sale(valid),
        "denial": gate.admit(_terms(app), "L402 AAAA:12", None),
    }


def _terms(app: Flask) -> Any:
    return app.extensions["l402"].terms(Terms(amount=10), "quote", "GET")


@pytest.mark.parametrize("write", [repr, str, lambda part: f"{part}", lambda part: f"{[part]}"])
def test_no_part_shows_a_secret(write: Callable[[object], str], shop: Flask) -> None:
    """repr and str of every part of the gate, alone or in a list, show no secret."""
    shown = bought(shop)
    for name, part in parts(shop, shown).items():
        for secret in [*of(shown), SECRET, OLDER]:
            assert not [form for form in forms(secret) if form in write(part)], name


@pytest.mark.parametrize("write", [repr, str])
def test_no_part_shows_a_credential_of_ours(
    write: Callable[[object], str],
    make_app: Callable[..., Flask],
    node_server: tuple[Server, str],
) -> None:
    """The node's macaroon and the database's password are in no part's text."""
    pytest.importorskip("psycopg")
    url = f"postgresql://l402:{quote(PASSWORD, safe='')}@127.0.0.1:{free_port()}/l402"
    app = make_app(L402_NODE=node_server[1], L402_DATABASE_URL=url)
    gate = app.extensions["l402"]
    settings = Settings.from_config(app.config)
    for part in (gate, settings, gate.desk, gate.desk.node, gate.store, gate.store.db, gate.sync):
        for secret in (NODE_MACAROON, bytes.fromhex(NODE_MACAROON), PASSWORD):
            assert not [form for form in forms(secret) if form in write(part)]


def test_an_offer_is_not_written_down(shop: Flask) -> None:
    """The refusal that carries a fresh token shows none of it: once paid, it is a key."""
    denial = shop.extensions["l402"].admit(_terms(shop), None, "192.0.2.1")
    assert denial.challenge
    for form in forms(denial.challenge.token):
        assert form not in repr(denial)
        assert form not in repr(denial.challenge)

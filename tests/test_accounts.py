"""Accounts: what one token's holder bought in several payments opens views with any of them."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import Clock
from flask import Flask
from sqlalchemy import create_engine, text
from test_gate import ask, rows

from l402 import current_payment, paywall
from l402.nodes.base import Settlement
from l402.protocol import macaroon
from l402.protocol.authorization import parse
from l402.testing import PayingClient

HOUR = 3600


def credit_views(app: Flask, uses: int = 5) -> Flask:
    """Put views on sale that draw on credit."""

    @app.get("/lookup/<name>")
    @paywall(sats=2, uses=uses)
    def lookup(name: str) -> dict[str, object]:
        return {"name": name, "left": current_payment.balance, "paid": current_payment.paid}

    @app.get("/big")
    @paywall(sats=7, credit=200)
    def big() -> str:
        return "big"

    @app.get("/once")
    @paywall(msat=1500, uses=1)
    def once() -> str:
        return "once"

    @app.get("/elsewhere")
    @paywall(sats=2, uses=uses, service="other")
    def elsewhere() -> str:
        return "elsewhere"

    return app


@pytest.fixture
def shop(app: Flask) -> Flask:
    return credit_views(app)


def client_of(app: Flask) -> PayingClient:
    client = app.test_client()
    assert isinstance(client, PayingClient)
    return client


def token_id(authorization: str | None) -> bytes:
    """Return the account that an Authorization names."""
    assert authorization
    (shown,) = parse(authorization)
    return macaroon.parse(shown.macaroon).identifier[34:]


def challenged(answer: Any) -> bytes:
    """Return the account that a challenge sells for."""
    found = re.search('macaroon="([^"]+)"', answer.headers["WWW-Authenticate"])
    assert found
    return token_id(f"L402 {found[1]}:{'0' * 64}")


def balance(app: Flask, authorization: str | None, service: str = "shop") -> int | None:
    """Return what `/l402/credential` says is left."""
    state = ask(app, authorization, "/l402/credential").json["balances"]
    return state[service]["balance_msat"] if service in state else None


def test_calls_are_bought_in_packs(shop: Flask) -> None:
    """One payment of uses times the price buys that many calls; each says what is left."""
    client = client_of(shop)
    for left in (8000, 6000, 4000, 2000, 0):
        answer = client.get("/lookup/ada")
        assert answer.status_code == 200
        assert answer.json == {"name": "ada", "left": left, "paid": 2000}
        assert answer.headers["L402-Balance-Msat"] == str(left)
        assert balance(shop, client.authorization) == left
    assert client.payments == 1


def test_an_empty_balance_is_topped_up_for_the_same_account(shop: Flask) -> None:
    """The 402 says what is left and sells for the same token id; one more payment, one account."""
    client = client_of(shop)
    for _ in range(5):
        client.get("/lookup/ada")
    account = token_id(client.authorization)
    refused = ask(shop, client.authorization, "/lookup/ada")
    assert refused.status_code == 402
    assert (refused.json["reason"], refused.json["balance_msat"]) == ("exhausted", 0)
    assert (refused.json["amountSats"], refused.json["priceSats"]) == (10, 2)
    assert challenged(refused) == account
    assert client.get("/lookup/ada").status_code == 200
    assert client.payments == 2
    assert token_id(client.authorization) == account


def test_an_older_token_draws_on_what_a_newer_one_paid(shop: Flask) -> None:
    """Until its own end each token of an account opens whatever the account holds."""
    client = client_of(shop)
    client.get("/quote")
    older = client.authorization
    assert client.get("/dear").status_code == 200
    assert ask(shop, older, "/dear").status_code == 200
    assert ask(shop, older, "/lookup/ada").status_code == 402
    client.get("/lookup/ada")
    assert ask(shop, older, "/lookup/ada").status_code == 200
    assert client.payments == 3


@pytest.mark.parametrize(
    "paths",
    [
        ("/quote", "/dear", "/lookup/ada", "/big", "/foreign", "/elsewhere"),
        ("/elsewhere", "/big", "/foreign", "/dear", "/lookup/ada", "/quote"),
    ],
)
def test_one_token_for_each_host_pays_each_thing_once(
    app: Flask, database: str, paths: tuple[str, ...]
) -> None:
    """Going round in turns, a client that keeps one token pays for nothing twice."""
    client = client_of(credit_views(app, uses=100))
    for path in paths:
        assert client.get(path).status_code == 200
    paid = client.payments
    for path in (*paths, *reversed(paths)):
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.json)
    assert client.payments == paid <= len(paths)
    assert rows(database, "l402_credential") == 1
    assert rows(database, "l402_payment") == paid


def test_a_pass_never_opens_a_credit_view_nor_credit_a_pass(shop: Flask) -> None:
    """What was paid for one kind of right buys nothing of the other, and loses nothing."""
    for own, other in (("/dear", "/lookup/ada"), ("/big", "/quote")):
        client = client_of(shop)
        client.get(own)
        refused = ask(shop, client.authorization, other)
        assert (refused.status_code, refused.json["reason"]) == (402, "wrong_kind")
        assert challenged(refused) == token_id(client.authorization)


def test_passes_are_never_added_up(shop: Flask, clock: Clock) -> None:
    """Two passes of 10 sat do not open a view of 20; nor a dear one's price a later end."""
    client = client_of(shop)
    client.get("/quote")
    first = client.authorization
    clock.now += HOUR / 2
    client.get("/dear")
    assert client.payments == 2
    clock.now += HOUR / 2 + 700  # the first pass has ended, the second lives
    assert ask(shop, client.authorization, "/dear").status_code == 200
    assert ask(shop, first, "/dear").json["reason"] == "expired"
    clock.now += HOUR
    refused = ask(shop, client.authorization, "/quote")
    assert refused.json["reason"] == "expired"
    assert challenged(refused) != token_id(client.authorization)


def test_a_key_lasts_as_long_as_what_its_account_holds(shop: Flask, clock: Clock) -> None:
    """A token minted for an account with credit opens it after its own pass has ended."""
    client = client_of(shop)
    client.get("/lookup/ada")
    client.get("/quote")
    assert client.payments == 2
    clock.now += 2 * HOUR
    assert client.get("/lookup/ada").status_code == 200
    assert client.payments == 2
    refused = ask(shop, client.authorization, "/quote")
    assert refused.json["reason"] == "expired"
    assert challenged(refused) == token_id(client.authorization)


def test_a_narrowed_token_gets_no_top_up(shop: Flask) -> None:
    """Whoever was given a part of an account buys for himself."""
    client = client_of(shop)
    client.get("/quote")
    assert client.authorization
    (shown,) = parse(client.authorization)
    narrowed = append_caveat(shown.macaroon, "endpoint=quote")
    header = f"L402 {narrowed}:{shown.preimage.hex()}"
    assert ask(shop, header, "/quote").status_code == 200
    refused = ask(shop, header, "/dear")
    assert refused.status_code == 402
    assert challenged(refused) != token_id(client.authorization)


def test_a_living_account_is_topped_up_whatever_is_shown_beside_it(shop: Flask) -> None:
    """Of several tokens the first one that is a key of a living account is sold for."""
    revoked, living = client_of(shop), client_of(shop)
    for client in (revoked, living):
        client.get("/quote")
    account = token_id(living.authorization)
    gate = shop.extensions["l402"]
    gate.store.revocations.revoke("token", token_id(revoked.authorization).hex())
    gate.sync._read()
    both = f"{revoked.authorization}, {living.authorization}"
    for path, reason in (("/dear", "price_too_low"), ("/lookup/ada", "wrong_kind")):
        refused = ask(shop, both, path)
        assert (refused.status_code, refused.json["reason"]) == (402, reason)
        assert challenged(refused) == account


def append_caveat(raw: bytes, caveat: str) -> str:
    """Append a caveat as a holder does, who knows no key."""
    from pymacaroons import Macaroon

    held = Macaroon.deserialize(__import__("base64").urlsafe_b64encode(raw).decode().rstrip("="))
    held.add_first_party_caveat(caveat)
    serialized: str = held.serialize()
    return serialized


def test_a_narrowed_token_spends_within_its_limits(shop: Flask) -> None:
    """A limit on the price or the endpoint holds on credit too, and books nothing else."""
    client = client_of(shop)
    client.get("/big")
    client.get("/lookup/ada")
    assert client.authorization
    (shown,) = parse(client.authorization)
    header = f"L402 {append_caveat(shown.macaroon, 'paid_msat=2000')}:{shown.preimage.hex()}"
    before = balance(shop, client.authorization)
    assert ask(shop, header, "/lookup/ada").status_code == 200
    refused = ask(shop, header, "/big")
    assert (refused.status_code, refused.json["reason"]) == (402, "narrowed")
    assert balance(shop, client.authorization) == (before or 0) - 2000


def test_revoking_an_account_ends_all_of_it(shop: Flask) -> None:
    """After the revocation of its token id neither pass nor credit opens, and a new one is sold."""
    client = client_of(shop)
    client.get("/quote")
    client.get("/lookup/ada")
    account = token_id(client.authorization)
    gate = shop.extensions["l402"]
    gate.store.revocations.revoke("token", account.hex())
    gate.sync._read()
    for path in ("/quote", "/lookup/ada"):
        refused = ask(shop, client.authorization, path)
        assert (refused.status_code, refused.json["reason"]) == (402, "revoked")
        assert challenged(refused) != account


def test_a_payment_for_a_revoked_account_is_booked_and_grants_nothing(
    shop: Flask, database: str
) -> None:
    """A top-up that is first shown after the revocation stands in the book, as revoked."""
    client = client_of(shop)
    client.get("/lookup/ada")
    offer = ask(shop, client.authorization, "/quote")
    gate = shop.extensions["l402"]
    gate.store.revocations.revoke("token", token_id(client.authorization).hex())
    gate.sync._read()
    found = re.match(
        'L402 macaroon="([^"]+)", invoice="([^"]+)"', offer.headers["WWW-Authenticate"]
    )
    assert found
    preimage = gate.desk.node.settle(found[2])
    assert ask(shop, f"L402 {found[1]}:{preimage.hex()}").json["reason"] == "revoked"
    with create_engine(database).connect() as connection:
        statuses = connection.execute(
            text("SELECT status FROM l402_payment ORDER BY presented_at")
        ).scalars()
        assert list(statuses) == ["granted", "revoked"]


def test_the_revocation_of_one_payment_closes_what_it_opened(shop: Flask) -> None:
    """Another token of the account, which used that payment's pass, finds it closed too."""
    client = client_of(shop)
    client.get("/quote")
    older = client.authorization
    client.get("/dear")
    assert ask(shop, older, "/dear").status_code == 200
    assert client.authorization
    gate = shop.extensions["l402"]
    (shown,) = parse(client.authorization)
    payment_hash = macaroon.parse(shown.macaroon).identifier[2:34]
    gate.store.revocations.revoke("payment", payment_hash.hex())
    gate.sync._read()
    assert ask(shop, older, "/dear").json["reason"] == "price_too_low"
    assert ask(shop, older, "/quote").status_code == 200
    assert ask(shop, client.authorization, "/quote").json["reason"] == "revoked"


@pytest.mark.parametrize("by", ["payment", "service"])
def test_revoked_credit_is_closed_to_the_accounts_other_tokens(shop: Flask, by: str) -> None:
    """What only revoked payments brought is drawn on by no token, and no top-up revives it."""
    client = client_of(shop)
    client.get("/lookup/ada")
    assert client.authorization
    (bought,) = parse(client.authorization)
    client.get("/foreign")
    assert ask(shop, client.authorization, "/lookup/ada").status_code == 200
    gate = shop.extensions["l402"]
    if by == "payment":
        payment_hash = macaroon.parse(bought.macaroon).identifier[2:34]
        gate.store.revocations.revoke("payment", payment_hash.hex())
    else:
        later = datetime.fromtimestamp(gate.clock() + 1, UTC)
        gate.store.revocations.revoke("service", "shop", issued_before=later)
    gate.sync._read()
    refused = ask(shop, client.authorization, "/lookup/ada")
    assert (refused.status_code, refused.json["reason"]) == (402, "revoked")
    assert challenged(refused) != token_id(client.authorization)
    assert ask(shop, client.authorization, "/foreign").status_code == 200


def test_credit_of_another_ledger_is_refused(
    make_app: Callable[..., Flask], tmp_path: Any, migrated: Any
) -> None:
    """One secret on two hosts with two databases: a purchase counts on one of them."""
    from l402.store import migrate

    there = f"sqlite:///{tmp_path / 'there.db'}"
    migrate.upgrade(there)
    here, elsewhere = credit_views(make_app()), credit_views(make_app(L402_DATABASE_URL=there))
    client = client_of(here)
    client.get("/lookup/ada")
    refused = ask(elsewhere, client.authorization, "/lookup/ada")
    assert (refused.status_code, refused.json["reason"]) == (402, "wrong_ledger")
    assert challenged(refused) != token_id(client.authorization)
    client.get("/quote")
    assert ask(elsewhere, client.authorization, "/quote").status_code == 200
    assert challenged(ask(elsewhere, client.authorization, "/dear")) != token_id(
        client.authorization
    )


def test_strict_asks_once_for_each_payment(
    make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With strict verification each payment hash of an account is looked up, once."""
    shop = credit_views(make_app())
    gate = shop.extensions["l402"]
    gate.bookings.strict = True
    asked: list[bytes] = []

    def look_up(payment_hash: bytes) -> Settlement:
        asked.append(payment_hash)
        return Settlement.SETTLED

    monkeypatch.setattr(gate.desk, "look_up", look_up)
    client = client_of(shop)
    for _ in range(2):
        for path in ("/quote", "/dear", "/lookup/ada"):
            assert client.get(path).status_code == 200
    assert len(asked) == len(set(asked)) == client.payments == 3


def test_a_pass_is_served_without_sql_once_known(
    shop: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes of the account that this process has seen cost no question to the store."""
    client = client_of(shop)
    client.get("/quote")
    older = client.authorization
    client.get("/dear")
    assert ask(shop, older, "/dear").status_code == 200
    gate = shop.extensions["l402"]
    gate.sync._read()
    monkeypatch.setattr(gate.store.db, "read", None)
    monkeypatch.setattr(gate.store.db, "write", None)
    monkeypatch.setattr(gate.sync, "_read_at", time.monotonic() + 60)
    for path, shown in (("/dear", older), ("/quote", older), ("/dear", client.authorization)):
        assert ask(shop, shown, path).status_code == 200


def test_an_end_for_one_service_narrows_that_service(shop: Flask) -> None:
    """A holder may end what he hands on for each service; the others go on."""
    client = client_of(shop)
    client.get("/elsewhere")
    client.get("/quote")
    assert client.authorization
    (shown,) = parse(client.authorization)
    raw = append_caveat(shown.macaroon, "other_valid_until=1")
    header = f"L402 {raw}:{shown.preimage.hex()}"
    for token, answer in ((client.authorization, 200), (header, 402)):
        assert ask(shop, token, "/quote").status_code == 200
        assert ask(shop, token, "/elsewhere").status_code == answer

"""``flask l402 list`` and ``show``."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from support.books import buy, fill, use
from support.sales import ISSUED, NOW, token_id

from l402 import signals
from l402.cli import cli
from l402.protocol import bolt11
from l402.store import Store


class Sold:
    """One purchase, as the signal and the invoice show it."""

    def __init__(self, app: Flask, path: str = "/quote") -> None:
        seen: list[dict[str, Any]] = []

        def note(sender: object, **what: Any) -> None:
            seen.append(what)

        with signals.first_paid.connected_to(note, sender=app):
            self.client = app.test_client()
            assert self.client.get(path).status_code == 200
        self.token_id, self.payment_hash = seen[0]["token_id"], seen[0]["payment_hash"]
        self.handle = app.extensions["l402"].keys.handle(bytes.fromhex(self.token_id))
        app.extensions["l402"].sync.flush()


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    return lambda *arguments: app.test_cli_runner().invoke(cli, list(arguments))


def listed(run: Callable[..., Result], *options: str) -> list[str]:
    document = json.loads(run("list", "--json", *options).stdout)
    return [credential["token_id"] for credential in document["credentials"]]


def test_an_empty_record(run: Callable[..., Result]) -> None:
    """Nothing sold is no failure."""
    assert run("list").stdout == "TOKEN  SERVICE  SATS  BALANCE  STATE  ENDS  USES  LAST USED\n"
    assert json.loads(run("list", "--json").stdout) == {"credentials": [], "next": None}


def test_list_is_aligned(app: Flask, run: Callable[..., Result]) -> None:
    """The columns line up, numbers on the right, moments in UTC."""
    sold = Sold(app, "/dear")
    Sold(app, "/foreign")
    heading, *rows = run("list").stdout.splitlines()
    assert len(rows) == 2
    for title in ("SERVICE", "STATE", "ENDS", "LAST USED"):
        assert all(row[heading.index(title) - 2 :].startswith("  ") for row in rows)
        assert all(row[heading.index(title)] != " " for row in rows)
    row = next(row for row in rows if row.startswith(sold.token_id[:16]))
    assert re.split(" {2,}", row) == [
        sold.token_id[:16], "shop", "20", "-", "active", "2027-01-15 09:10:00", "1",
        "2027-01-15 08:00:00",
    ]  # fmt: skip


def test_list_narrows(app: Flask, clock: Any, run: Callable[..., Result]) -> None:
    """Each option leaves out what it does not name."""
    old = Sold(app)
    clock.now += 86_400
    new, foreign = Sold(app), Sold(app, "/foreign")
    assert run("revoke", foreign.token_id).exit_code == 0
    assert set(listed(run)) == {old.token_id, new.token_id, foreign.token_id}
    assert listed(run, "--service", "other") == [foreign.token_id]
    assert listed(run, "--active") == [new.token_id]
    assert listed(run, "--revoked") == [foreign.token_id]
    since = f"{datetime.fromtimestamp(clock.now - 60, UTC):%Y-%m-%dT%H:%M:%S}"
    assert set(listed(run, "--since", since)) == {new.token_id, foreign.token_id}
    assert set(listed(run, "--since", str(int(clock.now)))) == {new.token_id, foreign.token_id}


def test_list_goes_on_behind_a_token(app: Flask, run: Callable[..., Result]) -> None:
    """Pages follow each other without a gap, and the last one says so."""
    sold = {Sold(app).token_id for _ in range(3)}
    first = json.loads(run("list", "--json", "--limit", "2").stdout)
    assert first["next"] == first["credentials"][-1]["token_id"]
    assert run("list", "--limit", "2").stdout.endswith(f"\nmore: --after {first['next']}\n")
    rest = json.loads(run("list", "--json", "--limit", "2", "--after", first["next"]).stdout)
    assert rest["next"] is None
    pages = first["credentials"] + rest["credentials"]
    assert [len(pages), {credential["token_id"] for credential in pages}] == [3, sold]
    unknown = run("list", "--after", "a" * 64)
    assert unknown.exit_code == 3
    assert unknown.output == f"Error: --after: no credential {'a' * 64} to go on from\n"


@pytest.mark.parametrize(
    "text", ["20260131", "yesterday", "2026-13-01", "12", "0001-01-01", "٣٣٣٣٣٣٣٣٣"]
)
def test_a_time_that_cannot_be_read(run: Callable[..., Result], text: str) -> None:
    """What is neither ISO 8601 nor unix seconds is a misuse, and the answer shows how to write."""
    done = run("list", "--since", text)
    assert done.exit_code == 2
    assert "write 2026-01-31" in done.stderr


def test_show_by_every_name(app: Flask, run: Callable[..., Result]) -> None:
    """A token id, its first digits, a payment hash and a handle all find the sale."""
    sold = Sold(app)
    description = f"shop: GET quote {sold.handle}"
    names = (
        sold.token_id, sold.token_id.upper(), sold.token_id[:6], sold.payment_hash, sold.handle,
        description,
    )  # fmt: skip
    for name in names:
        done = run("show", name)
        assert done.exit_code == 0, done.stderr
        lines = dict(re.split(" {2,}", line) for line in done.stdout.splitlines() if line)
        assert lines["token id"] == sold.token_id
        assert lines["payment hash"] == sold.payment_hash
        assert lines["paid"] == "10 sat for GET quote"
        assert lines["state"] == "active"


def test_the_handle_of_a_real_invoice(app: Flask, run: Callable[..., Result]) -> None:
    """The description of the invoice that was paid finds the sale, pasted as it stands."""
    client = app.test_client()
    challenges: list[str] = []
    answer = client._send("/quote").headers["WWW-Authenticate"]
    challenges += re.findall(r'invoice="([^"]+)"', answer)
    macaroon = re.findall(r'macaroon="([^"]+)"', answer)[0]
    preimage = app.extensions["l402"].desk.node.settle(challenges[0])
    client.authorization = f"L402 {macaroon}:{preimage.hex()}"
    assert client.get("/quote").status_code == 200
    invoice = bolt11.decode(challenges[0])
    done = run("show", invoice.description, "--json")
    shown = json.loads(done.stdout)
    assert shown["payments"][0]["payment_hash"] == invoice.payment_hash.hex()
    assert preimage.hex() not in done.output


def test_show_in_json(app: Flask, run: Callable[..., Result]) -> None:
    """The document's keys are these, money is msat and moments are ISO 8601 in UTC."""
    sold = Sold(app)
    shown = json.loads(run("show", sold.token_id, "--json").stdout)
    (payment,) = shown["payments"]
    assert set(shown) == {
        "token_id", "service", "first_presented_at", "last_used_at", "uses", "payments", "state",
        "msat", "ends_at", "why", "credits", "balance", "entries",
    }  # fmt: skip
    assert set(payment) == {
        "payment_hash", "service", "kind", "msat", "network", "endpoint", "method", "issued_at",
        "starts_at", "ends_at", "valid_until", "presented_at", "status", "settled_at", "revoked",
        "why", "state", "price_msat", "rate",
    }  # fmt: skip
    assert (shown["msat"], shown["uses"], shown["state"]) == (10_000, 1, "active")
    assert shown["first_presented_at"] == "2027-01-15T08:00:00Z"
    assert payment["starts_at"] == "2027-01-15T08:10:00Z"


def test_show_tells_the_state(app: Flask, clock: Any, run: Callable[..., Result]) -> None:
    """A sale is active, then expired; a revoked one stays revoked, and says why."""
    sold = Sold(app)
    clock.now += 86_400
    assert json.loads(run("show", sold.token_id, "--json").stdout)["state"] == "expired"
    run("revoke", sold.token_id, "--why", "key leaked")
    shown = run("show", sold.token_id).stdout
    assert re.search(r"^state +revoked$", shown, re.M)
    assert re.search(r"^why +key leaked$", shown, re.M)


@pytest.mark.parametrize(
    ("what", "code"),
    [("a" * 64, 3), ("abcdef", 3), ("abc", 2), ("quote", 2), ("l402:1", 2), ("", 2), ("a" * 65, 2),
     (f"l402:{'0' * 16}:{'0' * 8}", 3)],
)  # fmt: skip
def test_show_what_is_not_there(run: Callable[..., Result], what: str, code: int) -> None:
    """What the record does not hold ends with 3, what is no name of anything with 2; one line."""
    done = run("show", what)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (code, "", 1)


def test_an_ambiguous_prefix(
    app: Flask, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prefix of two token ids ends with 2, and both are named."""
    ids = [b"\xab" * 8 + bytes(23) + bytes([end]) for end in (1, 2)]
    fresh = iter(ids)
    monkeypatch.setattr("l402.issuer.secrets", SimpleNamespace(token_bytes=lambda _: next(fresh)))
    for _ in ids:
        Sold(app)
    for command in ("show", "revoke"):
        done = run(command, "abab" * 4)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert all(token_id.hex() in done.stderr for token_id in ids)


# --- credit


@pytest.fixture
def books(app: Flask, clock: Any) -> Store:
    """The app's store, with an account for everything that can happen, at the time of its sales."""
    clock.now = NOW.timestamp()
    store: Store = app.extensions["l402"].store
    fill(store)
    return store


def test_list_tells_balances(books: Store, run: Callable[..., Result]) -> None:
    """The list has what may be spent, and a dash for who never had credit."""
    use(books, 1, 7_000)
    rows = {row[:16]: re.split(" {2,}", row) for row in run("list").stdout.splitlines()[1:]}
    found = {number: rows[token_id(number).hex()[:16]][3:5] for number in range(1, 5)}
    assert found == {
        1: ["0", "exhausted"], 2: ["0", "exhausted"], 3: ["4", "active"], 4: ["-", "active"],
    }  # fmt: skip
    assert set(listed(run, "--active")) == {token_id(3).hex(), token_id(4).hex()}


def test_a_balance_ends(books: Store, clock: Any, run: Callable[..., Result]) -> None:
    """What a balance has is worth nothing after its end, and after that of its last macaroon."""
    token = token_id(3).hex()
    assert json.loads(run("show", token, "--json").stdout)["balance"] == 4_000
    clock.now = ISSUED + 4200
    shown = json.loads(run("show", token, "--json").stdout)
    assert (shown["balance"], shown["state"]) == (0, "expired")
    assert listed(run, "--active") == []
    assert re.search(r"^ends +2030-03-17 18:56:40 \(ended\)$", run("show", token).stdout, re.M)


def test_show_tells_the_ledger(books: Store, run: Callable[..., Result]) -> None:
    """A balance is shown with what is reserved of it, and its last entries, the newest first."""
    shown = run("show", token_id(1).hex()).stdout
    assert re.search(r"^balance +7 sat for quotes$", shown, re.M)
    assert re.search(r"^reserved +2 sat, for calls in flight$", shown, re.M)
    table = shown[shown.index("TIME ") :].splitlines()
    assert table[0].split() == ["TIME", "ENTRY", "SATS", "AFTER", "FOR"]
    assert [re.split(" {2,}", row)[1:4] for row in table[1:]] == [
        ["debit", "-2", "9"], ["credit", "+3", "11"], ["release", "2", "8"], ["use", "-2", "8"],
        ["purchase", "+10", "10"],
    ]  # fmt: skip
    whys = [re.split(" {2,}", row)[4] for row in table[1:]]
    assert whys[:4] == ["goodwill", "goodwill", "GET quote", "GET quote"]
    assert whys[4].startswith("payment:")


def test_show_stops_after_twenty_entries(books: Store, run: Callable[..., Result]) -> None:
    """Of a long history the last twenty entries are shown, and that there are more."""
    buy(books, 5, 100_000)
    for _ in range(20):
        use(books, 5, 1_000)
    shown = run("show", token_id(5).hex()).stdout
    assert len(re.findall(r" use +-1 ", shown)) == 20
    assert "older entries" in shown
    entries = json.loads(run("show", token_id(5).hex(), "--json").stdout)["entries"]
    assert [entry["balance_after"] for entry in entries] == list(range(80_000, 100_000, 1_000))

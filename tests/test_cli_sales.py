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

from l402 import signals
from l402.cli import cli
from l402.protocol import bolt11


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
    assert run("list").stdout == "TOKEN  SERVICE  SATS  STATE  ENDS  USES  LAST USED\n"
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
        sold.token_id[:16], "shop", "20", "active", "2027-01-15 09:10:00", "1",
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
    assert run("list", "--after", "a" * 64).exit_code == 3


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
        "msat", "ends_at", "why",
    }  # fmt: skip
    assert set(payment) == {
        "payment_hash", "service", "kind", "msat", "network", "endpoint", "method", "issued_at",
        "starts_at", "ends_at", "valid_until", "presented_at", "status", "settled_at", "revoked",
        "why", "state",
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
    monkeypatch.setattr("l402.gate.secrets", SimpleNamespace(token_bytes=lambda _: next(fresh)))
    for _ in ids:
        Sold(app)
    for command in ("show", "revoke"):
        done = run(command, "abab" * 4)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert all(token_id.hex() in done.stderr for token_id in ids)

"""What the customers' logs and the record must agree on, once nothing is in flight."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import text

from l402.store import Store
from l402.store.audit import Audit, Difference
from l402.store.ledger import BY_HAND, EFFECTS
from support.killed_app import FAILED, LEASE, PRICE, RENEW

_EXPECTED = {200, 402, 409, 503, FAILED}
_FINAL = {200, 402, FAILED}


@dataclass
class Request:
    """What was sent, and what came back if anything did."""

    sent: str
    path: str
    key: str | None
    credential: str | None
    got: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int | None:
        return self.got.get("status")


@dataclass
class Logs:
    """All that the customers wrote down; payments are by their hash.

    `asked` and `done` name what was changed by hand: all of it, and what was acknowledged.
    """

    requests: dict[str, Request]
    paid: dict[str, dict[str, Any]]
    asked: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, folder: Path) -> "Logs":
        """Read every log of a folder."""
        logs = cls({}, {})
        for path in sorted(folder.glob("*.jsonl")):
            for line in map(json.loads, path.read_text().splitlines()):
                if "sent" in line:
                    logs.requests[line["sent"]] = Request(**line)
                elif "got" in line:
                    logs.requests[line["got"]].got = line
                elif "asked" in line:
                    logs.asked.add(line["asked"])
                elif "done" in line:
                    logs.done.add(line["done"])
                else:
                    logs.paid[line["paid"]] = line
        return logs

    @property
    def credentials(self) -> dict[str, str]:
        """Each credential that was bought, and the kind of its right."""
        return {line["credential"]: line["kind"] for line in self.paid.values()}


class Record:
    """What the database says."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.uses = defaultdict[str, list[Any]](list)  # a use's entries, by its id
        self.taken = defaultdict[str, set[str]](set)  # ids of uses that were taken, by token id
        self.written_off = Counter[str]()
        self.given = Counter[str]()  # by hand, by token id
        self.by_hand = Counter[str]()  # what was done by hand, by its name
        for row in self._rows("operation, kind, token_id, msat, balance_after", "l402_entry"):
            name, _, use = row.operation.partition(":")
            if name in ("use", "late"):
                self.uses[use].append(row)
            if row.kind == "use":
                self.taken[row.token_id].add(use)
            elif row.kind == "write_off":
                self.written_off[row.token_id] += row.msat
            elif row.kind in BY_HAND:
                self.given[row.token_id] += EFFECTS[row.kind] * row.msat
            if name == "hand":
                self.by_hand[row.operation] += 1
        for row in self._rows("kind, subject", "l402_revocation"):
            self.by_hand[f"{row.kind}:{row.subject}"] += 1
        self.balances = {
            row.token_id: row for row in self._rows("token_id, balance, reserved", "l402_credit")
        }
        self.replies = {
            (row.token_id, row.key): row
            for row in self._rows("token_id, key, use_id, status", "l402_reply")
        }

    def _rows(self, columns: str, table: str) -> Any:
        return self.store.db.fetch(text(f"SELECT {columns} FROM {table}"))

    def charges(self, use: str | None) -> list[Any]:
        """Give the entries that charged a use."""
        return [row for row in self.uses.get(use or "", ()) if row.kind == "use"]


def booked(store: Store) -> set[str]:
    """Give the hashes of all payments in the record."""
    return {
        row.payment_hash for row in store.db.fetch(text("SELECT payment_hash FROM l402_payment"))
    }


def in_flight(store: Store) -> int:
    """Give how many uses are reserved."""
    ((uses,),) = store.db.fetch(text("SELECT count(*) FROM l402_use"))
    return int(uses)


def unbooked(logs: Logs, store: Store) -> Iterator[str]:
    """Name the payments that opened something, and are not in the record."""
    by_credential = {line["credential"]: paid for paid, line in logs.paid.items()}
    known = booked(store)
    acknowledged = {
        by_credential[request.credential]
        for request in logs.requests.values()
        if request.credential and request.status in (200, FAILED)
    }
    for paid in acknowledged - known:
        yield f"payment {paid} opened a view, and is not booked"


def faults(logs: Logs, store: Store) -> Iterator[str]:
    """Name all in which the record and the customers differ, once each paid token was shown."""
    record = Record(store)
    yield from _answers(logs)
    yield from _charges(logs, record)
    yield from _accounts(logs, record)
    yield from _keys(logs, record)
    yield from _payments(logs, record)
    yield from _sums(logs, record)
    yield from _by_hand(logs, record)
    yield from _books(store)


def _answers(logs: Logs) -> Iterator[str]:
    statuses = Counter(request.status for request in logs.requests.values() if request.got)
    for status in set(statuses) - _EXPECTED:
        yield f"{statuses[status]} requests were answered {status}"


def _charges(logs: Logs, record: Record) -> Iterator[str]:
    """Each success charged once, by a use of its own; no failure charged; none lapsed in vain."""
    owner: dict[str, str] = {}
    for request in logs.requests.values():
        use = request.got.get("use")
        if request.path == "/pass" or request.status not in (200, FAILED):
            continue
        entries = record.charges(use)
        if len(entries) != (request.status == 200):
            yield f"{request.path} answered {request.status}, charged {len(entries)} times"
        elif request.status == FAILED and not record.uses.get(use):
            yield f"{request.path} answered {request.status}, and its use was not given back"
        elif entries and not request.got["replayed"]:
            yield from _told(request, entries[0])
        if owner.setdefault(use, request.key or request.sent) != (request.key or request.sent):
            yield f"use {use} was charged for two requests"


def _told(request: Request, entry: Any) -> Iterator[str]:
    balance = int(request.got["balance"])
    if not 0 <= balance <= entry.balance_after:
        yield f"told a balance of {balance}, and the account owned {entry.balance_after}"
    if entry.operation.startswith("late:") and request.got["seconds"] < LEASE - RENEW:
        yield f"{entry.operation} was given back while its process lived"


def _accounts(logs: Logs, record: Record) -> Iterator[str]:
    """Without keys: successes <= uses taken <= successes and requests that got no clear answer."""
    tokens = {line["credential"]: line["token"] for line in logs.paid.values()}
    sure, unsure = Counter[str](), Counter[str]()
    for request in logs.requests.values():
        if request.path == "/call" and request.credential and not request.key:
            token_id = tokens[request.credential]
            sure[token_id] += request.status == 200
            unsure[token_id] += request.status in (None, 503)
    keyed = {row.use_id for row in record.replies.values() if row.status}
    for token_id, taken in record.taken.items():
        plain, low = len(taken - keyed), sure[token_id]
        if not low <= plain <= low + unsure[token_id]:
            yield f"{plain} uses taken, {low} acknowledged, {unsure[token_id]} unknown"


def _keys(logs: Logs, record: Record) -> Iterator[str]:
    """Each key got one answer in the end, and what was charged for it is kept under it."""
    tokens = {line["credential"]: line["token"] for line in logs.paid.values()}
    answers = defaultdict[tuple[str, str], set[tuple[int | None, str | None]]](set)
    for request in logs.requests.values():
        if request.key and request.credential:
            name = tokens[request.credential], sha256(request.key.encode()).hexdigest()
            found = answers[name]
            if request.status in _FINAL:
                found.add((request.status, request.got["use"]))
    for name, found in answers.items():
        row = record.replies.pop(name, None)
        if len(found) != 1:
            yield f"a key got {len(found)} answers: {sorted(map(str, found))}"
            continue
        ((status, use),) = found
        kept = (row.status, row.use_id) if row else None
        if kept != ((status, use) if status == 200 else None):
            yield f"a key was answered {status} for use {use}; kept is {kept}"
    if record.replies:
        yield f"{len(record.replies)} answers are kept for nobody"


def _payments(logs: Logs, record: Record) -> Iterator[str]:
    known, paid = booked(record.store), set(logs.paid)
    if known != paid:
        yield f"{len(paid - known)} payments lost, {len(known - paid)} booked that nobody made"


def _sums(logs: Logs, record: Record) -> Iterator[str]:
    """By the customers' own count: what they paid is what they have and what was taken."""
    paid = Counter[str]()
    for line in logs.paid.values():
        if line["kind"] == "credit":
            paid[line["token"]] += line["msat"]
    for token_id, msat in paid.items():
        has, taken = record.balances.get(token_id), len(record.taken[token_id]) * PRICE
        expected = msat + record.written_off[token_id] + record.given[token_id] - taken
        found = (has.balance, has.reserved) if has else None
        if found != (expected, 0):
            yield f"paid {msat}, taken {taken}: expected {expected} and 0 reserved, found {found}"


def _by_hand(logs: Logs, record: Record) -> Iterator[str]:
    """What was acknowledged stands once, what was not at most once, and nothing else does."""
    for name in logs.asked | set(record.by_hand):
        times = record.by_hand[name]
        if not (name in logs.done) <= times <= (name in logs.asked):
            told = "acknowledged" if name in logs.done else "not acknowledged"
            yield f"{name} was {told}, and stands {times} times"


def _books(store: Store) -> Iterator[str]:
    differences: list[Difference] = []
    Audit(store.db).run(differences.append, lambda _: None)
    for each in differences:
        yield f"audit: {each.what}: expected {each.expected}, found {each.found}"
    if store.db.url.get_backend_name() == "sqlite":
        for (line,) in store.db.fetch(text("PRAGMA integrity_check")):
            if line != "ok":
                yield f"integrity_check: {line}"

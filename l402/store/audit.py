"""The audit: every balance recomputed from the ledger, and every difference named.

All of it is read from one snapshot, so that it is right while calls are being charged. The
database does the sums: one row for each account and one for each difference come to us.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Row,
    Select,
    and_,
    exists,
    func,
    or_,
    select,
    union_all,
)

from l402.store.closings import Closed
from l402.store.engine import Database
from l402.store.payments import CREDIT, GRANTED
from l402.store.tables import credit, entry, payment, reply, use
from l402.store.totals import ACCOUNTS, EFFECT, Totals


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing of an account that is not as it must be; amounts are in msat.

    None stands for what is not there; an answer under an Idempotency-Key has no service, and
    what was purged no token id.
    """

    token_id: str | None
    service: str | None
    what: str
    expected: int | str | None
    found: int | str | None


def _breaks() -> Select[Any]:
    """The entries that do not begin where the account's last one ended, or do not add up."""
    last = func.lag(entry.c.balance_after).over(
        partition_by=[entry.c.token_id, entry.c.service], order_by=entry.c.entry_id
    )
    lines = select(entry, last.label("before"), EFFECT.label("effect")).subquery()
    line = lines.c
    # Where its entries begin, an account owned what was carried from those that were purged.
    begun = select(credit.c.carried).where(
        credit.c.token_id == line.token_id, credit.c.service == line.service
    )
    expected = func.coalesce(line.before, begun.scalar_subquery(), 0)
    return select(lines, expected.label("last")).where(
        or_(
            line.balance_before != expected,
            line.balance_after != line.balance_before + line.effect,
            line.effect.is_(None),  # a kind that is not known
        )
    )


def _charged(operation: ColumnElement[str], token_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Condition: this operation charged this account for a use."""
    charge = entry.alias()
    return exists().where(
        charge.c.operation == operation, charge.c.kind == "use", charge.c.token_id == token_id
    )


def _after(prefix: str) -> ColumnElement[str]:
    """What an entry's operation names; so SQLite finds its row by the key."""
    return func.substr(entry.c.operation, len(prefix) + 1)


_BREAKS = _breaks()
_SOLD = and_(payment.c.kind == CREDIT, payment.c.status == GRANTED)
_PURCHASE = entry.c.operation == "payment:" + payment.c.payment_hash
_SAME = and_(
    entry.c.kind == "purchase",
    entry.c.msat == payment.c.msat,
    entry.c.token_id == payment.c.token_id,
    entry.c.service == payment.c.service,
)
_UNBOOKED = (
    select(
        payment.c.token_id,
        payment.c.service,
        payment.c.payment_hash,
        payment.c.msat,
        entry.c.msat.label("booked"),
        entry.c.kind,
        entry.c.token_id.label("by"),
        entry.c.service.label("serves"),
    )
    .outerjoin(entry, _PURCHASE)
    .where(_SOLD, or_(entry.c.entry_id.is_(None), ~_SAME))
)
_UNPAID = select(entry).where(
    entry.c.kind == "purchase",
    ~exists().where(payment.c.payment_hash == _after("payment:"), _PURCHASE, _SOLD),
)
# Two joins by equality: Postgres would compare every use with every entry for an OR.
_RESOLVED = union_all(
    *(
        select(use, entry.c.kind).join(entry, entry.c.operation == prefix + use.c.use_id)
        for prefix in ("use:", "late:")
    )
)
_OVERCHARGED = select(use).where(or_(use.c.charged > use.c.msat, use.c.charged < 0))
_UNCHARGED = select(reply.c.token_id, reply.c.use_id, reply.c.status).where(
    reply.c.status.is_not(None),
    ~_charged("use:" + reply.c.use_id, reply.c.token_id),
    ~_charged("late:" + reply.c.use_id, reply.c.token_id),
)
_UNUSED = select(entry).where(
    entry.c.kind == "write_off", ~_charged("late:" + _after("write_off:"), entry.c.token_id)
)


class Audit:
    """Proves that what was granted is what is left and what is gone, account by account."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def run(self, found: Callable[[Difference], None], begin: Callable[[str], None]) -> Totals:
        """Recompute everything; call `found` with each difference, `begin` with each step's name.

        The memory that it takes does not grow with the database.

        :raises StoreError: if it could not be read
        """
        totals = Totals()
        with self.db.snapshot() as connection:
            begin("balances")
            for row in connection.execute(ACCOUNTS):
                account = Totals.of(row)
                totals += account
                for difference in _in_account(row, account):
                    found(difference)
            for step, (statement, differences) in _STEPS.items():
                begin(step)
                for row in connection.execute(statement):
                    for difference in differences(row):
                        found(difference)
            begin("closings")
            closed = Closed(connection)
            for each in closed.imbalances():
                found(Difference(None, each.service, each.what, each.expected, each.found))
        return totals + closed.totals()


def _in_account(row: Row[Any], account: Totals) -> Iterator[Difference]:
    left = int(row.carried) + account.granted - account.gone
    owned = account.balance + account.reserved
    if not account.accounts:
        yield _difference(row, "row of l402_credit", left, None)
    elif left != owned:
        yield _difference(row, "balance and reserved", left, owned)
    if account.reserved != row.held:
        yield _difference(row, "reserved, for the uses in flight", int(row.held), account.reserved)


def _in_chain(row: Row[Any]) -> Iterator[Difference]:
    line = f"{row.kind} {row.operation}, entry {row.entry_id}"
    if row.effect is None:
        yield _difference(row, f"kind of {line}", None, row.kind)
    if row.balance_before != row.last:
        yield _difference(row, f"balance before {line}", row.last, row.balance_before)
    after = row.balance_before + (row.effect or 0)
    if row.balance_after != after:
        yield _difference(row, f"balance after {line}", after, row.balance_after)


def _unbooked(row: Row[Any]) -> Iterator[Difference]:
    booked = f"{row.kind} of {row.booked} by {row.by} for {row.serves}"
    found = None if row.kind is None else booked
    yield _difference(row, f"purchase of payment {row.payment_hash}", row.msat, found)


def _unpaid(row: Row[Any]) -> Iterator[Difference]:
    yield _difference(row, f"payment of credit for {row.operation}", row.msat, None)


def _resolved(row: Row[Any]) -> Iterator[Difference]:
    yield _difference(row, f"use {row.use_id} in flight", row.kind, row.msat)


def _overcharged(row: Row[Any]) -> Iterator[Difference]:
    yield _difference(row, f"at most charged by use {row.use_id} in flight", row.msat, row.charged)


def _uncharged(row: Row[Any]) -> Iterator[Difference]:
    what = f"use {row.use_id} of an answer {row.status} that is kept"
    yield Difference(row.token_id, None, what, "use", None)


def _unused(row: Row[Any]) -> Iterator[Difference]:
    yield _difference(row, f"use for {row.operation}", row.msat, None)


def _difference(
    row: Row[Any], what: str, expected: int | str | None, found: int | str | None
) -> Difference:
    return Difference(row.token_id, row.service, what, expected, found)


_STEPS: dict[
    str, tuple[Select[Any] | CompoundSelect[Any], Callable[[Row[Any]], Iterator[Difference]]]
] = {
    "chain of entries": (_BREAKS, _in_chain),
    "payments": (_UNBOOKED, _unbooked),
    "purchases": (_UNPAID, _unpaid),
    "uses in flight": (_RESOLVED, _resolved),
    "charges in flight": (_OVERCHARGED, _overcharged),
    "answers kept": (_UNCHARGED, _uncharged),
    "write-offs": (_UNUSED, _unused),
}

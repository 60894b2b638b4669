"""The removal of ended accounts within one transaction, and the sums that are taken of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Connection, Integer, Row, bindparam, delete, select, update

from l402.store import closings, ledger
from l402.store.closings import Closings, Line
from l402.store.ledger import Account
from l402.store.payments import CREDIT, GRANTED
from l402.store.tables import Key, credential, credit, entry, payment, reply, settlement, use

#: Rows of a table that one transaction deletes at most.
MOST = 500


@dataclass(frozen=True, slots=True)
class Purged:
    """How many rows went, by what they were."""

    tokens: int = 0
    payments: int = 0
    entries: int = 0
    balances: int = 0
    settlements: int = 0
    replies: int = 0
    revocations: int = 0

    def __add__(self, other: "Purged") -> "Purged":
        sums = (getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        return Purged(*sums)

    @property
    def rows(self) -> int:
        """How many rows went in all."""
        return sum(getattr(self, each.name) for each in fields(self))


class Unfit(Exception):
    """An account that must not go: the audit would find fault with it."""

    def __init__(self, token_id: str, why: str) -> None:
        super().__init__(f"{token_id}: {why}")
        self.token_id, self.why = token_id, why


_TOKENS = bindparam("tokens", expanding=True, type_=Key)
_HASHES = bindparam("hashes", expanding=True, type_=Key)
_ENTRIES = (  # by account, so that what goes of one is always its beginning
    select(entry.c.entry_id)
    .where(entry.c.token_id.in_(_TOKENS))
    .order_by(entry.c.token_id, entry.c.service, entry.c.entry_id)
    .limit(bindparam("most", type_=Integer))
)
_TAKE_ENTRIES = (
    delete(entry).where(entry.c.entry_id.in_(bindparam("ids", expanding=True))).returning(entry)
)
_PAYMENTS = (
    select(payment.c.payment_hash)
    .where(payment.c.token_id.in_(_TOKENS))
    .limit(bindparam("most", type_=Integer))
)
_TAKE_PAYMENTS = delete(payment).where(payment.c.payment_hash.in_(_HASHES)).returning(payment)
_TAKE_SETTLEMENTS = (
    delete(settlement).where(settlement.c.payment_hash.in_(_HASHES)).returning(settlement)
)
_CARRY = (
    update(credit)
    .where(
        credit.c.token_id == bindparam("token", type_=Key),
        credit.c.service == bindparam("of", type_=Key),
    )
    .values(carried=bindparam("owned"))
)
_IN_FLIGHT = select(use.c.token_id).where(use.c.token_id.in_(_TOKENS)).limit(1)
_TAKE_CREDITS = delete(credit).where(credit.c.token_id.in_(_TOKENS)).returning(credit)
_TAKE_REPLIES = delete(reply).where(reply.c.token_id.in_(_TOKENS))
_TAKE_TOKENS = delete(credential).where(credential.c.token_id.in_(_TOKENS))


class Removal:
    """One transaction's deletions, and the sums of them."""

    def __init__(self, connection: Connection, tokens: Sequence[str]) -> None:
        self._connection, self._tokens = connection, {"tokens": tokens}
        self._closings = Closings()
        self._settlements = 0

    def run(self, credits: Sequence[Row[Any]]) -> tuple[Purged, bool]:
        """Remove as much as one transaction may, and say whether more is left.

        `credits` are the rows of the accounts' balances, which nobody else can change now.

        :raises Unfit: the audit would find fault with one; undo the transaction
        """
        owned = {Account(row.token_id, row.service): row.carried for row in credits}
        # Before the entries: an answer that is kept must have been charged.
        replies = self._connection.execute(_TAKE_REPLIES, self._tokens).rowcount
        entries = self._entries(owned)
        payments = self._purchases(entries)
        more = len(entries) == MOST
        if not more:
            rest = self._passes()
            payments, more = payments + rest, rest == MOST
        if more:
            self._carry(owned)
        purged = Purged(
            entries=len(entries),
            payments=payments,
            settlements=self._settlements,
            replies=replies,
        )
        if not more:
            purged += self._end(owned)
        self._closings.write(self._connection)
        return purged, more

    def _entries(self, owned: dict[Account, int]) -> list[Row[Any]]:
        """Delete entries, and see that they are the beginning of what remains of each chain."""
        ids = self._connection.execute(_ENTRIES, {**self._tokens, "most": MOST}).scalars().all()
        rows = self._connection.execute(_TAKE_ENTRIES, {"ids": ids}).all() if ids else []
        for row in sorted(rows, key=lambda row: row.entry_id):
            account = Account(row.token_id, row.service)
            effect = ledger.EFFECTS.get(row.kind)
            begins = owned.get(account) == row.balance_before
            if effect is None or not begins:
                raise Unfit(row.token_id, "its entries do not add up")
            if row.balance_after != row.balance_before + effect * row.msat:
                raise Unfit(row.token_id, "its entries do not add up")
            owned[account] = row.balance_after
            self._closings.add(
                Line(_day(row.at), closings.ENTRY, row.kind, row.service, row.endpoint or ""),
                row.msat,
            )
        return list(rows)

    def _purchases(self, entries: Sequence[Row[Any]]) -> int:
        """Delete the payments that purchases stand for; each must be there, as it was booked."""
        bought = {
            row.operation.removeprefix("payment:"): (row.token_id, row.service, row.msat)
            for row in entries
            if row.kind == ledger.PURCHASE
        }
        paid = {
            row.payment_hash: (row.token_id, row.service, row.msat)
            for row in self._payments(bought)
            if (row.kind, row.status) == (CREDIT, GRANTED)
        }
        for payment_hash, booked in bought.items():
            if paid.get(payment_hash) != booked:
                raise Unfit(booked[0], "a purchase was not paid")
        return len(paid)

    def _passes(self) -> int:
        """Delete the payments that brought no credit."""
        hashes = self._connection.execute(_PAYMENTS, {**self._tokens, "most": MOST}).scalars().all()
        for row in (rows := self._payments(hashes)):
            if (row.kind, row.status) == (CREDIT, GRANTED):
                raise Unfit(row.token_id, "a payment of credit was not booked")
        return len(rows)

    def _payments(self, hashes: Iterable[str]) -> Sequence[Row[Any]]:
        """Delete payments, with what the node said of them."""
        named = {"hashes": list(hashes)}
        if not named["hashes"]:
            return []
        rows = self._connection.execute(_TAKE_PAYMENTS, named).all()
        found = self._connection.execute(_TAKE_SETTLEMENTS, named).all()
        read = {row.payment_hash: row.received for row in found}
        self._settlements += len(read)
        for row in rows:
            day, own = _day(row.presented_at), row.payment_hash
            kind = f"{row.kind} {row.status}"
            line = Line(day, closings.PAYMENT, kind, row.service, row.endpoint, row.network)
            self._closings.add(line, row.msat)
            kind = closings.READ if own in read else closings.UNREAD
            line = Line(day, closings.SETTLEMENT, kind, network=row.network)
            self._closings.add(line, read.get(own, row.msat))
        return rows

    def _carry(self, owned: dict[Account, int]) -> None:
        """Note what accounts owned where their entries begin now."""
        rows = [{"token": a.token_id, "of": a.service, "owned": n} for a, n in owned.items()]
        if rows:
            self._connection.execute(_CARRY, rows)

    def _end(self, owned: dict[Account, int]) -> Purged:
        """Delete the accounts themselves, of which nothing else is left."""
        for account, left in owned.items():
            if left:
                raise Unfit(account.token_id, "its entries do not come to its balance")
        if (token := self._connection.execute(_IN_FLIGHT, self._tokens).scalar()) is not None:
            raise Unfit(token, "a use of it is in flight for which nothing is reserved")
        rows = self._connection.execute(_TAKE_CREDITS, self._tokens).all()
        for row in rows:
            self._closings.add(Line(_day(row.ends_at), closings.BALANCE, "", row.service))
        tokens = self._connection.execute(_TAKE_TOKENS, self._tokens).rowcount
        return Purged(tokens=tokens, balances=len(rows))


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()

"""What the ledger says of every account, beside what the account has: one statement for all."""

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    case,
    func,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy.sql.expression import FromClause

from l402.store.tables import credit, entry, use


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over balances: how many of them and of entries there are, and amounts in msat.

    From `purchased` to `debited` they are what the ledger says, by kind of entry; `balance` and
    `reserved` are what the accounts have.
    """

    accounts: int = 0
    entries: int = 0
    purchased: int = 0
    credited: int = 0
    written_off: int = 0
    used: int = 0
    expired: int = 0
    debited: int = 0
    balance: int = 0
    reserved: int = 0

    @property
    def granted(self) -> int:
        """What was bought, credited by hand, and lent to uses that no balance covered."""
        return self.purchased + self.credited + self.written_off

    @property
    def gone(self) -> int:
        """What was used, expired, or was debited by hand."""
        return self.used + self.expired + self.debited

    @classmethod
    def of(cls, row: Row[Any]) -> "Totals":
        """Read those of one account from a row of `ACCOUNTS`."""
        return cls(**{each.name: int(row._mapping[each.name]) for each in fields(cls)})

    def __add__(self, other: "Totals") -> "Totals":
        sums = (getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        return Totals(*sums)


_GAINS = {"purchased": "purchase", "credited": "credit", "written_off": "write_off"}
_LOSSES = {"used": "use", "expired": "expiry", "debited": "debit"}
#: The field of `Totals` in which each kind of entry is added up; a release moves nothing.
KINDS = {kind: name for name, kind in (_GAINS | _LOSSES).items()}
#: What an entry does to balance and reserved together; NULL for a kind that is not known.
EFFECT = case(
    (entry.c.kind.in_(_GAINS.values()), entry.c.msat),
    (entry.c.kind.in_(_LOSSES.values()), -entry.c.msat),
    (entry.c.kind == "release", 0),
    else_=null(),
)
_FIGURES = ("accounts", "entries", *_GAINS, *_LOSSES, "balance", "reserved", "held", "carried")


def _part(table: FromClause, **figures: ColumnElement[Any]) -> Select[Any]:
    """Some of an account's figures, and 0 for the others."""
    nothing: ColumnElement[Any] = literal_column("0")
    columns = (figures.get(name, nothing).label(name) for name in _FIGURES)
    return select(table.c.token_id, table.c.service, *columns)


def _accounts() -> Select[Any]:
    sums = {
        name: func.sum(case((entry.c.kind == kind, entry.c.msat), else_=0))
        for name, kind in (_GAINS | _LOSSES).items()
    }
    booked = _part(entry, entries=func.count(), **sums)
    has = _part(
        credit,
        accounts=literal_column("1"),
        balance=credit.c.balance,
        reserved=credit.c.reserved,
        carried=credit.c.carried,
    )
    held = _part(use, held=func.sum(use.c.msat))
    parts = union_all(
        booked.group_by(entry.c.token_id, entry.c.service),
        has,
        held.group_by(use.c.token_id, use.c.service),
    ).subquery()
    account = (parts.c.token_id, parts.c.service)
    figures = (func.sum(parts.c[name]).label(name) for name in _FIGURES)
    return select(*account, *figures).group_by(*account)


#: One row for each account: the figures of `Totals`, `held`, what uses in flight hold of it, and
#: `carried`, what it owned where its entries begin.
ACCOUNTS = _accounts()

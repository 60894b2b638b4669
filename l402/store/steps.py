"""The steps of a use, each done whole or not at all: it is reserved, and then taken or given back.

On Postgres a step is one statement, and its transaction one exchange: the row of a balance, on
which all calls of an account wait, is locked while the server works, never while the network does.
SQLite cannot change several tables in one statement, and has no network.

The parts of such a statement wait for what they read of each other. A use is made once its price is
set aside; a balance is changed once the row of the use is deleted, which only one can do; an entry
gets its number once the row of the balance is locked. A part that had to wait for a row goes on
with what became of that row, or all of it fails and runs again (see `l402.store.faults`).
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property, partial
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningDelete

from l402.store import balances, leases, ledger, replies, settlement
from l402.store.clock import DatabaseNow
from l402.store.driver import Ask, Statement, ask
from l402.store.orders import Order
from l402.store.tables import Key, credit, entry, use

_Values = Mapping[str, Any]


class Step:
    """One statement where the database can change several tables in one, or else its pieces.

    `whole` gives the statement, which is not even put together where it is of no use.
    """

    def __init__(
        self, whole: Callable[[], Select[Any]], pieces: Callable[[Connection, _Values], Any]
    ) -> None:
        self._make, self._pieces = whole, pieces

    @cached_property
    def _whole(self) -> Statement:
        return Statement(self._make())

    def run(self, connection: Connection, values: _Values, ask: Ask = ask) -> Any:
        """Do the step within a transaction, and give its row, or None if there is nothing to do.

        :raises DBAPIError: as SQLAlchemy would
        """
        if connection.dialect.name == "sqlite":
            return self._pieces(connection, values)
        return self._whole.run(connection, values, ask)


class Left(NamedTuple):
    """What an account has left to spend, in msat."""

    balance: int


def asked(order: Order, process: str, now: datetime) -> dict[str, Any]:
    """Give the values of `RESERVE` for an order of a process."""
    return {
        "own": order.use_id.hex(),
        "token": order.token_id.hex(),
        "of": order.service,
        "endpoint": order.endpoint,
        "method": order.method,
        "msat": order.msat,
        "process": process,
        "now": now,
    }


# --- reserving

_MADE: dict[str, ColumnElement[Any]] = {
    "use_id": bindparam("own", type_=Key),
    "token_id": bindparam("token", type_=Key),
    "service": bindparam("of", type_=Key),
    **{name: bindparam(name, type_=use.c[name].type) for name in (
        "endpoint", "method", "msat", "process",
    )},
    "reserved_at": DatabaseNow(),
}  # fmt: skip
#: What is left besides the use `own`, if it is made: (balance, ends_at).
HELD = (
    select(credit.c.balance, credit.c.ends_at)
    .join(use, (use.c.token_id == credit.c.token_id) & (use.c.service == credit.c.service))
    .where(use.c.use_id == _MADE["use_id"])
)
_RESERVE = Statement(balances.RESERVE)
_MAKE = Statement(insert(use).values(_MADE).inline())


def _reserving() -> Select[Any]:
    held = balances.RESERVE.cte("held")
    made = insert(use).from_select(list(_MADE), select(*_MADE.values()).select_from(held))
    return select(held.c.balance, held.c.ends_at).add_cte(made.cte("made"))


def _reserve(connection: Connection, values: _Values) -> Any:
    held = _RESERVE.run(connection, values)
    if held is not None:
        _MAKE.run(connection, values)
    return held


# --- resolving


def _moving(found: CTE, cost: ColumnElement[int]) -> CTE:
    """Charge the account `cost` of what a use held, and free the rest."""
    return (
        update(credit)
        .where(credit.c.token_id == found.c.token_id, credit.c.service == found.c.service)
        .values(
            balance=credit.c.balance + found.c.msat - cost,
            reserved=credit.c.reserved - found.c.msat,
        )
        .returning(credit.c.balance, (credit.c.balance + credit.c.reserved).label("owned"))
        .cte("moved")
    )


def _entering(
    found: CTE, moved: CTE, kind: Any, msat: Any, cost: ColumnElement[int], suffix: str = ""
) -> CTE:
    line: dict[str, ColumnElement[Any]] = {
        "operation": literal_column("'use:'") + found.c.use_id,
        "kind": kind,
        **{name: found.c[name] for name in ("token_id", "service", "endpoint", "method")},
        "msat": msat,
        "balance_before": moved.c.owned + cost,
        "balance_after": moved.c.owned,
        "at": DatabaseNow(),
    }
    lines = select(*line.values()).suffix_with(suffix)
    return insert(entry).from_select(list(line), lines).cte("entered")


def _kind(kind: str) -> ColumnElement[str]:
    return literal_column(f"'{kind}'")  # a bound one would be one more to name


def _taking() -> Select[Any]:
    found = leases.RESOLVE.cte("found")
    cost = func.coalesce(bindparam("cost", type_=BigInteger), found.c.msat)
    moved = _moving(found, cost)
    entered = _entering(found, moved, _kind(ledger.USE), cost, cost)
    return select(moved.c.balance).add_cte(entered)


def _take(connection: Connection, values: _Values) -> Left | None:
    found = _FIND.run(connection, values)
    if found is None:
        return None
    cost = found.msat if values["cost"] is None else values["cost"]
    return Left(settlement.spend(connection, found, cost))


#: A reservation that was thought lost, and made again, may arrive when its use is over, and after
#: it a charge. All that it sets aside goes back then, since the use has its line already.
_ONCE = "ON CONFLICT (operation) DO NOTHING"


def _giving_back(resolve: ReturningDelete[Any]) -> Select[Any]:
    gone = resolve.cte("gone")
    over = exists().where(entry.c.operation == literal_column("'use:'") + _MADE["use_id"])
    due = case((over, literal_column("0")), else_=gone.c.charged).label("due")
    found = select(gone, due).cte("found")
    charged, uncharged = found.c.due, found.c.due == literal_column("0")
    moved = _moving(found, charged)
    kind = case((uncharged, _kind(ledger.RELEASE)), else_=_kind(ledger.USE))
    msat = case((uncharged, found.c.msat), else_=charged)
    entered = _entering(found, moved, kind, msat, charged, _ONCE)
    return select(moved.c.balance).add_cte(entered, *replies.unheld(found, uncharged))


def _give_back(find: Statement) -> Callable[[Connection, _Values], Left | None]:
    def give_back(connection: Connection, values: _Values) -> Left | None:
        found = find.run(connection, values)
        return None if found is None else Left(settlement.give_back(connection, found))

    return give_back


_FIND, _FIND_LAPSED = Statement(leases.RESOLVE), Statement(leases.RESOLVE_LAPSED)

#: Sets the price of a call aside and makes its use: (balance, ends_at), or None if it is short.
RESERVE = Step(_reserving, _reserve)
#: Ends the use `own` and charges `cost`, or all that it holds: (balance), or None without a use.
TAKE = Step(_taking, _take)
#: Ends the use `own` and frees what was not charged yet: (balance), or None without a use.
GIVE_BACK = Step(partial(_giving_back, leases.RESOLVE), _give_back(_FIND))
#: The same, while the process that made the use is silent.
GIVE_BACK_LAPSED = Step(partial(_giving_back, leases.RESOLVE_LAPSED), _give_back(_FIND_LAPSED))

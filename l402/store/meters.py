"""What a metered call changes of its use while it is in flight: what is charged, and set aside."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, case, select, update

from l402.errors import StoreUnavailable
from l402.store import balances
from l402.store.driver import Statement
from l402.store.engine import Database
from l402.store.ledger import Account
from l402.store.orders import Order, Short
from l402.store.tables import Key, use


class Extended(NamedTuple):
    """More is set aside for a use: `held` in all; `balance` is what is left besides, in msat."""

    held: int
    balance: int


_MINE = use.c.use_id == bindparam("own", type_=Key)
_HELD = Statement(select(use).where(_MINE).with_for_update())
_GROW = Statement(update(use).where(_MINE).values(msat=use.c.msat + bindparam("more")))
_SO_FAR = bindparam("so_far", type_=BigInteger)
# A message that was thought lost may arrive after the next one: then it says less.
_CHARGED = case((use.c.charged > _SO_FAR, use.c.charged), else_=_SO_FAR)
_CHARGE = Statement(update(use).where(_MINE).values(charged=_CHARGED).returning(use.c.msat))


def extend(
    connection: Connection, order: Order, held: int, least: int, most: int, now: datetime
) -> Extended | Short:
    """Set more aside for a use that holds `held`: `most`, or all that is left if it is `least`.

    :raises StoreUnavailable: if the use is not in flight
    """
    account, own = Account(order.token_id.hex(), order.service), {"own": order.use_id.hex()}
    # The use before the balance, as whoever resolves it: two that wait for each other would fail.
    found = _HELD.run(connection, own)
    if found is None:
        raise _gone(own["own"])
    row = balances.lock(connection, account)
    if found.msat > held:  # the commit that seemed lost counted
        return Extended(found.msat, row.balance)
    if row.balance < least or row.ends_at <= now:
        return Short(row.balance, row.ends_at <= now)
    more = min(row.balance, most)
    balance, _ = balances.move(connection, account, free=-more, held=more)
    _GROW.run(connection, own | {"more": more})
    return Extended(held + more, balance)


def charge(db: Database, use_id: str, msat: int) -> None:
    """Note that a use was charged `msat` so far; whoever resolves it takes that.

    :raises StoreUnavailable: if the use is not in flight
    """
    if db.alone(_CHARGE, {"own": use_id, "so_far": msat}) is None:
        raise _gone(use_id)


def _gone(use_id: str) -> StoreUnavailable:
    return StoreUnavailable(f"the use {use_id} is resolved: its process was silent for too long")

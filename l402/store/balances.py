"""A balance as transactions change it: each change writes its entry, and none commits by itself.

The row of the balance is always changed (and so locked) before the entry is written; that makes
an account's entries a chain in the order of their ids.
"""

import secrets
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from l402.store import ledger
from l402.store.clock import Moment
from l402.store.driver import Statement
from l402.store.ledger import Account
from l402.store.tables import Key, credit, insertion

_BALANCE = (
    credit.c.token_id == bindparam("token", type_=Key),
    credit.c.service == bindparam("of", type_=Key),
)
_LOOK = Statement(select(credit).where(*_BALANCE))
_LOCK = Statement(select(credit).where(*_BALANCE).with_for_update())
_ADD = insertion(
    credit,
    "token_id service balance reserved ends_at",
    "ON CONFLICT (token_id, service) DO UPDATE"
    " SET balance = l402_credit.balance + excluded.balance,"
    " ends_at = CASE WHEN excluded.ends_at > l402_credit.ends_at"
    " THEN excluded.ends_at ELSE l402_credit.ends_at END"
    " RETURNING token_id, service, balance, reserved",
)
_MOVE = Statement(
    update(credit)
    .where(*_BALANCE)
    .values(
        balance=credit.c.balance + bindparam("free"),
        reserved=credit.c.reserved + bindparam("held"),
    )
    .returning(credit.c.balance, credit.c.reserved)
)
#: Sets `msat` aside if there is as much and it has not ended.
RESERVE = (
    update(credit)
    .where(
        *_BALANCE,
        credit.c.balance >= bindparam("msat"),
        credit.c.ends_at > bindparam("now", type_=Moment()),
    )
    .values(
        balance=credit.c.balance - bindparam("msat"),
        reserved=credit.c.reserved + bindparam("msat"),
    )
    .returning(credit.c.balance, credit.c.ends_at)
)


def look(connection: Connection, account: Account) -> Any:
    """Give the row of a balance, or None."""
    return _LOOK.run(connection, _named(account))


def lock(connection: Connection, account: Account) -> Any:
    """Give the row of a balance, or None, that nobody else changes before the commit."""
    return _LOCK.run(connection, _named(account))


def move(
    connection: Connection, account: Account, *, free: int = 0, held: int = 0
) -> tuple[int, int]:
    """Add to what may be spent and to what is reserved; give (balance, owned) after it."""
    change = {**_named(account), "free": free, "held": held}
    balance, reserved = _MOVE.run(connection, change)
    return balance, balance + reserved


def purchase(connection: Connection, payment: dict[str, Any]) -> None:
    """Add what a payment bought, by its row, once its booking made that row.

    What is left of a balance that ended before is booked as expired, or it would come alive.
    """
    account = Account(payment["token_id"], payment["service"])
    found = lock(connection, account)
    if found is not None and found.ends_at <= payment["presented_at"]:
        expire(connection, account, found.balance)
    bought = {"balance": payment["msat"], "reserved": 0, "ends_at": payment["ends_at"]}
    row = connection.execute(_ADD, account._asdict() | bought).one()
    ledger.append(
        connection,
        ledger.PURCHASE,
        f"payment:{payment['payment_hash']}",
        account,
        msat=payment["msat"],
        after=row.balance + row.reserved,
    )


def expire(connection: Connection, account: Account, balance: int) -> None:
    """Book all that may still be spent, of a locked row, as expired; what is reserved stays."""
    if balance:
        _, owned = move(connection, account, free=-balance)
        # Only a balance above zero gets here, so it needs no name that a rerun would find.
        operation = f"expiry:{secrets.token_hex(16)}"
        ledger.append(connection, ledger.EXPIRY, operation, account, msat=balance, after=owned)


def _named(account: Account) -> dict[str, str]:
    return {"token": account.token_id, "of": account.service}

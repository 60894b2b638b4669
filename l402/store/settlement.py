"""How a use ends: what it is charged is spent, and the rest goes back.

Also when it was given back before its call ended, because its process was silent for too long.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from l402.errors import StoreUnavailable
from l402.store import balances, ledger, replies
from l402.store.ledger import Account
from l402.store.replies import Answer, Call


def spend(connection: Connection, found: Any, msat: int) -> int:
    """Take `msat` of a use whose row was deleted just now; give the balance after it."""
    account = Account(found.token_id, found.service)
    balance, owned = balances.move(connection, account, free=found.msat - msat, held=-found.msat)
    _enter(connection, ledger.USE, found, msat, owned)
    return balance


def give_back(connection: Connection, found: Any) -> int:
    """Give back what a use was not charged, its row just deleted; give the balance after it.

    The key of a call that was charged is spent with it: it must not be charged again.
    """
    if found.charged:
        replies.lose(connection, found.use_id)
        return spend(connection, found, found.charged)
    account = Account(found.token_id, found.service)
    balance, owned = balances.move(connection, account, free=found.msat, held=-found.msat)
    _enter(connection, ledger.RELEASE, found, found.msat, owned)
    replies.forget(connection, found.use_id)
    return balance


def settle(
    connection: Connection,
    use_id: str,
    msat: int | None,
    keyed: tuple[Call, datetime] | None = None,
    answer: Answer | None = None,
) -> int:
    """Find out what became of a use that is not in flight, and debit what it was not charged yet.

    `msat` is what it costs in all, if not what was reserved. Gives the balance after it; what that
    no longer had, because it was spent otherwise meanwhile, is written off.

    `keyed` is its call under an Idempotency-Key, and when it was made. If that was made again
    meanwhile, the other one is charged and this is not.

    :raises StoreUnavailable: if the ledger does not know it
    """
    resolved = _entry(connection, f"use:{use_id}")
    if resolved is None:
        raise StoreUnavailable(f"the use {use_id} is not in the record; was a backup restored?")
    account = Account(resolved.token_id, resolved.service)
    # The row is locked before the late entry is looked for, so that one rival finds the other's.
    locked = balances.lock(connection, account)
    assert locked is not None
    left: int = locked.balance
    charged = resolved.msat if resolved.kind == ledger.USE else 0
    due = (resolved.msat if msat is None else msat) - charged
    if due <= 0 or _entry(connection, f"late:{use_id}"):
        return left
    if keyed and not replies.claim_again(connection, *keyed, account.token_id, use_id):
        return left
    left = _debit(connection, use_id, resolved, due, left)
    if answer is not None:
        replies.finish(connection, use_id, answer)
    return left


def _debit(connection: Connection, use_id: str, resolved: Row[Any], due: int, balance: int) -> int:
    account = Account(resolved.token_id, resolved.service)
    paid = min(balance, due)
    lack = due - paid
    left, owned = balances.move(connection, account, free=-paid)
    call = {"endpoint": resolved.endpoint, "method": resolved.method}
    if lack:
        lent = f"write_off:{use_id}"
        after = owned + due
        ledger.append(connection, ledger.WRITE_OFF, lent, account, msat=lack, after=after, **call)
    ledger.append(connection, ledger.USE, f"late:{use_id}", account, msat=due, after=owned, **call)
    return left


def _entry(connection: Connection, operation: str) -> Row[Any] | None:
    return connection.execute(ledger.NAMED, {"operation": operation}).first()


def _enter(connection: Connection, kind: str, found: Any, msat: int, owned: int) -> None:
    ledger.append(
        connection,
        kind,
        f"use:{found.use_id}",
        Account(found.token_id, found.service),
        msat=msat,
        after=owned,
        endpoint=found.endpoint,
        method=found.method,
    )

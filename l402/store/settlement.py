"""Taking a use that was given back before its call ended: its process was silent for too long."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from l402.errors import StoreUnavailable
from l402.store import balances, ledger, replies
from l402.store.ledger import Account
from l402.store.replies import Answer, Call


@dataclass(frozen=True, slots=True)
class Taken:
    """The price is spent; `balance` is what is left, in msat.

    `written_off` is what the balance no longer had, because the use was given back and spent
    otherwise before the call ended: the house bears it.
    """

    balance: int
    written_off: int


def settle(
    connection: Connection,
    use_id: str,
    keyed: tuple[Call, datetime] | None = None,
    answer: Answer | None = None,
) -> Taken:
    """Find out what became of a use that is not in flight, and debit it if it was given back.

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
    lent = _entry(connection, f"write_off:{use_id}")
    if resolved.kind == ledger.USE or _entry(connection, f"late:{use_id}"):
        return Taken(locked.balance, lent.msat if lent else 0)
    if keyed and not replies.claim_again(connection, *keyed, account.token_id, use_id):
        return Taken(locked.balance, 0)
    taken = _debit(connection, use_id, resolved, locked.balance)
    if answer is not None:
        replies.finish(connection, use_id, answer)
    return taken


def _debit(connection: Connection, use_id: str, given_back: Row[Any], balance: int) -> Taken:
    account = Account(given_back.token_id, given_back.service)
    paid = min(balance, given_back.msat)
    lack = given_back.msat - paid
    left, owned = balances.move(connection, account, free=-paid)
    call = {"endpoint": given_back.endpoint, "method": given_back.method}
    if lack:
        ledger.append(
            connection,
            ledger.WRITE_OFF,
            f"write_off:{use_id}",
            account,
            msat=lack,
            after=owned + given_back.msat,
            **call,
        )
    ledger.append(
        connection,
        ledger.USE,
        f"late:{use_id}",
        account,
        msat=given_back.msat,
        after=owned,
        **call,
    )
    return Taken(left, lack)


def _entry(connection: Connection, operation: str) -> Row[Any] | None:
    return connection.execute(ledger.NAMED, {"operation": operation}).first()

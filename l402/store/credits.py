"""Balances as people and the gate ask for them, and as they are changed by hand."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Row, bindparam, exists, not_, or_, select

from l402.store import balances, ledger
from l402.store.clock import DatabaseNow, database_now
from l402.store.engine import Database
from l402.store.ledger import Account
from l402.store.payments import CREDIT, GRANTED
from l402.store.revocations import HIT
from l402.store.tables import Key, credit, payment


class Credit(NamedTuple):
    """An account's credit for a service, in msat, until `ends_at`.

    `balance` may still be spent; `reserved` is held by calls in flight.
    """

    service: str
    balance: int
    reserved: int
    ends_at: datetime


class Adjusted(NamedTuple):
    """What changing a balance by hand did: `first` is False if that operation was done before.

    `balance` is what may be spent now, in msat.
    """

    first: bool
    balance: int


_OF = (
    select(credit.c.service, credit.c.balance, credit.c.reserved, credit.c.ends_at)
    .where(credit.c.token_id == bindparam("token", type_=Key))
    .order_by(credit.c.service)
)
_ENDED = (
    select(credit.c.token_id, credit.c.service, credit.c.ends_at, credit.c.reserved)
    .where(
        credit.c.ends_at.between(bindparam("since"), database_now()),
        or_(credit.c.balance > 0, credit.c.reserved > 0),
    )
    .order_by(credit.c.ends_at)
    .limit(bindparam("most"))
)
#: How far back a sweep looks although the one before it found nothing there.
_OVERLAP = timedelta(days=1)
_GOOD = select(
    exists().where(
        payment.c.token_id == bindparam("token", type_=Key),
        payment.c.service == bindparam("of", type_=Key),
        payment.c.kind == CREDIT,
        payment.c.status == GRANTED,
        not_(exists().where(HIT)),
    )
)
_LONG_AGO = datetime(2009, 1, 3, tzinfo=UTC)
#: Whether there is a balance, and no payment behind it that is still good.
_REVOKED = select(
    exists()
    .where(
        credit.c.token_id == bindparam("token", type_=Key),
        credit.c.service == bindparam("of", type_=Key),
    )
    .label("has"),
    _GOOD.scalar_subquery().label("good"),
)
_CLOCK = select(DatabaseNow())


class Credits:
    """What accounts hold."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._swept_until = _LONG_AGO

    def of(self, token_id: bytes) -> list[Credit]:
        """Give an account's credit by service, also what is used up or has ended.

        :raises StoreError: if it could not be read
        """
        rows = self.db.fetch(_OF, {"token": token_id.hex()})
        return [Credit(row.service, row.balance, row.reserved, row.ends_at) for row in rows]

    def revoked(self, token_id: bytes, service: str) -> bool:
        """Tell whether an account has credit for a service, all of it bought by revoked payments.

        :raises StoreError: if it could not be read
        """
        (found,) = self.db.fetch(_REVOKED, {"token": token_id.hex(), "of": service})
        return bool(found.has) and not found.good

    def adjust(
        self, token_id: str, service: str, msat: int, *, why: str, operation: str, now: datetime
    ) -> Adjusted:
        """Add `msat` to a balance by hand, or take it off if it is negative; sends no money.

        Under one `operation` id this is done once, whoever repeats it. It is on the disk when
        this returns.

        :raises ValueError: if the account has no such credit, is revoked or has ended, if its
            balance is smaller than what is to be taken off, or if the id stands for another change
        :raises StoreError: if it could not be written
        """
        account = Account(token_id, service)

        def write() -> Adjusted:
            with self.db.write(durable=True) as connection:
                row = balances.lock(connection, account)
                name = f"hand:{operation}"
                if done := connection.execute(ledger.NAMED, {"operation": name}).first():
                    _require_same(done, account, msat)
                    return Adjusted(False, row.balance if row else 0)
                good = connection.execute(_GOOD, {"token": token_id, "of": service}).scalar()
                _require_able(row, bool(good), msat, now)
                balance, owned = balances.move(connection, account, free=msat)
                kind = ledger.BY_HAND[msat < 0]
                ledger.append(connection, kind, name, account, msat=abs(msat), after=owned, why=why)
            return Adjusted(True, balance)

        return self.db.run(write)

    def expire(self, limit: int = 100) -> int:
        """Book what is left of balances past their end, `limit` at most; give their number.

        Those that calls in flight draw on wait until these are resolved.

        :raises StoreError: if they could not be booked
        """
        ((now,),) = self.db.fetch(_CLOCK)
        rows = self.db.fetch(_ENDED, {"most": limit, "since": self._swept_until})
        # Not from the beginning next time: used-up balances that ended long ago are many.
        self._swept_until = min([now - _OVERLAP, *(row.ends_at for row in rows[:1])])
        ended = [Account(row.token_id, row.service) for row in rows if not row.reserved]
        return sum(self.db.run(partial(self._expire, account)) for account in ended)

    def _expire(self, account: Account) -> bool:
        with self.db.write() as connection:
            row = balances.lock(connection, account)
            now = connection.execute(_CLOCK).scalar_one()
            if row is None or row.ends_at > now or row.reserved or not row.balance:
                return False
            balances.expire(connection, account, row.balance)
        return True


def _require_same(done: Row[Any], account: Account, msat: int) -> None:
    moved = ledger.EFFECTS[done.kind] * done.msat
    if (done.token_id, done.service, moved) != (*account, msat):
        raise ValueError("this id stands for another change: choose a new one")


def _require_able(row: Row[Any] | None, good: bool, msat: int, now: datetime) -> None:
    if row is None:
        raise ValueError("this token has no credit for this service")
    if not good:
        raise ValueError("this token's credit is revoked")
    if row.ends_at <= now:
        raise ValueError(f"this token's credit ended on {row.ends_at:%Y-%m-%d %H:%M} UTC")
    if row.balance + msat < 0:
        raise ValueError(f"only {row.balance} msat are there to be taken off")

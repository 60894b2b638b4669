"""Purging: an account that ended long ago goes, with all that is known of it but the sums.

An account goes only as a whole, when nothing that it ever held can be used any more, however
clocks may differ. Its entries go from the oldest on, each purchase together with its payment, and
what was deleted is added to the closings in the same transaction. So the books agree after each
transaction: a purge may be killed at any time, run twice at once, and an account that buys anew in
between goes on from what was carried. Transactions are short, and between two others get a turn.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import (
    Connection,
    ScalarSelect,
    Table,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    union,
    update,
)

from l402.store.clock import Moment
from l402.store.engine import Database
from l402.store.removal import Purged, Removal, Unfit
from l402.store.tables import (
    Key,
    credential,
    credit,
    entry,
    ledger,
    payment,
    purge,
    reply,
    settlement,
)

#: Accounts of a transaction.
ACCOUNTS = 50
#: What was purged ended at least this long before `closed_until`: an invoice may be paid a moment
#: after its end.
SLACK = timedelta(hours=1)
#: Seconds between two transactions: as long as the last one took, within these bounds.
_SHORTEST, _LONGEST = 0.002, 0.5

_TOKENS = bindparam("tokens", expanding=True, type_=Key)
_END = bindparam("end", type_=Moment())
_ORDER = (credential.c.first_presented_at, credential.c.token_id)
_PAGE = (
    select(*_ORDER)
    .where(
        _ORDER[0] <= _END,
        tuple_(*_ORDER) > tuple_(bindparam("at", type_=Moment()), bindparam("after", type_=Key)),
    )
    .order_by(*_ORDER)
    .limit(ACCOUNTS)
)
#: The accounts that are to go, locked against any booking; what is being booked is passed over.
_LOCK = (
    select(credential.c.token_id)
    .where(credential.c.token_id.in_(_TOKENS))
    .order_by(credential.c.token_id)
    .with_for_update(skip_locked=True)
)
_LOCK_CREDITS = (
    select(credit)
    .where(credit.c.token_id.in_(_TOKENS))
    .order_by(credit.c.token_id, credit.c.service)
    .with_for_update()
)
#: Those that have not ended, or that a reconciliation found fault with.
_KEPT = union(
    select(payment.c.token_id).where(
        payment.c.token_id.in_(_TOKENS), or_(payment.c.valid_until > _END, payment.c.ends_at > _END)
    ),
    select(credit.c.token_id).where(
        credit.c.token_id.in_(_TOKENS),
        or_(credit.c.ends_at > _END, credit.c.balance != 0, credit.c.reserved != 0),
    ),
    select(reply.c.token_id).where(reply.c.token_id.in_(_TOKENS), reply.c.expires_at > _END),
    select(payment.c.token_id)
    .join(settlement, settlement.c.payment_hash == payment.c.payment_hash)
    .where(payment.c.token_id.in_(_TOKENS), settlement.c.received < payment.c.msat),
)
#: Lets nothing be booked any more that ended before. It always writes the row, as whoever records
#: what a node says was paid: of two that meet the second one waits, or begins again.
_CLOSE = update(ledger).values(
    closed_until=case((ledger.c.closed_until > _END, ledger.c.closed_until), else_=_END)
)
_PERMIT = insert(purge)
_UNPERMIT = delete(purge).where(purge.c.token_id.in_(_TOKENS))
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def _count(table: Table) -> ScalarSelect[int]:
    own = select(func.count()).select_from(table).where(table.c.token_id.in_(_TOKENS))
    return own.scalar_subquery()


_COUNTS = select(
    _count(payment).label("payments"),
    _count(entry).label("entries"),
    _count(credit).label("balances"),
    _count(reply).label("replies"),
    select(func.count())
    .select_from(settlement.join(payment, payment.c.payment_hash == settlement.c.payment_hash))
    .where(payment.c.token_id.in_(_TOKENS))
    .scalar_subquery()
    .label("settlements"),
)


class Purge:
    """Removes the accounts of which everything ended before a moment."""

    def __init__(self, db: Database, before: datetime) -> None:
        self.db, self.before, self._end = db, before, before - SLACK
        self.unfit: dict[str, str] = {}  # token ids that cannot go, and why

    def run(self, told: Callable[[Purged], None]) -> Purged:
        """Purge all; `told` is given what each transaction purged.

        :raises StoreError: the database gives no usable answer; what is done is done
        """
        done = Purged()
        self.db.run(self._close)
        for tokens in self.pages():
            more = True
            while more:
                begun = time.monotonic()
                purged, more = self._step(tokens)
                told(purged)
                done += purged
                taken = time.monotonic() - begun
                # Others get a turn: on SQLite who waits looks only now and then.
                time.sleep(min(max(taken, _SHORTEST), _LONGEST) if purged.tokens or more else 0)
        return done

    def preview(self) -> Purged:
        """Count what `run` would purge now, and change nothing.

        :raises StoreError: if it could not be read
        """
        done = Purged()
        for tokens in self.pages():
            counts = self.db.fetch(_COUNTS, {"tokens": tokens})[0]
            done += Purged(tokens=len(tokens), **counts._mapping)
        return done

    def pages(self) -> Iterator[list[str]]:
        """Give the accounts that ended, those first that were presented first, page by page.

        :raises StoreError: if they could not be read
        """
        page = [(_LONG_AGO, "")]
        while page:
            at, after = page[-1]
            found = self.db.fetch(_PAGE, {"end": self._end, "at": at, "after": after})
            page = [(row.first_presented_at, row.token_id) for row in found]
            with self.db.read() as connection:
                tokens = self._ended(connection, [token for _, token in page])
            if tokens:
                yield tokens

    def _ended(self, connection: Connection, tokens: Sequence[str]) -> list[str]:
        """Choose those of some accounts of which everything ended, and nothing is left."""
        kept = set(connection.execute(_KEPT, {"tokens": tokens, "end": self._end}).scalars())
        return [token for token in tokens if token not in kept]

    def _step(self, tokens: Sequence[str]) -> tuple[Purged, bool]:
        """Purge these accounts as far as one transaction may; say whether there is more of them."""
        while fit := [token for token in tokens if token not in self.unfit]:
            try:
                return self.db.run(partial(self._remove, fit))
            except Unfit as found:
                self.unfit[found.token_id] = found.why
        return Purged(), False

    def _close(self) -> None:
        """Close what ended before, for all that goes now or is left to go, such as revocations."""
        with self.db.write() as connection:
            connection.execute(_CLOSE, {"end": self.before})

    def _remove(self, tokens: Sequence[str]) -> tuple[Purged, bool]:
        with self.db.write() as connection:
            connection.execute(_CLOSE, {"end": self.before})
            locked = connection.execute(_LOCK, {"tokens": tokens}).scalars().all()
            if not locked:
                return Purged(), False
            credits = connection.execute(_LOCK_CREDITS, {"tokens": locked}).all()
            # Again, now that nobody else can change what they hold; what did change, next time.
            if not (ended := self._ended(connection, locked)):
                return Purged(), False
            credits = [row for row in credits if row.token_id in ended]
            connection.execute(_PERMIT, [{"token_id": token} for token in ended])
            purged, more = Removal(connection, ended).run(credits)
            connection.execute(_UNPERMIT, {"tokens": ended})
        return purged, more

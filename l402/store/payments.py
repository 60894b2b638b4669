"""Payments: written when first presented, each once, whoever presents it where."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, exists, func, literal, not_, select, union_all

from l402.store import balances
from l402.store import ledger as books
from l402.store.clock import Moment
from l402.store.engine import Database
from l402.store.revocations import CONCERNED, HIT
from l402.store.tables import Key, credential, credit, insertion, ledger, payment

PASS = "pass"  # noqa: S105 - a kind of right
CREDIT = "credit"

GRANTED = "granted"  # the only status that gives rights
LATE = "late"
REVOKED = "revoked"

_MOST_RIGHTS = 100


class Sale(NamedTuple):
    """What a payment buys, as we signed it; nothing that its holder appended.

    Ids are 32 bytes, `msat` is what was paid, `kind` is "pass" or "credit", and the moments are
    unix seconds. `valid_until` is the end of the token as a key. `ledger` is the
    id of the ledger that credit was sold for; "" for what was signed without one. `price` is what
    the refused request cost, in msat, 0 if a callable said it; `rate` what it was reckoned at.
    """

    payment_hash: bytes
    token_id: bytes
    service: str
    kind: str
    msat: int
    network: str
    endpoint: str
    method: str
    issued_at: int
    starts_at: int
    ends_at: int
    valid_until: int
    ledger: str = ""
    price: int = 0
    rate: str = ""


class Standing(NamedTuple):
    """How a sale stands in the record.

    `first`: this very call booked it, and it grants its right. `revoked`: it grants nothing,
    being revoked, or being booked for another token id. `late`: it grants nothing, because it was
    first presented after its `valid_until`. `foreign`: it is credit of another ledger, grants
    nothing here and was not booked.
    """

    first: bool
    revoked: bool
    late: bool
    foreign: bool = False


_HASH = bindparam("payment_hash", type_=Key)
_STATE = select(payment.c.status, payment.c.token_id, CONCERNED.label("revoked"))
# No row of what is to be booked: its revocations are asked once, where it is booked.
_BOOKED = _STATE.where(payment.c.payment_hash == _HASH)
_LOOK_UP = (
    _STATE.add_columns(select(ledger.c.closed_until).scalar_subquery().label("closed_until"))
    # One row always, so that the revocations are asked in the same round trip.
    .select_from(
        select(literal(1).label("one"))
        .subquery()
        .outerjoin(payment, payment.c.payment_hash == _HASH)
    )
)
_PASSES = (
    payment.c.token_id == bindparam("token_id", type_=Key),
    payment.c.kind == PASS,
    payment.c.status == GRANTED,
    payment.c.ends_at > bindparam("now", type_=Moment()),
    not_(exists().where(HIT)),
)
_RIGHTS = (
    select(payment).where(*_PASSES).order_by(payment.c.presented_at.desc()).limit(_MOST_RIGHTS)
)
_ENDS = union_all(
    select(payment.c.ends_at).where(*_PASSES),
    select(credit.c.ends_at).where(
        credit.c.token_id == bindparam("token_id", type_=Key),
        credit.c.ends_at > bindparam("now", type_=Moment()),
    ),
).subquery()
_ACCOUNT_END = select(func.max(_ENDS.c.ends_at))
_RECORDED = select(exists().where(payment.c.payment_hash == _HASH))
_ADD_CREDENTIAL = insertion(
    credential, "token_id service first_presented_at", "ON CONFLICT (token_id) DO NOTHING"
)
_ADD_PAYMENT = insertion(
    payment,
    " ".join(payment.c.keys()),
    "ON CONFLICT (payment_hash) DO NOTHING RETURNING payment_hash",
)


class Payments:
    """The book of payments; the gate asks it once per process and token."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def admit(self, sale: Sale, now: datetime, settled_at: datetime | None = None) -> Standing:
        """Book a sale at its first presentation, and say how it stands.

        A sale that is booked already costs one read and no write. `settled_at` is when the node
        confirmed the payment, where it was asked. What ended before the last purge is late, and
        not booked.

        If a commit's outcome is lost with its connection, a second look finds the sale booked and
        `first` is False: over all processes it is True at most once.

        :raises StoreError: if it could not be read or booked; grant nothing then
        """
        row = _row(sale)
        moments = {"presented_at": now, "first_presented_at": now, "settled_at": settled_at}

        def look_or_book() -> Standing:
            return self._booked(row) or self._book(row | moments)

        return self.db.run(look_or_book)

    def recorded(self, payment_hash: bytes) -> bool:
        """Tell whether this payment is booked, so that its node need not be asked again.

        :raises StoreError: if it could not be read
        """
        ((found,),) = self.db.fetch(_RECORDED, {"payment_hash": payment_hash.hex()})
        return bool(found)

    def rights(self, token_id: bytes, now: datetime) -> list[Sale]:
        """Give the passes of an account that are live at `now` and not revoked, the newest first.

        A hundred at most, whatever their `valid_until`: each key opens all that its account holds.

        :raises StoreError: if they could not be read
        """
        rows = self.db.fetch(_RIGHTS, {"token_id": token_id.hex(), "now": now})
        return [_sale(row) for row in rows]

    def account_end(self, token_id: bytes, now: datetime) -> int | None:
        """Give the latest end, in unix seconds, of what an account holds; None if nothing is live.

        :raises StoreError: if it could not be read
        """
        ((end,),) = self.db.fetch(_ACCOUNT_END, {"token_id": token_id.hex(), "now": now})
        return None if end is None else int(end.timestamp())

    def revoked(self, sale: Sale) -> bool:
        """Tell whether a sale is revoked, be it booked or not; writes nothing.

        :raises StoreError: if it could not be read
        """
        return self.db.run(lambda: self._look_up(_row(sale))[1].revoked)

    def _booked(self, row: dict[str, Any]) -> Standing | None:
        """Say how a sale stands that is booked."""
        with self.db.read() as connection:
            found = connection.execute(_BOOKED, row).first()
        return _standing(found, row) if found else None

    def _look_up(self, row: dict[str, Any]) -> tuple[bool, Standing]:
        """Say whether a sale is not to be booked any more, and how it stands."""
        with self.db.read() as connection:
            return _stands(connection, row)

    def _book(self, row: dict[str, Any]) -> Standing:
        with self.db.write() as connection:
            if row["kind"] == CREDIT and connection.execute(books.ID).scalar() != row["ledger"]:
                return Standing(first=False, revoked=False, late=False, foreign=True)
            connection.execute(_ADD_CREDENTIAL, row)
            # Since it was looked up it may have been booked elsewhere, and even purged.
            booked, standing = _stands(connection, row)
            if booked:
                connection.rollback()
                return standing
            status = _status(row, standing.revoked)
            made = connection.execute(_ADD_PAYMENT, row | {"status": status}).first()
            if made is None:
                connection.rollback()
            elif row["kind"] == CREDIT and status == GRANTED:
                balances.purchase(connection, row)
        if made is None:  # another thread or process was faster
            return self._look_up(row)[1]
        return Standing(status == GRANTED, status == REVOKED, status == LATE)


def _stands(connection: Connection, row: dict[str, Any]) -> tuple[bool, Standing]:
    found = connection.execute(_LOOK_UP, row).one()
    if found.status is not None:
        return True, _standing(found, row)
    # It may have been booked and purged: whatever our clock shows, it must not count again.
    closed = found.closed_until is not None and row["valid_until"] <= found.closed_until
    return closed, Standing(first=False, revoked=bool(found.revoked), late=closed)


def _standing(found: Row[Any], row: dict[str, Any]) -> Standing:
    elsewhere = found.token_id != row["token_id"]
    revoked = bool(found.revoked) or elsewhere or found.status == REVOKED
    return Standing(first=False, revoked=revoked, late=found.status == LATE)


def _row(sale: Sale) -> dict[str, Any]:
    return {
        "payment_hash": sale.payment_hash.hex(),
        "token_id": sale.token_id.hex(),
        "service": sale.service,
        "kind": sale.kind,
        "msat": sale.msat,
        "network": sale.network,
        "endpoint": sale.endpoint,
        "method": sale.method,
        "issued_at": datetime.fromtimestamp(sale.issued_at, UTC),
        "starts_at": datetime.fromtimestamp(sale.starts_at, UTC),
        "ends_at": datetime.fromtimestamp(sale.ends_at, UTC),
        "valid_until": datetime.fromtimestamp(sale.valid_until, UTC),
        "ledger": sale.ledger,
        "price_msat": sale.price,
        "rate": sale.rate,
    }


def _sale(row: Row[Any]) -> Sale:
    return Sale(
        payment_hash=bytes.fromhex(row.payment_hash),
        token_id=bytes.fromhex(row.token_id),
        service=row.service,
        kind=row.kind,
        msat=row.msat,
        network=row.network,
        endpoint=row.endpoint,
        method=row.method,
        issued_at=int(row.issued_at.timestamp()),
        starts_at=int(row.starts_at.timestamp()),
        ends_at=int(row.ends_at.timestamp()),
        valid_until=int(row.valid_until.timestamp()),
        price=row.price_msat,
        rate=row.rate,
    )


def _status(row: dict[str, Any], revoked: bool) -> str:
    if revoked:
        return REVOKED
    return LATE if row["presented_at"] >= row["valid_until"] else GRANTED

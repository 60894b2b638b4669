"""Prices set at run time: they go before the configuration's and the code's, in every process."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, delete, select

from l402.store.clock import DatabaseNow
from l402.store.engine import Database
from l402.store.tables import Key, insertion, price


class Price(NamedTuple):
    """What a request of an endpoint costs, in msat; the fields are those of `models.Price`."""

    service: str
    endpoint: str
    method: str
    msat: int
    set_at: datetime
    why: str | None


_ALL = select(price).order_by(price.c.service, price.c.endpoint, price.c.method)
_NOW = select(DatabaseNow())
_SET = insertion(
    price,
    "service endpoint method msat set_at why",
    "ON CONFLICT (service, endpoint, method) DO UPDATE"
    " SET msat = excluded.msat, set_at = excluded.set_at, why = excluded.why",
)
_UNSET = (
    delete(price)
    .where(
        price.c.service == bindparam("of", type_=Key),
        price.c.endpoint == bindparam("at"),
        price.c.method == bindparam("by", type_=Key),
    )
    .returning(price.c.endpoint)
)


class Prices:
    """The table of prices; each process reads it along with the revocations."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def set(
        self, service: str, endpoint: str, method: str, msat: int, why: str | None = None
    ) -> None:
        """Set what a request costs, in msat; 0 serves it for free.

        It is on the disk when this returns, and in force in every process within a second.

        :raises ValueError: if it is no int of at least 0
        :raises StoreError: if it could not be written
        """
        if type(msat) is not int or msat < 0:
            raise ValueError(f"{msat!r} is no price; write an int of msat >= 0")
        row = {"service": service, "endpoint": endpoint, "method": method, "msat": msat, "why": why}

        def write() -> None:
            with self.db.write(durable=True) as connection:
                now = connection.execute(_NOW).scalar_one()
                connection.execute(_SET, row | {"set_at": now})

        self.db.run(write)

    def unset(self, service: str, endpoint: str, method: str) -> bool:
        """Have the configuration's or the code's price in force again; False if it was already.

        :raises StoreError: if it could not be written
        """
        named = {"of": service, "at": endpoint, "by": method}

        def write() -> bool:
            with self.db.write(durable=True) as connection:
                return connection.execute(_UNSET, named).first() is not None

        return self.db.run(write)

    def all(self) -> list[Price]:
        """Give every price that is set, by service, endpoint and method.

        :raises StoreError: if they could not be read
        """
        return [Price(**row._mapping) for row in self.db.fetch(_ALL)]

"""What would be wrong, each once: builds that a test of kill -9 must find fault with.

They agree with themselves as long as no process dies, or none races another.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from l402 import sync
from l402.store import balances, leases, ledger, payments, replies, steps, uses
from l402.store.ledger import Account
from l402.store.payments import CREDIT, GRANTED, Payments, Standing
from l402.store.tables import credit, use
from l402.store.uses import Uses
from support.killed_app import OUTSIDE


@dataclass(frozen=True)
class Sabotage:
    """A way to break the build, the points at which a kill shows it, and a part of the verdict.

    What shows by chance alone gets more kills.
    """

    apply: Callable[[], None]
    points: tuple[str, ...]
    shows: str
    kills: int = 10


def _answers_before_it_takes() -> None:
    """The last use is taken along with the next one: one commit less, and one answer too early."""
    take = Uses.take
    waiting: list[tuple[bytes, Any, int | None]] = []

    def put_off(self: Uses, use_id: bytes, answer: Any = None, msat: int | None = None) -> int:
        waiting.append((use_id, answer, msat))
        return take(self, *waiting.pop(0)) if len(waiting) > 1 else 0

    Uses.take = put_off


def _books_the_payment_then_the_credit() -> None:
    def book(self: Payments, row: dict[str, Any]) -> Standing:
        made = _write_payment(self, row)
        if made and row["kind"] == CREDIT:
            with self.db.write() as connection:
                balances.purchase(connection, row)
        return Standing(made, False, False)

    Payments._book = book


def _books_the_credit_then_the_payment() -> None:
    def book(self: Payments, row: dict[str, Any]) -> Standing:
        if row["kind"] == CREDIT:
            with self.db.write() as connection:
                connection.execute(payments._ADD_CREDENTIAL, row)
                balances.purchase(connection, row | {"payment_hash": secrets.token_hex(32)})
        return Standing(_write_payment(self, row), False, False)

    Payments._book = book


def _write_payment(self: Payments, row: dict[str, Any]) -> bool:
    with self.db.write() as connection:
        connection.execute(payments._ADD_CREDENTIAL, row)
        made = connection.execute(payments._ADD_PAYMENT, row | {"status": GRANTED}).first()
    return made is not None


def _gives_back_then_resolves() -> None:
    def give_back(self: Uses, key: str, *, lapsed: bool = False) -> int | None:
        with self.db.write() as connection:
            found = connection.execute(select(use).where(use.c.use_id == key)).first()
            if found is None:
                return None
            account = Account(found.token_id, found.service)
            balance, owned = balances.move(connection, account, free=found.msat, held=-found.msat)
            name = f"use:{secrets.token_hex(16)}"
            ledger.append(connection, "release", name, account, msat=found.msat, after=owned)
        with self.db.write() as connection:
            connection.execute(leases.RESOLVE, {"own": key})
            replies.forget(connection, key)
        return balance

    Uses._give_back = give_back


def _debits_what_it_read_before() -> None:
    reserve, known = Uses._reserve, credit.c.balance

    def read_first(self: Uses, order: uses.Order, *rest: Any) -> Any:
        account = (credit.c.token_id == order.token_id.hex(), credit.c.service == order.service)
        rows = self.db.fetch(select(known, credit.c.ends_at).where(*account))
        here.found = rows[0] if rows else None
        return reserve(self, order, *rest)

    def overwrite(connection: Any, asked: Any, *_: Any) -> Any:
        found, msat = here.found, asked["msat"]
        if found is None or found.balance < msat or found.ends_at <= asked["now"]:
            return None
        named = (credit.c.token_id == asked["token"], credit.c.service == asked["of"])
        values = {"balance": found.balance - msat, "reserved": credit.c.reserved + msat}
        changed = credit.update().where(*named).values(**values)
        steps._MAKE.run(connection, asked)
        return connection.execute(changed.returning(credit.c.balance, credit.c.ends_at)).first()

    here: Any = threading.local()
    Uses._reserve, steps.RESERVE.run = read_first, overwrite


def _sweeps_up_the_living() -> None:
    everything = select(use.c.use_id).order_by(use.c.reserved_at).limit(100)
    of_one = everything.where(use.c.token_id == leases.bindparam("token"))
    sync._INTERVAL, sync._CHORES_EVERY = 0.01, 0.0
    leases.LAPSED, leases.LAPSED_OF, steps.GIVE_BACK_LAPSED = everything, of_one, steps.GIVE_BACK
    take = Uses.take

    def dawdle(self: Uses, use_id: bytes, answer: Any = None, msat: int | None = None) -> int:
        time.sleep(0.03)  # as long as a real view takes, or nobody would see it swept up
        return take(self, use_id, answer, msat)

    Uses.take = dawdle


def _keeps_the_answer_after_the_charge() -> None:
    take = Uses.take

    def take_then_keep(
        self: Uses, use_id: bytes, answer: Any = None, msat: int | None = None
    ) -> int:
        taken = take(self, use_id, msat=msat)
        if answer is not None:
            with self.db.write() as connection:
                replies.finish(connection, use_id.hex(), answer)
        return taken

    Uses.take = take_then_keep


def _charges_a_repeat_again() -> None:
    claim = replies.claim

    def forget_the_unfinished(connection: Any, call: Any, *rest: Any) -> Any:
        known = claim(connection, call, *rest)
        return known if isinstance(known, replies.Reply) else None

    replies.claim = forget_the_unfinished


SABOTAGES = {
    "answers before it takes": Sabotage(
        _answers_before_it_takes, ("reserve-committed", "view"), "/call answered 200, charged 0"
    ),
    "books the payment, then the credit": Sabotage(
        _books_the_payment_then_the_credit, ("purchase-committed",), "audit: purchase of payment"
    ),
    "books the credit, then the payment": Sabotage(
        _books_the_credit_then_the_payment, ("purchase-committed",), "audit: payment of credit"
    ),
    "gives back, then resolves": Sabotage(
        _gives_back_then_resolves, ("release-committed",), "reserved"
    ),
    "debits what it read before": Sabotage(
        _debits_what_it_read_before, (OUTSIDE,), "audit: balance and reserved", 40
    ),
    "sweeps up the living": Sabotage(
        _sweeps_up_the_living, (OUTSIDE,), "was given back while its process lived", 20
    ),
    "keeps the answer after the charge": Sabotage(
        _keeps_the_answer_after_the_charge, ("take-committed",), "a key got 0 answers", 20
    ),
    "charges a repeat again": Sabotage(
        _charges_a_repeat_again, ("view", OUTSIDE), "kept is None", 48
    ),
}

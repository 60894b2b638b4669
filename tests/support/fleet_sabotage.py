"""What would be wrong over many processes, each once: builds that a test must find fault with."""

from collections.abc import Callable
from typing import Any

from l402 import extension
from l402.storages import private_limiter
from l402.store import payments
from l402.store.engine import Database
from l402.store.payments import Payments, Standing
from l402.store.tables import credential, insertion, payment
from l402.sync import Sync
from support.killed_sabotage import SABOTAGES as KILLED


def _each_limits_for_itself() -> None:
    extension.private_limiter = lambda config, uri: private_limiter({}, None)


def _is_first_whoever_was() -> None:
    book = Payments._book

    def first_by_what_it_saw(self: Payments, row: dict[str, Any]) -> Standing:
        booked = book(self, row)
        revoked = booked.revoked or booked.late
        return booked if revoked else Standing(first=True, revoked=False, late=False)

    Payments._book = first_by_what_it_saw


def _inserts_without_a_conflict() -> None:
    names, columns = "token_id service first_presented_at", " ".join(payment.c.keys())
    payments._ADD_CREDENTIAL = insertion(credential, names, "")
    payments._ADD_PAYMENT = insertion(payment, columns, "RETURNING payment_hash")


def _never_reads_again() -> None:
    read = Sync._read

    def read_once(self: Sync) -> None:
        if self.unread:
            read(self)
        self._read_at = self._monotonic()

    Sync._read = read_once


def _never_runs_again() -> None:
    Database.run = lambda self, operation, *, changes=True: operation()


SABOTAGES: dict[str, Callable[[], None]] = {
    "each limits for itself": _each_limits_for_itself,
    "is first whoever was": _is_first_whoever_was,
    "inserts without a conflict": _inserts_without_a_conflict,
    "never reads again": _never_reads_again,
    "never runs again": _never_runs_again,
    "debits what it read before": KILLED["debits what it read before"].apply,
    "charges a repeat again": KILLED["charges a repeat again"].apply,
}

"""What a purge must leave as it is, and processes that purge."""

import os
import signal
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import event, text

from l402.store import Store, removal
from l402.store.audit import Audit
from l402.store.comparison import Comparison
from l402.store.credits import Credits
from l402.store.purge import Purge
from support.books import use
from support.sales import sale

#: When what is purged was sold, and long after its end: both before today, or nothing expires.
START, HOUR = 1_500_000_000, 3600
LATER = datetime.fromtimestamp(START, UTC) + timedelta(days=400)
#: By day, service, endpoint and kind: what entries and payments come to, purged ones included.
_BOOKS = """
SELECT day, book, kind, service, endpoint, sum(number) AS number, sum(msat) AS msat FROM (
    SELECT {at} AS day, 'entry' AS book, kind, service, coalesce(endpoint, '') AS endpoint,
        1 AS number, msat FROM l402_entry
    UNION ALL
    SELECT {presented}, 'payment', kind || ' ' || status, service, endpoint, 1, msat
        FROM l402_payment
    UNION ALL
    SELECT {day}, book, kind, service, endpoint, number, msat FROM l402_closing
        WHERE book IN ('entry', 'payment')
) AS lines GROUP BY day, book, kind, service, endpoint ORDER BY day, book, kind, service, endpoint
"""


def figures(store: Store) -> dict[str, Any]:
    """All that the books say in sums; nothing may be wrong in them."""
    found: list[object] = []
    totals = Audit(store.db).run(found.append, lambda _: None)
    assert found == []
    days = date(2000, 1, 1), date(2100, 1, 1)
    ignore: list[object] = []
    postgres = store.db.url.get_backend_name() == "postgresql"
    as_day = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD')" if postgres else "date({})"
    query = _BOOKS.format(
        at=as_day.format("at"),
        presented=as_day.format("presented_at"),
        day="to_char(day, 'YYYY-MM-DD')" if postgres else "day",
    )
    return {
        "audit": totals,
        "stats": store.days.stats(*days),
        "stats by endpoint": store.days.stats(*days, by_endpoint=True),
        "reconcile": Comparison(store.db, "regtest").run(ignore.append, ignore.append),
        "books": [tuple(map(str, row)) for row in store.db.fetch(text(query))],
    }


def purge(store: Store, before: datetime) -> removal.Purged:
    """Purge what ended before a moment; nothing may be unfit."""
    work = Purge(store.db, before)
    done = work.run(lambda _: None)
    assert work.unfit == {}
    return done


def expire_all(store: Store) -> None:
    """Book what is left of all that has ended, as a process does that begins."""
    while Credits(store.db).expire():
        pass


def left(store: Store) -> dict[str, int]:
    """How many rows each table has."""
    names = ["credential", "payment", "credit", "entry", "reply", "settlement", "purge"]
    return {
        name: int(store.db.fetch(text(f"SELECT count(*) FROM l402_{name}"))[0][0]) for name in names
    }


def purge_and_die(url: str, before: float, commits: int) -> None:
    """Purge in a process of its own, which is killed in the middle of its last transaction."""
    with closing(Store(url)) as store:
        seen = 0

        def count(*_: object) -> None:
            nonlocal seen
            seen += 1
            if seen > commits:
                os.kill(os.getpid(), signal.SIGKILL)

        store.ping()
        event.listen(store.db._engines._writer, "commit", count)  # type: ignore[attr-defined]
        purge(store, datetime.fromtimestamp(before, UTC))


def purge_all(url: str, before: float) -> int:
    """Purge in a process of its own; give how many tokens went."""
    with closing(Store(url)) as store:
        return purge(store, datetime.fromtimestamp(before, UTC)).tokens


def purge_again_and_again(url: str, over: Any) -> int:
    """Purge what ended by now until `over` is set; give how many tokens went."""
    tokens = 0
    with closing(Store(url)) as store:
        while not over.is_set():
            tokens += purge(store, datetime.now(UTC)).tokens
    return tokens


def ended(number: int, at: int, **changes: Any) -> Any:
    """A pass that was sold at a moment, in unix seconds, for an hour."""
    return sale(
        number,
        **{"issued_at": at, "starts_at": at, "ends_at": at + 3600, "valid_until": at + 3600}
        | changes,
    )


def at(hours: float) -> datetime:
    """So many hours after the beginning."""
    return datetime.fromtimestamp(START + hours * HOUR, UTC)


def credit(store: Store, number: int, hours: int = 0, **changes: Any) -> None:
    """Sell credit of 10 sat for an hour, and present it at once."""
    bought = ended(number, START + hours * HOUR, kind="credit", ledger=store.ledger.id(), **changes)
    assert store.payments.admit(bought, at(hours)).first


def use_long_ago(store: Store, number: int, **how: Any) -> None:
    """Charge a call to it then."""
    use(store, number, now=at(0), **how)

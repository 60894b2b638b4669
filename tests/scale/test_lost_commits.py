"""Connections that are lost where a transaction ends: whatever was done stands once.

``CUTS`` says how many are cut, ``KILLS_SEED`` what chooses where.
"""

import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import text
from support.books import buy, reserve
from support.cutters import PLACES, Cutter
from support.postgres import PostgresServer
from support.sales import NOW, credit, order, sale, token_id

from l402.errors import StoreError
from l402.store import Store, migrate
from l402.store.audit import Audit
from l402.store.meters import Extended
from l402.store.orders import Reserved
from l402.store.replies import Answer, Call, Reply

pytest_plugins = ["support.databases"]
pytestmark = pytest.mark.scale

_CUTS = int(os.environ.get("CUTS", "200"))
_SEED = int(os.environ.get("KILLS_SEED", "1"))
_OTHER = 10_000_000  # numbers of second payments begin here
_DAY = date(2030, 1, 1)

#: What was done, by the kinds of an account's entries.
Done = list[str]


class Deeds:
    """Everything that writes, each done on an account of its own with its connection cut.

    `store` is behind the cutter, `sure` is not. Each deed gives the entries that there must be; if
    nobody could be told at all what came of it, it is resolved as the product does.
    """

    def __init__(self, store: Store, sure: Store, cutter: Cutter, seed: int) -> None:
        self.store, self.sure, self._cutter = store, sure, cutter
        self._chance = random.Random(seed)

    def cut(self, act: Callable[[], object]) -> bool:
        """Do something whose connection is cut, once or twice; tell whether it said it was done."""
        places = self._chance.choices(PLACES, k=self._chance.choice([1, 1, 2]))
        away = self._chance.random() < 0.3
        self._cutter.arm(places[:1] if away else places, stays_away=away)
        told = False
        with suppress(StoreError):
            act()
            told = True
        assert self._cutter.mend() < len(places), "nothing was cut"
        return told

    def until_told(self, act: Callable[[], object]) -> None:
        """Do something until it says it is done, the first time with its connection cut."""
        if not self.cut(act):
            act()

    def _resolve(self) -> None:
        """As the process itself does now and then."""
        self.store.uses.renew()

    def purchase(self, number: int) -> Done:
        sold = credit(self.sure, number)
        self.until_told(lambda: self.store.payments.admit(sold, NOW))
        return ["purchase"]

    def top_up(self, number: int) -> Done:
        buy(self.sure, number)
        sold = credit(self.sure, number + _OTHER, token_id=token_id(number))
        self.until_told(lambda: self.store.payments.admit(sold, NOW))
        return ["purchase", "purchase"]

    def first_pass(self, number: int) -> Done:
        firsts = []
        self.until_told(lambda: firsts.append(self.store.payments.admit(sale(number), NOW).first))
        assert sum(firsts) <= 1
        assert self.sure.payments.recorded(sale(number).payment_hash)
        return []

    def reservation(self, number: int) -> Done:
        buy(self.sure, number)
        asked = order(number)
        if self.cut(lambda: self.store.uses.reserve(asked, NOW)):
            self.store.uses.take(asked.use_id)
            return ["purchase", "use"]
        self._resolve()
        return ["purchase", "release?"]

    def taking(self, number: int) -> Done:
        buy(self.sure, number)
        use_id = reserve(self.store, number)
        if self.cut(lambda: self.store.uses.take(use_id)):
            return ["purchase", "use"]
        self._resolve()
        return ["purchase", "use|release"]

    def keyed_call(self, number: int) -> Done:
        buy(self.sure, number)
        call, answer = Call(secrets.token_bytes(32), b"f" * 32), Answer(200, "[]", b"fine")

        def once() -> None:
            asked = order(number)
            found = self.store.uses.reserve(asked, NOW, call)
            if isinstance(found, Reserved):
                self.store.uses.take(asked.use_id, answer)
            else:
                assert isinstance(found, Reply)

        if not self.cut(once):
            self._resolve()
            once()
        once()  # and is given the same answer
        return ["purchase", "release?", "use"]

    def answer(self, number: int) -> Done:
        buy(self.sure, number)
        call, answer = Call(secrets.token_bytes(32), b"f" * 32), Answer(200, "[]", b"fine")
        use_id = reserve(self.store, number, call=call)
        if self.cut(lambda: self.store.uses.take(use_id, answer)):
            known = self.sure.replies.known(call, token_id(number).hex(), "quotes", NOW)
            assert isinstance(known, Reply)
            return ["purchase", "use"]
        self._resolve()
        return ["purchase", "use|release"]

    def giving_back(self, number: int) -> Done:
        buy(self.sure, number)
        use_id = reserve(self.store, number)
        if not self.cut(lambda: self.store.uses.release(use_id)):
            self._resolve()
        return ["purchase", "release"]

    def extension(self, number: int) -> Done:
        buy(self.sure, number)
        asked = order(number)
        assert isinstance(self.store.uses.reserve(asked, NOW), Reserved)
        held = []
        self.cut(lambda: held.append(self.store.uses.extend(asked, 2_000, 1_000, 1_000, NOW)))
        assert held in ([], [Extended(3_000, 7_000)])
        self.store.uses.take(asked.use_id)
        return ["purchase", "use"]

    def charging(self, number: int) -> Done:
        buy(self.sure, number)
        use_id = reserve(self.store, number)
        self.until_told(lambda: self.store.uses.charge(use_id, 500))
        assert self.store.uses.release(use_id) == 9_500
        return ["purchase", "use"]

    def recovery(self, number: int) -> Done:
        buy(self.sure, number)
        reserve(self.sure, number)
        with self.sure.db.write() as connection:
            connection.execute(text("DELETE FROM l402_lease"))
        self.until_told(self.store.uses.recover)
        return ["purchase", "release"]

    def gift(self, number: int) -> Done:
        buy(self.sure, number)

        def give() -> None:
            account, name = token_id(number).hex(), self.name(number)
            self.store.credits.adjust(account, "quotes", 1, why="-", operation=name, now=NOW)

        self.until_told(give)
        return ["purchase", "credit"]

    def name(self, number: int) -> str:
        """Name what is done by hand, whenever it is repeated."""
        return f"gift-{number}"

    def expiry(self, number: int) -> Done:
        bought, ended = (int(time.time()) - ago for ago in (20, 10))
        buy(self.sure, number, ends_at=ended, now=datetime.fromtimestamp(bought, UTC))
        self.until_told(self.store.credits.expire)
        return ["purchase", "expiry"]

    def revocation(self, number: int) -> Done:
        subject = token_id(number).hex()
        self.until_told(lambda: self.store.revocations.revoke("token", subject))
        assert self.sure.payments.revoked(sale(number))
        return []

    def price(self, number: int) -> Done:
        self.until_told(lambda: self.store.prices.set("quotes", f"p{number}", "GET", number))
        ((found),) = [each for each in self.sure.prices.all() if each.endpoint == f"p{number}"]
        assert found.msat == number
        self.until_told(lambda: self.store.prices.unset("quotes", f"p{number}", "GET"))
        assert self.sure.prices.all() == []
        return []

    def challenges(self, number: int) -> Done:
        counted = {(_DAY, "quotes", f"e{number}"): 1}
        cuts = self._cutter.cuts.total()
        self.until_told(lambda: self.store.counts.count_challenges(counted))
        ((found),) = [
            each
            for each in self.sure.days.stats(_DAY, _DAY, by_endpoint=True)
            if each.endpoint == f"e{number}"
        ]
        assert 1 <= found.challenges <= 1 + self._cutter.cuts.total() - cuts  # a statistic
        return []

    def uses(self, number: int) -> Done:
        self.sure.payments.admit(sale(number), NOW)
        cuts = self._cutter.cuts.total()
        self.until_told(lambda: self.store.counts.count_uses({token_id(number): (1, NOW)}))
        state = self.sure.credentials.state(token_id(number))
        assert state is not None
        assert 1 <= state.uses <= 1 + self._cutter.cuts.total() - cuts
        return []


DEEDS: tuple[Callable[[Deeds, int], Done], ...] = (
    Deeds.purchase, Deeds.top_up, Deeds.first_pass, Deeds.reservation, Deeds.taking,
    Deeds.keyed_call, Deeds.answer, Deeds.giving_back, Deeds.extension, Deeds.charging,
    Deeds.recovery, Deeds.gift, Deeds.expiry, Deeds.revocation, Deeds.price, Deeds.challenges,
    Deeds.uses,
)  # fmt: skip


@pytest.fixture
def cutter(postgres_server: PostgresServer) -> Iterator[Cutter]:
    with Cutter(postgres_server.port) as made:
        yield made


@pytest.fixture
def deeds(postgres_server: PostgresServer, postgres_url: str, cutter: Cutter) -> Iterator[Deeds]:
    migrate.upgrade(postgres_url)
    through = postgres_url.replace(f":{postgres_server.port}/", f":{cutter.port}/")
    through += "?sslmode=disable&gssencmode=disable"
    with closing(Store(through)) as store, closing(Store(postgres_url)) as sure:
        yield Deeds(store, sure, cutter, _SEED)


def wrong(deeds: Deeds, number: int, expected: Done) -> Iterator[str]:
    """Name what an account's entries have too many of, or too few."""
    found = [each.kind for each in deeds.sure.ledger.entries(token_id=token_id(number).hex())]
    allowed = [found[:1]] if expected else [[]]
    for each in expected[1:]:
        kinds = ["", each[:-1]] if each.endswith("?") else each.split("|")
        allowed = [[*known, *filter(None, [kind])] for known in allowed for kind in kinds]
    if found not in allowed or found[:1] != expected[:1]:
        yield f"account {number} has {found} instead of {expected}"


def do(deeds: Deeds, cutter: Cutter, cuts: int, *kinds: Callable[[Deeds, int], Done]) -> list[str]:
    """Do deeds, in turn, until so many connections were cut; give all that is wrong."""
    found, done, number = list[str](), Counter[str](), 0
    while cutter.cuts.total() < cuts:
        number += 1
        deed = kinds[number % len(kinds)]
        done[deed.__name__] += 1
        found += [f"{deed.__name__}: {each}" for each in wrong(deeds, number, deed(deeds, number))]
    ((in_flight,),) = deeds.sure.db.fetch(text("SELECT count(*) FROM l402_use"))
    found += [f"{in_flight} uses are in flight"] if in_flight else []
    Audit(deeds.sure.db).run(lambda each: found.append(f"audit: {each}"), lambda _: None)
    print(dict(cutter.cuts), dict(done))
    return found


def test_lost_commits_count_once(deeds: Deeds, cutter: Cutter) -> None:
    """Whatever writes, and wherever its commit is cut, is done once in the end, and audited."""
    assert do(deeds, cutter, _CUTS, *DEEDS) == []
    assert set(cutter.cuts) == set(PLACES)


def test_another_name_counts_again(deeds: Deeds, cutter: Cutter) -> None:
    """Who repeats what he was not told of under another name does it twice: that is found out."""
    deeds.name = lambda number: secrets.token_hex(8)  # type: ignore[method-assign]
    found = do(deeds, cutter, 40, Deeds.gift)
    assert any("['purchase', 'credit', 'credit']" in each for each in found)

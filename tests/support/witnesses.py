"""Who is there while a record fails: one who holds a pass, one who asks, and a clerk by hand."""

import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from l402.errors import StoreError
from l402.protocol import authorization, token
from l402.store import Store
from support.killed_app import FAILED
from support.killing import PAUSE, WITHIN, WORKERS, Answer, Customer, Household, Load

_SERVICE = "killed"
_GIFT = 1_000  # msat


class Witness(Customer):
    """A customer whom the test itself sends, and who buys whatever is refused him."""

    def __init__(self, load: Load, name: str = "witness") -> None:
        super().__init__(load, name, Household(), 0)

    def insist(self, path: str) -> Answer:
        """Ask, and pay what is asked for, until it is served."""
        end = time.monotonic() + WITHIN
        while time.monotonic() < end:
            answer = self.ask(path, self._household.credential)
            if answer and answer.status in (200, FAILED):
                return answer
            if answer and answer.status == 402:
                self._buy(answer)
            time.sleep(PAUSE)
        raise TimeoutError(f"{path} was not served within {WITHIN} s")

    def everywhere(self, path: str) -> float:
        """Be served by both workers; give when the last one of them did, by the monotonic clock."""
        served = set[int | None]()
        while len(served) < WORKERS:
            served.add(self.insist(path).process)
        return time.monotonic()

    def once(self, path: str) -> Answer:
        """Ask once, with what he has."""
        answer = self.ask(path, self._household.credential)
        assert answer is not None
        return answer


class Holder(Witness):
    """One whose pass both workers know, and who comes all the time; `seen` is what he was told."""

    def __init__(self, load: Load, name: str = "holder") -> None:
        super().__init__(load, name)
        self.seen: list[tuple[float, Answer]] = []  # with the moment that he asked at
        self.everywhere("/pass")

    def come(self) -> None:
        """Show the pass."""
        begun = time.monotonic()
        self.seen.append((begun, self.once("/pass")))

    def since(self, moment: float) -> list[Answer]:
        """Give what he was told when he asked after a moment."""
        return [answer for begun, answer in list(self.seen) if begun > moment]

    def _come(self) -> None:
        self.come()


class Clerk(Witness):
    """One who gives credit by hand and revokes payments, each under a name that he writes down."""

    def __init__(self, load: Load, store: Store) -> None:
        super().__init__(load, "clerk")
        self._store = store

    def _come(self) -> None:
        answer = self.once("/fail")
        if answer.status == 402:
            self._buy(answer)
        if answer.status == FAILED:
            self._give()
        self._revoke()

    def _give(self) -> None:
        assert self._household.credential
        shown = authorization.parse(self._household.credential)[0]
        account = token.verify(self._fleet.keys, shown).token_id.hex()
        name, now = secrets.token_hex(8), datetime.now(UTC)
        with self._acknowledged(f"hand:{name}"):
            self._store.credits.adjust(account, _SERVICE, _GIFT, why="-", operation=name, now=now)

    def _revoke(self) -> None:
        payment = secrets.token_hex(32)
        with self._acknowledged(f"payment:{payment}"):
            self._store.revocations.revoke("payment", payment)

    @contextmanager
    def _acknowledged(self, name: str) -> Iterator[None]:
        self._log.note(asked=name)
        try:
            yield
        except StoreError:
            return
        self._log.keep(done=name)


@contextmanager
def present(load: Load, database: str) -> Iterator[tuple[Witness, Holder]]:
    """Have the customers of a load come, with a holder and a clerk, for the length of a block."""
    with closing(Store(database)) as store:
        witness, holder, clerk = Witness(load), Holder(load), Clerk(load, store)
        with load.running(holder, clerk):
            yield witness, holder

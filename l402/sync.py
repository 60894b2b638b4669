"""One thread per process and app: it fetches what was revoked, and what prices were set, and
writes down what was counted.

It begins at first use, after any fork, and ends when there is nothing to do, so that an idle
process costs the database nothing. Such a process reads before it answers: nothing rests on
revocations or prices older than `MAX_AGE` while the store answers.
"""

import atexit
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from threading import Event, Lock, Thread
from typing import TypeVar

from l402.errors import StoreError, StoreUnavailable
from l402.forks import in_child, weakly
from l402.store import Store
from l402.store.prices import Price
from l402.store.revocations import Revoked

_log = logging.getLogger("l402.sync")

MAX_AGE = 1.0  # seconds
_INTERVAL = 0.4
_IDLE_TICKS = 25
_CHORES_EVERY = 5.0

_T = TypeVar("_T")


class Sync:
    """Keeps one process's memory and the store together."""

    def __init__(
        self,
        store: Store,
        evict: Callable[[Sequence[Revoked]], None],
        reprice: Callable[[Sequence[Price]], None],
        grace: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._evict, self._reprice, self._grace = store, evict, reprice, grace
        self._monotonic = monotonic
        self._begin()
        in_child(self._begin)
        atexit.register(weakly(self.close))

    def _begin(self) -> None:
        """Start afresh, also in a forked child: the parent's thread and counts are the parent's."""
        self._lock, self._flushing, self._stop = Lock(), Lock(), Event()
        self._thread: Thread | None = None
        self._read_at = float("-inf")
        self._seen: datetime | None = None
        self._down: StoreError | None = None
        self._waiting: set[str] = set()
        self._active = False
        self._uses: deque[tuple[bytes, float]] = deque()
        self._challenges: deque[tuple[float, str, str]] = deque()
        self._chores_at = float("-inf")
        self._use_counts: dict[bytes, tuple[int, float]] = {}
        self._challenge_counts: Counter[tuple[date, str, str]] = Counter()

    @property
    def unread(self) -> bool:
        """Whether this process has not learnt yet what was revoked and priced."""
        return self._read_at == float("-inf")

    def refresh(self) -> float:
        """Read, if that is due and the store answers; return how old, in seconds, the news was."""
        self._active = True
        age = self._monotonic() - self._read_at
        if age > MAX_AGE:
            if not self._down:
                with self._lock:
                    if self._monotonic() - self._read_at > MAX_AGE and not self._down:
                        self._read()
            self._start()
        return age

    def require_fresh(self, *, grace: bool = False) -> None:
        """Return once this process knows what was revoked and priced up to `MAX_AGE` ago.

        With `grace`, a store that is known to be down is forgiven for a while.

        :raises StoreError: the store does not answer
        """
        age = self.refresh()
        if age <= MAX_AGE:
            return
        if (down := self._down) and not (grace and age <= self._grace):
            # A new one each time: one that is raised again and again keeps every traceback.
            raise StoreUnavailable(str(down))

    def count_use(self, token_id: bytes, now: float) -> None:
        """Note a use, to be written later; appending to a deque needs no lock."""
        self._uses.append((token_id, now))

    def count_challenge(self, service: str, endpoint: str, now: float) -> None:
        """Note a challenge, to be written later."""
        self._challenges.append((now, service, endpoint))

    def flush(self) -> None:
        """Write what was counted; what could not be written waits for the next time.

        :raises StoreError: the store does not answer
        """
        with self._flushing:
            for now, service, endpoint in _drain(self._challenges):
                self._challenge_counts[
                    datetime.fromtimestamp(now, UTC).date(), service, endpoint
                ] += 1
            for token_id, now in _drain(self._uses):
                count, _ = self._use_counts.get(token_id, (0, 0.0))
                self._use_counts[token_id] = count + 1, now
            if self._challenge_counts:
                self._store.counts.count_challenges(self._challenge_counts)
                self._challenge_counts.clear()
            if self._use_counts:
                self._store.counts.count_uses(
                    {
                        token_id: (count, datetime.fromtimestamp(last, UTC))
                        for token_id, (count, last) in self._use_counts.items()
                    }
                )
                self._use_counts.clear()

    def close(self) -> None:
        """End the thread and write what was counted, as far as the store lets us."""
        self._stop.set()
        if thread := self._thread:
            thread.join(timeout=5)
        try:
            self.flush()
        except StoreError:
            return

    def _start(self) -> None:
        if self._thread is not None:  # it may hold the lock while it waits for the store
            return
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = Thread(target=self._run, name="l402-sync", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        idle = 0
        while not self._stop.wait(_INTERVAL):
            busy = self._active or self._down or self._counted() or self._store.uses.holds()
            idle = 0 if busy else idle + 1
            self._active = False
            if idle >= _IDLE_TICKS and self._ended():
                return
            if not idle:
                self._tick()
            # A slow view goes on in a process that is idle otherwise.
            self._keep_books()
        self._ended(stopped=True)

    def _ended(self, stopped: bool = False) -> bool:
        """Let the thread end, unless a request came to rely on it just now."""
        with self._lock:
            if self._active and not stopped:
                return False
            self._thread = None
            return True

    def _keep_books(self) -> None:
        """Say now and then that this process lives, and clear up after those that do not."""
        now = self._monotonic()
        if now - self._chores_at < _CHORES_EVERY or self._down:
            return
        self._chores_at = now
        uses, credits, replies = self._store.uses, self._store.credits, self._store.replies
        checkpoint = self._store.db.checkpoint
        waits: StoreError | None = None
        for chore in (uses.renew, uses.recover, credits.expire, replies.purge, checkpoint):
            try:
                chore()
            except StoreError as error:
                waits = error
            except Exception:  # as in _tick; and one chore must not stop the others
                _log.exception("the books of credit could not be kept")
        self._tell("the books of credit", waits)

    def _counted(self) -> bool:
        counts = (self._uses, self._challenges, self._use_counts, self._challenge_counts)
        return any(counts)

    def _tick(self) -> None:
        waits: StoreError | None = None
        try:
            with self._lock:
                self._read()
            if self._down:
                return
            self.flush()
        except StoreError as error:
            waits = error
        except Exception:  # the thread must live on, or no revocation would be learnt of
            _log.exception("the record could not be read or written")
        self._tell("counts", waits)

    def _tell(self, what: str, waits: StoreError | None) -> None:
        """Say when something begins to wait for a store that can be read, and when it ends."""
        if waits and what not in self._waiting:
            _log.warning("%s wait for the store: %s", what, waits)
            self._waiting.add(what)
        elif not waits and what in self._waiting:
            _log.warning("%s wait no more", what)
            self._waiting.remove(what)

    def _read(self) -> None:
        begun = self._monotonic()
        try:
            prices = self._store.prices.all()
            self._seen, revoked = self._store.revocations.changes(self._seen)
        except StoreError as error:
            if not self._down:
                _log.error("the store does not answer: %s", error)
            self._down = error
            return
        if self._down:
            _log.warning("the store answers again")
        self._reprice(prices)
        self._evict(revoked)
        self._read_at, self._down = begun, None


def _drain(queue: deque[_T]) -> list[_T]:
    drained = []
    while queue:
        drained.append(queue.popleft())
    return drained

"""Running a transaction again that a race, or a connection that broke, has undone."""

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from l402.forks import in_child
from l402.store.faults import Interrupted

#: Seconds that a transaction which lost a race pauses at most before it runs again: twice as long
#: each time, within bounds.
_SHORTEST, _LONGEST = 0.005, 0.02
#: How often one is believed that fails a check only because of a race.
_CHECKS = 5

T = TypeVar("T")


class Reruns:
    """Runs operations until they are done, one thread of a process at a time after the first try.

    Each that tries again undoes others, here and in other processes. `confirm` is called after an
    operation that ran again because a connection broke: what it found done by then is told only
    once that is as safe as a commit that was answered.
    """

    def __init__(self, confirm: Callable[[], None]) -> None:
        self._confirm = confirm
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """Have nobody's turn, also in a forked child: a thread of its parent's may have had it."""
        self._turn = threading.RLock()

    def run(self, operation: Callable[[], T], patience: float, *, changes: bool) -> T:
        """Run `operation`, again and again if need be, but no longer than `patience` seconds.

        One that keeps failing a check is given up sooner: the books may really be wrong.

        :raises Interrupted: it was undone to the last
        :raises StoreError: as `operation`
        """
        deadline = time.monotonic() + patience
        try:
            return operation()
        except Interrupted as error:
            left = deadline - time.monotonic()
            if left <= 0 or not self._turn.acquire(timeout=left):
                raise
            lost = error.lost
        try:
            return self._again(operation, deadline, changes, lost)
        finally:
            self._turn.release()

    def _again(self, operation: Callable[[], T], deadline: float, changes: bool, lost: bool) -> T:
        attempt, longest, checks = operation, _SHORTEST, 0
        while True:
            if changes and lost:
                attempt = partial(self._confirmed, operation)
            time.sleep(random.uniform(0, longest))  # noqa: S311 - spreads rivals, no secret
            try:
                return attempt()
            except Interrupted as error:
                checks += error.checked
                if time.monotonic() > deadline or checks == _CHECKS:
                    raise
                lost = lost or error.lost
            longest = min(2 * longest, _LONGEST)

    def _confirmed(self, operation: Callable[[], T]) -> T:
        outcome = operation()
        self._confirm()
        return outcome

"""How many calls a node gets at a time, so that one that hangs holds up no more than those."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from l402.errors import NodeBusy

_PATIENCE = 0.05  # seconds that a call waits for a free slot
_HANGING = 0.25  # seconds after which a call in flight makes waiting pointless

_T = TypeVar("_T")


class Slots:
    """Runs at most `size` calls at a time, each on its caller's thread.

    Handing a call to another thread and waiting for it costs as much as the call itself where all
    threads share one interpreter lock. So each call must end in time by itself.
    """

    def __init__(self, size: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._free = threading.Semaphore(size)
        self._began: dict[object, float] = {}  # by call in flight

    def run(self, job: Callable[[], _T], *, patient: bool = True) -> _T:
        """Return what `job` returns.

        With all slots taken it waits for one, unless not `patient` or the oldest call hangs.

        :raises NodeBusy: no slot came free in time; `job` never ran
        """
        self._take(_HANGING if patient else 0.0)
        call = object()
        self._began[call] = self._now()
        try:
            return job()
        finally:
            del self._began[call]
            self._free.release()

    def _take(self, hanging: float) -> None:
        if self._free.acquire(blocking=False):
            return
        oldest = min(list(self._began.values()), default=self._now())
        if self._now() - oldest > hanging:
            raise NodeBusy("every slot is taken by a call that hangs")
        if not self._free.acquire(timeout=_PATIENCE):
            raise NodeBusy("every slot is taken", retry_after=1)

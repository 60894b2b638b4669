"""A few threads that call the node, so that a node that hangs holds up no more than those."""

import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from l402.errors import NodeBusy, NodeUnreachable

_PATIENCE = 0.05  # seconds that a call waits for a free thread
_HANGING = 0.25  # seconds after which a call in flight makes waiting pointless

_T = TypeVar("_T")
_Jobs = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]


class Crew:
    """Runs at most `size` calls at a time, first come first served, each with a deadline.

    Its threads are daemons, unlike those of a ThreadPoolExecutor: the interpreter waits for none
    of them when it ends. A thread that is late stays taken until its call really ends. A crew
    belongs to one process.
    """

    def __init__(self, size: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._jobs: _Jobs = SimpleQueue()
        self._began: list[float | None] = [None] * size  # by thread: since when it is taken
        self._hired = 0
        self._lock = threading.Lock()
        weakref.finalize(self, _dismiss, self._jobs, size)

    def run(self, job: Callable[[], _T], within: float, *, patient: bool = True) -> _T:
        """Return what `job` returns within so many seconds.

        With all slots taken it waits for one, unless not `patient` or the oldest call hangs.

        :raises NodeBusy: no thread came free in time; `job` never ran
        :raises NodeUnreachable: it took too long, and goes on by itself
        """
        if self._taken_for_more_than(_HANGING if patient else 0.0):
            raise NodeBusy("every slot is taken by a call that hangs")
        self._hire()
        future: Future[_T] = Future()
        self._jobs.put((future, job))
        try:
            return _wait(future, _PATIENCE)
        except _Late:
            if future.cancel():
                raise NodeBusy("every slot is taken", retry_after=1) from None
        try:
            return _wait(future, within - _PATIENCE)
        except _Late:
            raise NodeUnreachable("no answer in time") from None

    def _taken_for_more_than(self, seconds: float) -> bool:
        taken = [began for began in self._began if began is not None]
        return len(taken) == len(self._began) and self._now() - min(taken) > seconds

    def _hire(self) -> None:
        with self._lock:
            if self._hired == len(self._began):
                return
            arguments = (self._jobs, self._began, self._hired, self._now)
            threading.Thread(target=_work, args=arguments, name="l402-node", daemon=True).start()
            self._hired += 1


class _Late(Exception):
    """The future has no result yet."""


def _wait(future: Future[_T], seconds: float) -> _T:
    """Return the future's result, or raise `_Late`: a TimeoutError may be the job's own."""
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():
            return future.result()
        raise _Late from None


def _work(jobs: _Jobs, began: list[float | None], slot: int, now: Callable[[], float]) -> None:
    """Do jobs until dismissed; holds no reference to the crew, which may so be collected."""
    while (order := jobs.get()) is not None:
        future, job = order
        if future.set_running_or_notify_cancel():
            began[slot] = now()
            try:
                result = job()
            except BaseException as error:
                began[slot] = None
                future.set_exception(error)
            else:
                began[slot] = None
                future.set_result(result)
        del order, future, job


def _dismiss(jobs: _Jobs, size: int) -> None:
    for _ in range(size):
        jobs.put(None)

"""What a forked child must not take over from its parent: locks, threads, counts, caches."""

import os
import weakref
from collections.abc import Callable


def in_child(method: Callable[[], None]) -> None:
    """Have `method` called in every child forked from now on, as long as its object lives."""
    os.register_at_fork(after_in_child=weakly(method))


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a call of a bound `method` that does not keep its object alive."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if bound := reference():
            bound()

    return call

"""What one process knows of its node's health: whether to call it, and what was said of it."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable

from l402.errors import NodeBusy, NodeError

_FAILURES = 5  # in a row open the breaker
#: Seconds to the next probe: at random, so that processes do not probe at once. A pause and a
#: probe that nobody hears (a connection is given up after 3 s) end within 5 s: so soon is a node
#: that came back called again.
_PAUSE = (1.0, 1.9)
_PROBE = 6.0  # seconds after which a probe counts as lost; the longest call takes 5

_REPEATED = 10.0  # seconds in which a node that comes and goes is not reported again
_SAID_AT_ONCE = 16  # different messages in one outage

_log = logging.getLogger("l402.node")


class Breaker:
    """Keeps calls from a node that did not answer, but for a probe now and then."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._lock = threading.Lock()
        self._failures = 0  # since the last answer
        self._next_probe: float | None = None  # None while the breaker is closed

    @property
    def doubtful(self) -> bool:
        """Whether the last call that is known of got no answer."""
        return self._failures > 0

    def admit(self) -> None:
        """Let a call pass, or say when to come again.

        :raises NodeBusy: the breaker is open, and it is not yet time for a probe
        """
        with self._lock:
            if self._next_probe is None:
                return
            wait = self._next_probe - self._now()
            if wait > 0:
                raise NodeBusy("it did not answer; tried again soon", math.ceil(wait))
            self._next_probe = self._now() + _PROBE

    def answered(self) -> None:
        """Note that the node lives, whatever it said."""
        with self._lock:
            self._failures = 0
            self._next_probe = None

    def failed(self) -> None:
        """Note that the node gave no answer."""
        with self._lock:
            self._failures += 1
            if self._failures >= _FAILURES:
                self._next_probe = self._now() + random.uniform(*_PAUSE)  # noqa: S311 (no secret)

    def withdrawn(self) -> None:
        """Note that an admitted call was not made after all; another may probe instead."""
        with self._lock:
            if self._next_probe is not None:
                self._next_probe = self._now()


class Journal:
    """Writes one line when the node goes down and one when it is back, not one per request.

    Each different fault of an outage is reported once.
    """

    def __init__(self, node: object, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._now = monotonic
        self._lock = threading.Lock()
        self._down = False
        self._said: dict[str, float] = {}  # message: when

    def failed(self, error: NodeError) -> None:
        """Report `error`, unless it was."""
        message = str(error)
        with self._lock:
            if not self._news(message):
                return
            self._said[message] = self._now()
            self._down = True
        _log.warning("%r: %s", self._node, message)

    def answered(self) -> None:
        """Report that the node is back, if it was reported down."""
        if not self._down:
            return
        with self._lock:
            was_down, self._down = self._down, False
        if was_down:
            _log.warning("%r: answers again", self._node)

    def _news(self, message: str) -> bool:
        if not self._down:
            recent = self._now() - _REPEATED
            self._said = {text: at for text, at in self._said.items() if at > recent}
        return message not in self._said and len(self._said) < _SAID_AT_ONCE

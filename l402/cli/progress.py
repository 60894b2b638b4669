"""How far a long command is, told on stderr while it works."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

#: Seconds between two lines: on a terminal one is written over the other.
_ON_TERMINAL = 0.5
_ELSEWHERE = 10.0


class Progress:
    """A context in which stderr is told what is being done, and how many rows were done.

    A terminal sees it change; elsewhere a line is written every ten seconds, so that a command
    that is soon done says nothing. `shown` False keeps it silent.
    """

    def __init__(self, what: str, shown: bool = True) -> None:
        self.what = what
        self.rows = 0
        self._shown = shown
        self._stderr = sys.stderr
        self._terminal = self._stderr.isatty()
        self._began = time.monotonic()
        self._over = threading.Event()
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def begin(self, what: str) -> None:
        """Say what is being done from now on."""
        self.what, self.rows = what, 0

    def line(self) -> str:
        """Say how far it is, in one line."""
        rows = f"{self.rows:,} rows, " if self.rows else ""
        return f"{self.what}: {rows}{time.monotonic() - self._began:.0f} s"

    def clear(self) -> None:
        """Make room on a terminal for a line of output."""
        if self._shown and self._terminal:
            self._write("\r\x1b[K")

    def __enter__(self) -> Self:
        if self._shown:
            self._teller.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._shown:
            self._teller.join()
            self.clear()

    def _tell(self) -> None:
        while not self._over.wait(_ON_TERMINAL if self._terminal else _ELSEWHERE):
            self._write(f"\r{self.line()}\x1b[K" if self._terminal else f"{self.line()}\n")

    def _write(self, text: str) -> None:
        self._stderr.write(text)
        self._stderr.flush()

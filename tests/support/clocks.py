"""Clocks that a test moves by hand."""


class Clock:
    """Stands still until it is moved; call it for its time in seconds."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

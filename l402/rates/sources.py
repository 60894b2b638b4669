"""Where rates come from, apart from fixed ones; `l402.rates.panel` has several URLs."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from l402.errors import RateError
from l402.rates.rate import Reading, bitcoin_price


class Source(ABC):
    """Tells what one bitcoin costs when it is asked; may be made before a fork."""

    @abstractmethod
    def read(self, currency: str) -> Reading:
        """Ask anew.

        :raises RateError: it gives nothing that can be relied on; the message holds no secret
        """


class Called(Source):
    """A callable of the host's, given the currency; its text of errors stays its own."""

    def __init__(self, function: Callable[[str], object]) -> None:
        self._function = function
        self._name = getattr(function, "__qualname__", type(function).__name__)

    def read(self, currency: str) -> Reading:
        """Call it; how long it takes is its own affair."""
        try:
            value = self._function(currency)
        except Exception as error:
            raise RateError(f"the callable {self._name} raised {type(error).__name__}") from None
        try:
            return Reading(bitcoin_price(value))
        except RateError as error:
            raise RateError(f"what the callable {self._name} gave: {error}") from None

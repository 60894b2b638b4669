"""One JSON URL that tells what a bitcoin costs.

A URL may hold a key, so no error here repeats one: its host at most, and its place in the list.
"""

import ipaddress
import json
import logging
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from l402.errors import ConfigurationError, RateError
from l402.http.client import Client
from l402.rates.rate import bitcoin_price

#: Seconds for a whole exchange; a public price takes a tenth of one.
WITHIN = 2.5
_EXAMPLE = "'https://api.example.com/price?of=BTC&in={currency}#data.{currency}.last'"

_log = logging.getLogger("l402.rates")


class RateUrl:
    """A URL whose fragment is the path of the number in its JSON: keys and indexes with dots.

    ``{currency}`` in it stands for ``USD``, ``{currency_lower}`` for ``usd``. `place` is its place
    in the list, from 1, and `host` what it is called in the log.

    :raises ConfigurationError: it cannot be used; the message does not repeat it
    """

    def __init__(self, text: object, place: int) -> None:
        self._place = place
        if not isinstance(text, str) or not all("!" <= letter <= "~" for letter in text):
            raise self._fault("is no URL in ASCII without spaces")
        try:
            parts = urlsplit(text)
            self._check(parts)
        except ValueError:
            raise self._fault("has a host or a port that cannot be read") from None
        self.host = parts.netloc.lower()
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._number = parts.fragment
        # A connection kept open would be closed by the other side before the next reading.
        headers = {"Accept": "application/json", "Connection": "close"}
        self._client = Client(f"{parts.scheme}://{parts.netloc}", headers, RateError)

    def __repr__(self) -> str:
        return f"RateUrl({self.host})"

    def read(self, currency: str) -> Decimal:
        """Return what one bitcoin costs.

        :raises RateError: it does not say so in time, or says something absurd
        """
        answer = self._client.exchange("GET", _named(self._path, currency), WITHIN)
        if answer.status != 200:
            raise RateError(f"answered {answer.status}")
        path = _named(self._number, currency)
        found = _at(_json(answer.content), [unquote(key) for key in path.split(".")])
        if found is None:
            raise RateError(f"its JSON has nothing at {path[:60]}")
        try:
            return bitcoin_price(found)
        except RateError as error:
            raise RateError(f"at {path[:60]}: {error}") from None

    def _check(self, parts: SplitResult) -> None:
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise self._fault("does not begin with https:// and a host")
        if "@" in parts.netloc or parts.port == 0 or "{" in parts.netloc:
            raise self._fault("has a user, a password, port 0 or a '{' where its host belongs")
        if not parts.fragment:
            raise self._fault("has no '#' with the number's path in the JSON")
        plain = _named(parts.path + parts.query + parts.fragment, "")
        if "{" in plain or "}" in plain:
            raise self._fault("has braces that are neither {currency} nor {currency_lower}")
        if plain == parts.path + parts.query + parts.fragment:
            raise self._fault("would give every currency the same number without a {currency}")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            _log.warning(
                "L402_RATES: over http anybody on the way to %s sets the prices; write https",
                parts.hostname,
            )

    def _fault(self, text: str) -> ConfigurationError:
        return ConfigurationError(
            f"L402_RATES: URL {self._place} {text}; write for example {_EXAMPLE}"
        )


def _named(template: str, currency: str) -> str:
    named = template.replace("{currency}", currency)
    return named.replace("{currency_lower}", currency.lower())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _json(content: bytes) -> Any:
    def refuse(_constant: str) -> NoReturn:
        raise ValueError

    try:
        return json.loads(content, parse_float=Decimal, parse_int=Decimal, parse_constant=refuse)
    except (ValueError, ArithmeticError, RecursionError):
        raise RateError("answered with something that is no JSON") from None


def _at(found: Any, path: Sequence[str]) -> Any:
    """Return what stands at `path`, or None."""
    for key in path:
        if isinstance(found, dict):
            found = found.get(key)
        elif isinstance(found, list) and key.isdecimal() and len(key) < 5:
            found = next(iter(found[int(key) : int(key) + 1]), None)
        else:
            return None
    return found

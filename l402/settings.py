"""The ``L402_…`` configuration, read strictly: a wrong value stops the app, with an example.

Values from ``Flask.config.from_prefixed_env`` arrive as text or as whatever JSON made of it.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from l402.errors import ConfigurationError, path_shown
from l402.limits import parse_rates
from l402.memory import Rates
from l402.prices import Configured, parse_prices
from l402.protocol.keys import MIN_SECRET_BYTES
from l402.storages import knows_storage

_DAY = 86400
#: No pass is longer than this, seconds; a moment beyond it could not be written down.
LONGEST = 3660 * _DAY
#: Nor may an invoice be paid for longer, seconds; only then does the time of a pass begin.
LONGEST_INVOICE = 7 * _DAY
_ALL_SATS = 21 * 10**14
_SERVICE = re.compile(r"[A-Za-z0-9.-]{1,32}", re.ASCII)
_KEYS = {
    "NODE", "DATABASE_URL", "SECRET_KEY", "SECRET_KEY_PATH", "SECRET_KEY_FALLBACKS", "SERVICE",
    "VALID_FOR", "CREDIT_VALID_FOR", "INVOICE_EXPIRY", "MAX_PRICE", "RATE_LIMIT", "CHALLENGE_LIMIT",
    "CHALLENGE_LIMIT_TOTAL", "RATELIMIT_STORAGE_URI", "STRICT", "STORE_GRACE", "NODE_CONCURRENCY",
    "SIMULATED", "URL_PREFIX", "SQLITE_SYNCHRONOUS", "PRICES", "RATES", "RATE_MAX_AGE",
    "RATE_SPREAD",
}  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """The configuration of one app; times in seconds, `max_price` in satoshis."""

    node: str
    database_url: str | None
    secrets: tuple[bytes, ...]
    service: str | None
    valid_for: int
    credit_valid_for: int
    invoice_expiry: int
    max_price: int
    rate_limit: Rates
    challenge_limit: Rates
    challenge_limit_total: Rates
    ratelimit_storage_uri: str | None
    strict: bool | None
    store_grace: float
    node_concurrency: int
    simulated: bool
    url_prefix: str | None
    sqlite_synchronous: str
    prices: Configured
    rates: object
    rate_max_age: int
    rate_spread: Decimal

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Settings":
        """Read and check every ``L402_…`` key.

        :raises ConfigurationError: naming the key, the fault and an example, never a secret
        """
        given = {key[5:]: value for key, value in config.items() if key.startswith("L402_")}
        for key in given.keys() - _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            raise ConfigurationError(
                f"L402_{key} is no setting" + (f"; did you mean L402_{near[0]}?" if near else "")
            )
        read = _Reader(given)
        return cls(
            node=read.text("NODE", None, "'lnd+https://127.0.0.1:8080?macaroon_path=…'"),
            database_url=read.optional_text("DATABASE_URL", "'postgresql://user@host/name'"),
            secrets=_secrets(read, config.get("SECRET_KEY")),
            service=_service(read),
            valid_for=read.seconds("VALID_FOR", 3600, most=LONGEST),
            credit_valid_for=read.seconds("CREDIT_VALID_FOR", 365 * _DAY, most=LONGEST),
            invoice_expiry=read.seconds("INVOICE_EXPIRY", 600, most=LONGEST_INVOICE),
            max_price=read.whole("MAX_PRICE", 100_000, most=_ALL_SATS),
            rate_limit=read.rates("RATE_LIMIT", "600/minute"),
            challenge_limit=read.rates("CHALLENGE_LIMIT", "120/minute"),
            challenge_limit_total=read.rates("CHALLENGE_LIMIT_TOTAL", "6000/minute"),
            ratelimit_storage_uri=_storage(read),
            strict=read.flag("STRICT", None),
            store_grace=read.whole("STORE_GRACE", 60, least=0),
            node_concurrency=read.whole("NODE_CONCURRENCY", 2),
            simulated=bool(read.flag("SIMULATED", False)),
            url_prefix=_url_prefix(read),
            sqlite_synchronous=read.choice("SQLITE_SYNCHRONOUS", ("NORMAL", "FULL", "EXTRA")),
            prices=parse_prices(given.get("PRICES", {})),
            rates=given.get("RATES"),
            rate_max_age=read.seconds("RATE_MAX_AGE", 600, most=_DAY),
            rate_spread=read.part("RATE_SPREAD", "0.02"),
        )


class _Reader:
    """Reads one key at a time; each method raises ConfigurationError."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given

    def text(self, key: str, default: str | None, example: str) -> str:
        value = self.optional_text(key, example, default)
        if value is None:
            raise ConfigurationError(f"L402_{key} is not set; write for example {example}")
        return value

    def optional_text(self, key: str, example: str, default: str | None = None) -> str | None:
        value = self.given.get(key, default)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise _fault(key, "is not text", example)
        return value

    def whole(self, key: str, default: int, least: int = 1, most: int = 10**9) -> int:
        value = self.given.get(key, default)
        if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise _fault(key, f"is not a whole number from {least} to {most}", str(default))
        return value

    def seconds(self, key: str, default: int, most: int) -> int:
        value = self.given.get(key, default)
        if isinstance(value, timedelta):
            self.given[key] = whole_seconds(value)
        return self.whole(key, default, most=most)

    def part(self, key: str, default: str) -> Decimal:
        value = self.given.get(key, default)
        text = str(value) if isinstance(value, str | float | Decimal) else ""
        if not re.fullmatch(r"0\.[0-9]{1,6}", text) or not Decimal(text):
            raise _fault(key, "is no part of 1, above 0 and below 1", default)
        return Decimal(text)

    def flag(self, key: str, default: bool | None) -> bool | None:
        value = self.given.get(key, default)
        if isinstance(value, str):
            value = {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
        if value in (0, 1) and type(value) is int:
            value = bool(value)
        if value is not None and not isinstance(value, bool):
            raise _fault(key, "is neither true nor false", "True")
        return value

    def rates(self, key: str, default: str) -> Rates:
        return parse_rates(self.given.get(key, default), f"L402_{key}")

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = str(self.given.get(key, choices[0])).upper()
        if value not in choices:
            raise _fault(key, f"is none of {', '.join(choices)}", choices[0])
        return value


def whole_seconds(length: timedelta) -> int:
    """Return a length of time in seconds; a fraction of one is dropped."""
    return length // timedelta(seconds=1)


def _fault(key: str, fault: str, example: str) -> ConfigurationError:
    return ConfigurationError(f"L402_{key} {fault}; write for example {example}")


def _url_prefix(read: _Reader) -> str | None:
    prefix = read.optional_text("URL_PREFIX", "'/l402'", default="/l402")
    if prefix is not None and not prefix.startswith("/"):
        raise _fault("URL_PREFIX", "does not begin with '/'", "'/l402'")
    return prefix


def _service(read: _Reader) -> str | None:
    service = read.optional_text("SERVICE", "'weather'")
    if service is not None:
        check_service(service, "L402_SERVICE")
    return service


def check_service(service: str, name: str) -> None:
    """Refuse a service's name that could not stand in a caveat.

    :raises ConfigurationError: naming `name`
    """
    if not isinstance(service, str) or not _SERVICE.fullmatch(service):
        raise ConfigurationError(
            f"{name}: {service!r} is no name of a service; use 1 to 32 letters, digits, '.' and"
            " '-', for example 'weather'"
        )


def _secrets(read: _Reader, flask_key: object) -> tuple[bytes, ...]:
    """Return the key ring's secrets, the newest first."""
    if "SECRET_KEY" in read.given and "SECRET_KEY_PATH" in read.given:
        raise ConfigurationError("set L402_SECRET_KEY or L402_SECRET_KEY_PATH, not both")
    path = read.optional_text("SECRET_KEY_PATH", "'/run/secrets/l402'")
    secret = _file(path) if path else read.given.get("SECRET_KEY")
    older = read.given.get("SECRET_KEY_FALLBACKS", ())
    if isinstance(older, str):
        older = [part.strip() for part in older.split(",") if part.strip()]
    if type(older) is int:
        older = [older]
    if not isinstance(older, list | tuple):
        raise _fault("SECRET_KEY_FALLBACKS", "is not a list", "['the key before', …]")
    secrets = [_secret(secret, "SECRET_KEY")]
    secrets += [_secret(value, "SECRET_KEY_FALLBACKS") for value in older]
    flask_bytes = flask_key.encode() if isinstance(flask_key, str) else flask_key
    if flask_bytes in secrets:
        raise ConfigurationError(
            "L402_SECRET_KEY is Flask's own SECRET_KEY; make another with: flask l402 keygen"
        )
    return tuple(secrets)


def _secret(value: object, key: str) -> bytes:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # from_prefixed_env makes a number of a key that is all digits
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes) or len(value) < MIN_SECRET_BYTES or len(set(value)) < 8:
        fault = "is not set" if value is None else f"has not {MIN_SECRET_BYTES} random bytes"
        raise ConfigurationError(f"L402_{key} {fault}; make one with: flask l402 keygen")
    return value


def _storage(read: _Reader) -> str | None:
    uri = read.optional_text("RATELIMIT_STORAGE_URI", "'redis://127.0.0.1:6379'")
    if uri is not None and not knows_storage(uri):
        raise _fault("RATELIMIT_STORAGE_URI", "names no storage", "'redis://127.0.0.1:6379'")
    return uri


def _file(path: str) -> bytes:
    try:
        return Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            f"L402_SECRET_KEY_PATH: cannot read the file{path_shown(path)}: {error.strerror};"
            " make one with: flask l402 keygen --out PATH"
        ) from None

"""What a demonstration prints, and the checks between."""
# ruff: noqa: T201

import re
from itertools import count

import httpx

_NUMBERS = count(1)


class DemoFailed(Exception):
    """A step went otherwise than it should."""


def step(title: str) -> None:
    """Print a step's headline, numbered."""
    print(f"\n{next(_NUMBERS)}. {title}")


def show(name: str, value: str) -> None:
    """Print a value with what is too long to read cut short."""
    short = re.sub(r"[A-Za-z0-9+/=_-]{60,}", lambda long: f"{long[0][:32]}…{long[0][-8:]}", value)
    print(f"   {name}: {short}")


def expect(right: bool, sentence: str) -> None:
    """Raise unless a step went as it should."""
    if not right:
        raise DemoFailed(f"expected that {sentence}")


def expect_status(response: httpx.Response, status: int, title: str = "") -> httpx.Response:
    """Print an answer's status line, under a headline if given one, and check it."""
    if title:
        step(title)
    print(f"   HTTP {response.status_code} {response.reason_phrase}")
    expect(response.status_code == status, f"{response.request.url} answers {status}")
    return response

"""What a call asks of a balance, and what it is told."""

import secrets
import time
from datetime import datetime
from typing import NamedTuple


class Order(NamedTuple):
    """What a call asks for: `msat` of the account's balance for the service, under a new id.

    `use_id` is 16 bytes (see `new_use_id`), `token_id` the account's 32.
    """

    use_id: bytes
    token_id: bytes
    service: str
    endpoint: str
    method: str
    msat: int


class Reserved(NamedTuple):
    """The price is set aside; `balance` is what is left to spend, in msat, until `ends_at`."""

    use_id: bytes
    balance: int
    ends_at: datetime


class Short(NamedTuple):
    """The balance does not suffice, or has ended; None: the account has no such credit."""

    balance: int | None
    ended: bool


def new_use_id() -> bytes:
    """Draw a use's id: milliseconds and 80 random bits.

    So the lines of one time lie together in the ledger's index, however large it is.
    """
    return (time.time_ns() // 1_000_000).to_bytes(6) + secrets.token_bytes(10)

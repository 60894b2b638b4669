"""What a developer may write in ``@paywall``, and what it offers."""

from datetime import timedelta
from typing import Any

import pytest

from l402.errors import ConfigurationError
from l402.offer import offered
from l402.protocol.token import CREDIT, PASS
from l402.terms import Terms

NOTHING: dict[str, Any] = dict.fromkeys(
    (
        "sats", "msat", "price", "uses", "credit", "reserve", "charge_on", "service", "valid_for",
        "limit", "description", "validate",
    )
)  # fmt: skip


async def _later() -> int:
    return 1


def offer(**arguments: Any) -> Terms:
    return offered(**NOTHING | arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "one price"),
        ({"sats": 1, "msat": 1}, "one price"),
        ({"sats": 1.5}, "sats=1.5"),
        ({"sats": True}, "sats=True"),
        ({"sats": -1}, "sats=-1"),
        ({"msat": "10"}, "msat='10'"),
        ({"sats": 10**18}, "bitcoins"),
        ({"sats": 2, "uses": 0}, "uses=0"),
        ({"sats": 2, "uses": True}, "uses=True"),
        ({"sats": 2, "uses": "many"}, "uses='many'"),
        ({"sats": 2, "credit": 0}, "credit=0"),
        ({"sats": 2, "credit": 1.0}, "credit=1.0"),
        ({"sats": 2, "uses": 1, "credit": 10}, "write one"),
        ({"credit": 10}, "reserve=… for a view that charges"),
        ({"reserve": 5}, "credit=500, reserve=50"),
        ({"reserve": 5, "credit": 50, "sats": 2}, "credit=500, reserve=50"),
        ({"reserve": 5, "credit": 50, "msat": 0}, "credit=500, reserve=50"),
        ({"reserve": 5, "credit": 50, "price": "1 USD"}, "credit=500, reserve=50"),
        ({"reserve": 5, "credit": 50, "uses": 2}, "credit=500, reserve=50"),
        ({"reserve": 0, "credit": 50}, "reserve=0"),
        ({"reserve": 5.5, "credit": 50}, "reserve=5.5"),
        ({"reserve": True, "credit": 50}, "reserve=True"),
        ({"reserve": 5, "credit": 5.5}, "credit=5.5"),
        ({"reserve": 51, "credit": 50}, "reserve=51 is more than credit=50"),
        ({"sats": 20, "credit": 10}, "one call of 20 sat"),
        ({"sats": 0, "uses": 5}, "free sells no credit"),
        ({"sats": 10**12, "uses": 10**12}, "bitcoins"),
        ({"sats": 2, "uses": 1, "valid_for": 60}, "L402_CREDIT_VALID_FOR"),
        ({"sats": 2, "charge_on": [404]}, "goes with uses"),
        ({"sats": 2, "uses": 1, "charge_on": []}, "charge_on"),
        ({"sats": 2, "uses": 1, "charge_on": 404}, "charge_on"),
        ({"sats": 2, "uses": 1, "charge_on": ["404"]}, "charge_on"),
        ({"sats": 2, "uses": 1, "charge_on": [99]}, "charge_on"),
        ({"sats": 2, "uses": 1, "charge_on": {200, 503}}, "never charged"),
        ({"sats": _later}, "plain callable"),
        ({"sats": 2, "valid_for": 0}, "valid_for=0"),
        ({"sats": 2, "valid_for": timedelta(milliseconds=5)}, "valid_for"),
        ({"sats": 2, "service": "a b"}, "service"),
        ({"sats": 2, "description": " "}, "description"),
        ({"sats": 2, "limit": "often"}, "limit"),
    ],
)
def test_a_wrong_argument_says_what_to_write(arguments: dict[str, Any], says: str) -> None:
    """It fails where it is written, and names the argument and the remedy."""
    with pytest.raises(ConfigurationError, match=r"^paywall: ") as caught:
        offer(**arguments)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "kind", "price", "total", "words"),
    [
        ({"sats": 10}, PASS, 10_000, 10_000, "10 sat, any number of calls for"),
        ({"msat": 100}, PASS, 100, 100, "0.1 sat, any number of calls for"),
        ({"sats": 2, "uses": 100}, CREDIT, 2000, 200_000, "200 sat for 100 calls, 2 sat for each"),
        ({"sats": 2, "uses": 1}, CREDIT, 2000, 2000, "2 sat, for each call"),
        ({"msat": 1500, "uses": 3}, CREDIT, 1500, 4500, "4.5 sat for 3 calls, 1.5 sat for each"),
        ({"sats": 7, "credit": 500}, CREDIT, 7000, 500_000, "500 sat of credit, 7 sat for each"),
    ],
)
def test_what_one_payment_buys(
    arguments: dict[str, Any], kind: str, price: int, total: int, words: str
) -> None:
    """A pass costs its price, a pack its calls, credit its amount; the words say so."""
    terms = offer(**arguments)
    assert terms.kind == kind
    assert terms.constant == price
    assert terms.total(price) == total
    assert words in terms.words(terms.constant)


def test_a_callable_price_sells_enough_for_its_own_call() -> None:
    """Credit is sold for at least what the refused request costs, packs at its price."""
    assert offer(sats=lambda: 9, credit=5).total(9000) == 9000
    assert offer(sats=lambda: 1, credit=5).total(1000) == 5000
    assert offer(sats=lambda: 9, uses=5).total(9000) == 45_000
    assert offer(sats=lambda: 9, uses=5).constant is None
    assert offer(sats=lambda: 9, uses=5).words(None) == (
        "5 calls at once, a price set per request for each call"
    )


def test_which_answers_are_charged() -> None:
    """All below 400, or the statuses that were named."""
    usual, named = offer(sats=1, uses=1), offer(sats=1, uses=1, charge_on={200, 404})
    assert [status for status in (200, 204, 304, 399, 400, 404, 500) if usual.charges(status)] == [
        200, 204, 304, 399,
    ]  # fmt: skip
    assert [status for status in (200, 204, 404, 500) if named.charges(status)] == [200, 404]

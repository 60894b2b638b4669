"""What is counted while serving."""

from datetime import timedelta

import pytest
from support.sales import NOW, sale, token_id

from l402.errors import StoreUnavailable
from l402.store import Store

pytest_plugins = ["support.databases"]

HOUR = timedelta(hours=1)


def test_count_uses(store: Store) -> None:
    """Uses add up, the last one's time never goes back, and unknown tokens are passed over."""
    store.payments.admit(sale(1), NOW)
    store.payments.admit(sale(2), NOW)
    store.counts.count_uses({})
    store.counts.count_uses({token_id(1): (3, NOW + HOUR), token_id(2): (1, NOW)})
    store.counts.count_uses({token_id(1): (2, NOW), token_id(9): (5, NOW)})
    one, two = store.credentials.state(token_id(1)), store.credentials.state(token_id(2))
    assert (one.uses, one.last_used_at) == (5, NOW + HOUR)
    assert (two.uses, two.last_used_at) == (1, NOW)
    assert [store.counts.uses(token_id(number)) for number in (1, 2, 9)] == [5, 1, 0]
    assert store.credentials.state(token_id(9)) is None


def test_naive_time(store: Store) -> None:
    """A time without a zone is refused, for it would be another moment on each machine."""
    store.payments.admit(sale(1), NOW)
    with pytest.raises(StoreUnavailable, match="time zone"):
        store.counts.count_uses({token_id(1): (1, NOW.replace(tzinfo=None))})
    assert store.counts.uses(token_id(1)) == 0

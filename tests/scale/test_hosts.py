"""One shop on several hosts: workers share Postgres through pgbouncer, and Redis for the limits.

Hosts are network namespaces of this machine. Four connections to the server serve all of them.
``HOSTS_ROUNDS`` says how often each race is run.
"""

from collections.abc import Callable, Iterator

import pytest
from support import shop_checks
from support.shop_checks import asking, await_asked, books
from support.sites import Shop, Site, site

pytestmark = pytest.mark.scale

#: What each build that is broken breaks, and the check that must find it.
BROKEN: dict[str, Callable[[Shop], object]] = {
    "each limits for itself": shop_checks.limits,
    "is first whoever was": shop_checks.first_presentations,
    "inserts without a conflict": shop_checks.first_presentations,
    "debits what it read before": shop_checks.last_units,
    "charges a repeat again": shop_checks.repeats,
    "never reads again": shop_checks.revocations,
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two hosts, and what they share."""
    with site(tmp_path_factory.mktemp("site"), hosts=2) as made:
        yield made


@pytest.fixture(scope="module", params=["read committed, Redis", "serializable, Redis Cluster"])
def shop(here: Site, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A shop of four workers on two hosts."""
    isolation, _, storage = request.param.partition(", ")
    limits = here.redis if storage == "Redis" else here.cluster
    with here.shop(limits, isolation) as made:
        yield made


def test_limits(shop: Shop) -> None:
    """Limits of tokens and of addresses are exact over all workers of all hosts."""
    shop_checks.limits(shop)


def test_first_presentations(shop: Shop) -> None:
    """A token that all workers see at once is one credential and one payment, and one signal."""
    shop_checks.first_presentations(shop)


def test_last_units(shop: Shop) -> None:
    """The last unit of credit is sold once, whoever of 200 asks where."""
    shop_checks.last_units(shop)


def test_repeats(shop: Shop) -> None:
    """What is repeated under one Idempotency-Key on all hosts is charged once."""
    shop_checks.repeats(shop)


def test_revocations(shop: Shop) -> None:
    """What is revoked on one host is refused on all of them within a second."""
    lags = shop_checks.revocations(shop)
    print("served for so many seconds after the revocation:", *(f"{lag:.2f}" for lag in lags))


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_builds_are_found(here: Site, broken: str) -> None:
    """Without what makes a promise true, the check of that promise fails."""
    with (
        here.shop(here.redis, workers=1, FLEET_SABOTAGE=broken) as shop,
        pytest.raises(AssertionError),
    ):
        BROKEN[broken](shop)

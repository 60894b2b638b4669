"""One shop on several hosts: workers share Postgres through pgbouncer, and Redis for the limits.

Hosts are network namespaces of this machine. Four connections to the server serve all of them.
``HOSTS_ROUNDS`` says how often each race is run.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import shop_checks
from support.daemons import await_that
from support.fleets import Answer, statuses
from support.hosts import network
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


def await_served(answers: list[Answer]) -> None:
    """Wait until several of the calls that are made from now on are served."""
    now = time.monotonic()

    def served() -> bool:
        return sum(each.status == 200 and each.asked_at > now for each in answers[-500:]) >= 8

    await_that("calls that are served", served)


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


def test_pgbouncer_is_restarted(here: Site, shop: Shop) -> None:
    """Under load connections are renewed, cut and lost: no call is charged wrongly, and all go on.

    What was answered is charged; of what was not, what the store was not told in time may be.
    """
    before = shop.uses()
    token, _ = shop.fleet.buy("/draw")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"
    with asking(shop, token, "/draw") as answers:
        for disturb in (
            lambda: here.bouncer.admin("RECONNECT"),
            lambda: here.postgres.execute(cut.format(shop.store.db.url.database)),
            here.bouncer.restart,
        ):
            await_served(answers)
            disturb()
        await_served(answers)
    done = statuses(answers)
    print("while pgbouncer was restarted:", dict(done))
    assert set(done) <= {200, 503}
    assert all(each.headers["Retry-After"] for each in answers if each.status == 503)
    shop.store.close()  # its own connections were cut too
    assert done[200] <= shop.uses() - before <= done[200] + done[503]
    books(shop)


def test_the_limits_storage_dies(here: Site, shop: Shop) -> None:
    """Without Redis, or a node of its cluster, who paid is served; back again, limits are exact."""
    clustered = "cluster" in shop.fleet.environment["FLASK_L402_RATELIMIT_STORAGE_URI"]
    victim = here.cluster.nodes[0] if clustered else here.redis
    token, _ = shop.fleet.buy()
    shop.fleet.ask_all(token)
    victim.stop()
    with asking(shop, token) as answers:
        bought, _ = shop.fleet.buy()
        await_asked(answers, time.monotonic() + 3)  # a cluster gives a node up after a second
        assert shop.fleet.ask(bought).status == 200
    assert statuses(answers) == {200: len(answers)}
    victim.start()
    here.cluster.await_whole()

    def exact() -> bool:
        limited, _ = shop.fleet.buy("/limited")
        return statuses(shop.fleet.ask_at_once(limited, 24, "/limited")) == {200: 10, 429: 14}

    await_that("exact limits", exact)


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_builds_are_found(here: Site, broken: str) -> None:
    """Without what makes a promise true, the check of that promise fails."""
    with (
        here.shop(here.redis, workers=1, FLEET_SABOTAGE=broken) as shop,
        pytest.raises(AssertionError),
    ):
        BROKEN[broken](shop)


def test_hosts_of_a_killed_run() -> None:
    """The next run deletes the hosts of one that was killed, and none of one that lives."""
    with another_run() as killed, another_run() as alive:
        killed.kill()
        killed.wait(30)
        with network(1):
            assert (hosts_of(killed), hosts_of(alive)) == (0, 2)
    assert hosts_of(alive) == 0


def another_run() -> subprocess.Popen[bytes]:
    """Start a process that has a network, until its input ends."""
    code = (
        "import sys; from support.hosts import network\n"
        "with network(1): print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline()
    return process


def hosts_of(process: subprocess.Popen[bytes]) -> int:
    return len(list(Path("/run/netns").glob(f"l402-{process.pid}-*")))

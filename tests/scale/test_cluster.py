"""Limits on a Redis Cluster: exact over processes, and not waited for when a node is dead."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from support.redis_servers import RedisCluster, running

from l402 import L402
from l402.cli import cli
from l402.limits import Limits, parse_rates
from l402.storages import private_limiter

pytestmark = pytest.mark.scale

_ANSWER = 1.0  # seconds, generously: a third is what the slowest takes
_WATCHED = 4.0  # seconds, in which a cluster finds that a node of it is dead


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with running(RedisCluster(tmp_path / "cluster")) as made:
        yield made


def make_limits(cluster: RedisCluster) -> Limits:
    rates = parse_rates("3/hour", "the test's limit")
    limiter = private_limiter({}, cluster.uri)
    return Limits(token=rates, challenge=rates, challenge_total=rates, limiter=limiter)


def test_counts_over_processes(cluster: RedisCluster) -> None:
    """Whichever node has a token's count, all who ask meet the same one."""
    one, other = make_limits(cluster), make_limits(cluster)
    for token in (bytes([number]) * 32 for number in range(40)):
        waits = [limits.admit(token, None, "quote") for limits in (one, other) * 3]
        assert waits[:3] == [0, 0, 0]
        assert all(waits[3:])


def test_nobody_waits_for_a_dead_node(cluster: RedisCluster) -> None:
    """While a node is dead and its cluster finds out, each is admitted or not within a second."""
    limits = make_limits(cluster)
    limits.probe()
    cluster.nodes[0].stop()
    number, longest, end = 0, 0.0, time.monotonic() + _WATCHED
    while time.monotonic() < end:
        number += 1
        begun = time.monotonic()
        assert limits.admit(number.to_bytes(32), None, "quote") == 0
        longest = max(longest, time.monotonic() - begun)
    assert longest < _ANSWER


def test_the_doctor_knows_it(cluster: RedisCluster, database: str) -> None:
    """It counts for all processes; with a node dead, the doctor finds that it does not."""
    app = Flask("shop")
    app.config.update(
        L402_NODE="simulated:",
        L402_SIMULATED=True,
        L402_SECRET_KEY="0123456789abcdef" * 4,
        L402_DATABASE_URL=database,
        L402_RATELIMIT_STORAGE_URI=cluster.uri,
    )
    L402(app)
    told = app.test_cli_runner().invoke(cli, ["doctor", "--workers", "4"]).output
    assert "RedisClusterStorage counts for all processes" in told

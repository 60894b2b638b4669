"""The primary is killed under load, and its synchronous standby takes over: nothing is lost.

``FAILOVERS`` says how often, one after the other; nobody restarts a worker meanwhile.
"""

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.killed_verdict import Logs, Record, Request, faults, in_flight, unbooked
from support.killing import WITHIN, Fleet, Load, await_, present_all
from support.standbys import Pair, pair
from support.witnesses import Holder, Witness, present

from l402.store import Store

pytestmark = pytest.mark.scale

_FAILOVERS = int(os.environ.get("FAILOVERS", "2"))
_SEED = int(os.environ.get("KILLS_SEED", "1"))
_RESUMED_WITHIN = 30  # seconds after the promotion, as promised
_FRESH = 1.0  # seconds for which what was read last is good, whatever becomes of the store
_GRACE = 3  # seconds
_MANY = 100  # answers
_HUNG = 5  # commits
_WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
_RECEIVED = "SELECT 1 WHERE pg_last_wal_receive_lsn() >= '{}'"
_NOT_GIVEN_BACK = "its use was not given back"
_DOWN = "the store does not answer"


@pytest.fixture
def servers() -> Iterator[Pair]:
    with pair() as made:
        yield made


def test_nothing_acknowledged_is_lost(servers: Pair, tmp_path: Path) -> None:
    """What was acknowledged stands once in the new primary, and what was not at most once."""
    url, chance = servers.fresh(), random.Random(_SEED)
    outages, resumed = list[tuple[float, float]](), list[float]()
    with closing(Store(url)) as store, closing(Fleet(tmp_path, url)) as fleet:
        load = Load(fleet, _SEED, WITHIN)
        with present(load, url) as (witness, holder):
            workers = fleet.workers()
            for number in range(_FAILOVERS):
                if number:
                    servers.attach()
                witness.everywhere("/call")
                killed, promoted, back = fail_over(servers, load, witness, holder, chance)
                outages.append((killed, promoted))
                resumed.append(back - promoted)
        await_(lambda: fleet.ask("/pass") and not in_flight(store), "quiet", 0.1)
        assert fleet.workers() == workers
        found = list(verdict(fleet, store))
    assert found == []
    requests = Logs.read(tmp_path / "logs").requests.values()
    for killed, promoted in outages:
        assert list(misled(requests, killed + _FRESH, promoted)) == []
    assert {answer.status for _, answer in holder.seen} == {200}
    assert lines(tmp_path)[_DOWN] == len(workers) * _FAILOVERS
    print(
        f"{load.answers.total()} answers, resumed {resumed} s after the promotion", lines(tmp_path)
    )
    assert max(resumed) < _RESUMED_WITHIN


def test_what_was_not_replicated_is_missed(servers: Pair, tmp_path: Path) -> None:
    """Of a standby that nobody waits for, acknowledged operations are lost; that is found out."""
    url = servers.fresh()
    servers.synchronize("")
    with closing(Store(url)) as store, closing(Fleet(tmp_path, url)) as fleet:
        load = Load(fleet, _SEED, WITHIN)
        with present(load, url) as (witness, holder):
            witness.everywhere("/call")
            servers.standby.detach()
            fail_over(servers, load, witness, holder, random.Random(_SEED))
        await_(lambda: fleet.ask("/pass") and not in_flight(store), "quiet", 0.1)
        found = "\n".join(verdict(fleet, store))
    assert "was acknowledged, and stands 0 times" in found
    assert "/call answered 200, charged 0 times" in found


@pytest.mark.parametrize("arrives", [True, False])
def test_what_waits_for_a_standby_is_not_acknowledged(
    servers: Pair, tmp_path: Path, arrives: bool
) -> None:
    """A commit whose standby is silent is told as unknown; whether it survives, the books agree."""
    url = servers.fresh()
    with closing(Store(url)) as store, closing(Fleet(tmp_path, url)) as fleet:
        load = Load(fleet, _SEED, WITHIN)
        with present(load, url) as (witness, holder):
            witness.everywhere("/call")
            if arrives:
                servers.standby.signal(signal.SIGSTOP)
            else:
                servers.standby.detach()
            refused = load.answers[503]
            await_(lambda: load.answers[503] > refused + _HUNG, "calls that are refused")
            await_(lambda: len(servers.primary.rows(_WAITING)) > _HUNG, "commits that wait")
            ((written,),) = servers.primary.rows("SELECT pg_current_wal_flush_lsn()")
            servers.primary.kill()
            if arrives:
                servers.standby.signal(signal.SIGCONT)
                await_(lambda: servers.standby.rows(_RECEIVED.format(written)), "what was sent")
            servers.fail_over()
            witness.everywhere("/call")
        await_(lambda: fleet.ask("/pass") and not in_flight(store), "quiet", 0.1)
        found, logs, record = (
            list(verdict(fleet, store)),
            Logs.read(tmp_path / "logs"),
            Record(store),
        )
    assert found == []
    assert {answer.status for _, answer in holder.seen} == {200}
    survived = [name for name in logs.asked - logs.done if record.by_hand[name]]
    assert bool(survived) == arrives


def test_passes_are_served_for_as_long_as_is_configured(servers: Pair, tmp_path: Path) -> None:
    """With a short grace a pass is refused once that is over, and without any at once: by 503."""
    url, graces = servers.fresh(), (0, _GRACE)
    with ExitStack() as stack:
        holders = {}
        for grace in graces:
            (tmp_path / str(grace)).mkdir()
            fleet = Fleet(tmp_path / str(grace), url, L402_STORE_GRACE=grace)
            stack.enter_context(closing(fleet))
            holders[grace] = Holder(Load(fleet, _SEED, WITHIN), f"holder-{grace}")
        killed = time.monotonic()
        servers.primary.kill()
        while not holders[_GRACE].since(killed + _GRACE):
            for holder in holders.values():
                holder.come()
        servers.fail_over()
        for holder in holders.values():
            holder.everywhere("/pass")
    for grace, holder in holders.items():
        for begun, answer in holder.seen:
            # What was read at the kill is good for a while, and what was read before it, less long.
            if begun - killed < grace - _FRESH:
                assert answer.status == 200
            elif begun - killed > max(grace, _FRESH):
                assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert len({answer.status for _, answer in holders[_GRACE].seen}) == 2


def fail_over(
    servers: Pair, load: Load, witness: Witness, holder: Holder, chance: random.Random
) -> tuple[float, float, float]:
    """Kill the primary at a random moment, and promote the other once everybody has noticed.

    Gives when it was killed, when the other was promoted, and when both workers sold again.
    """
    end = load.answers.total() + _MANY + chance.randrange(_MANY)
    await_(lambda: load.answers.total() > end, "answers", chance.uniform(0.001, 0.02))
    killed = time.monotonic()
    servers.primary.kill()
    await_(lambda: len(holder.since(killed + _FRESH)) > _MANY, "the holder of a pass")
    promoted = time.monotonic()
    servers.fail_over()
    return killed, promoted, witness.everywhere("/call")


def verdict(fleet: Fleet, store: Store) -> Iterator[str]:
    """Name all in which the record and those who were there differ.

    Nobody waits for a standby to have what a call sets aside: if that is lost with the primary,
    there is nothing to give back. The sums tell whether it was.
    """
    logs = Logs.read(fleet.folder / "logs")
    yield from unbooked(logs, store)
    present_all(fleet, logs.credentials, WITHIN)
    told = faults(Logs.read(fleet.folder / "logs"), store)
    yield from (each for each in told if _NOT_GIVEN_BACK not in each)


def misled(requests: Iterator[Request], begins: float, ends: float) -> Iterator[str]:
    """Name what was answered in an outage otherwise than by a pass, or by 503 and when to return.

    A 402 above all: who has paid would pay again.
    """
    for request in requests:
        if request.got and request.got["begun"] > begins and ended(request) < ends:
            waits = request.status == 503 and request.got["retry_after"]
            if not (waits or (request.path == "/pass" and request.status == 200)):
                yield f"{request.path} was answered {request.status} in the outage"


def ended(request: Request) -> float:
    return float(request.got["begun"] + request.got["seconds"])


def lines(folder: Path) -> Counter[str]:
    """Count what the workers logged, by how each line begins."""
    said = (folder / "gunicorn.log").read_text().splitlines()
    return Counter(line.partition(":")[0] for line in said if not re.match(r"\[", line))

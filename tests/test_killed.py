"""Workers are killed with SIGKILL under load, and every payment and use is accounted for.

This shows what the death of processes does. It does not show what a power cut does: what a process
wrote before it died, the operating system still has.

``KILLS`` says how many kills there are, ``KILLS_SEED`` what is drawn at random is drawn from; which
requests meet which kill is up to the machine.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.books import buy, damage, reserve
from support.killed_app import OUTSIDE, POINTS, TOGETHER
from support.killed_sabotage import SABOTAGES
from support.killed_verdict import Logs, faults, in_flight, unbooked
from support.killing import WITHIN, Fleet, Load, await_, kill, present_all
from support.sales import NOW, order

from l402.store import Store
from l402.store.replies import Answer, Call, Reply

pytest_plugins = ["support.databases"]

_KILLS = int(os.environ.get("KILLS", "40"))
_SEED = int(os.environ.get("KILLS_SEED", "1"))
_EVERYWHERE = (*POINTS, *[OUTSIDE] * 5, TOGETHER)
_SOON = 3  # seconds that a broken build gets to put itself right


@contextmanager
def noting(found: list[str]) -> Iterator[None]:
    """Note what did not come about in time, and go on."""
    try:
        yield
    except TimeoutError as error:
        found.append(str(error))


def killing(
    folder: Path, database: str, kills: int, points: Sequence[str], sabotage: str = ""
) -> tuple[Counter[str], list[str]]:
    """Kill under load, wait until nothing is in flight; give the kills and all that is wrong."""
    patience = _SOON if sabotage else WITHIN
    killed, found = Counter[str](), list[str]()
    with closing(Store(database)) as store, closing(Fleet(folder, database, sabotage)) as fleet:
        load = Load(fleet, _SEED, patience)
        with noting(found), load.running():
            kill(load, kills, points, killed)
        with noting(found):  # whoever asks for anything has the dead's uses given back
            await_(lambda: fleet.ask("/pass") and not in_flight(store), "quiet", 0.1, patience)
        logs = Logs.read(folder / "logs")
        found += unbooked(logs, store)
        with noting(found):
            present_all(fleet, logs.credentials, patience)
        found += faults(Logs.read(folder / "logs"), store)
        assert fleet.killed() == killed.total()
    return killed, found


@pytest.mark.usefixtures("store")
def test_nothing_is_lost_and_nothing_is_spent_twice(tmp_path: Path, database_url: str) -> None:
    """After kills at random and at every named point, the books agree with what customers saw."""
    killed, found = killing(tmp_path, database_url, _KILLS, _EVERYWHERE)
    assert found == []
    assert killed.total() >= _KILLS
    assert set(killed) == set(_EVERYWHERE) or len(_EVERYWHERE) > _KILLS


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("name", SABOTAGES)
def test_a_broken_build_is_found_out(tmp_path: Path, database_url: str, name: str) -> None:
    """What is broken on purpose does not pass for sound, and is told by its name."""
    sabotage = SABOTAGES[name]
    _, found = killing(tmp_path, database_url, sabotage.kills, sabotage.points, name)
    assert [fault for fault in found if sabotage.shows in fault], found


def test_a_stopped_process_keeps_its_answer(store: Store) -> None:
    """A call whose process was silent for too long is charged, and then its repeat is replayed."""
    buy(store, 1)
    call = Call(b"k" * 32, b"f" * 32)
    use_id = reserve(store, 1, call=call)
    damage(store, "DELETE FROM l402_lease")  # as if it had not been heard of for long
    assert store.uses.recover() == 1
    assert store.uses.take(use_id, Answer(200, "[]", b"fine")) == 8_000
    assert isinstance(store.uses.reserve(order(1), NOW, call), Reply)

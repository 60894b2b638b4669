import sys
import threading
from contextlib import suppress

import pytest
from support.clocks import Clock

from l402.errors import NodeBusy
from l402.nodes.slots import Slots

SOON = 30.0  # seconds: generous, for what must not be late


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stuck():
    """Jobs that block until the test ends, and say when they have begun."""
    release = threading.Event()
    begun = threading.Semaphore(0)

    def job():
        begun.release()
        release.wait(60)
        return "late"

    job.begun, job.release = begun, release
    yield job
    release.set()


def occupy(slots, job, number):
    """Take `number` of `slots` by calls of `job`, made on threads of their own."""
    callers = [threading.Thread(target=slots.run, args=(job,)) for _ in range(number)]
    for caller in callers:
        caller.start()
        assert job.begun.acquire(timeout=SOON)
    return callers


def test_a_job_returns_or_raises():
    """The result of a job, or its error, is the caller's, and its slot is free again."""
    slots = Slots(1)
    assert slots.run(lambda: 7) == 7
    for error in (KeyError("x"), TimeoutError("the job's own")):
        with pytest.raises(type(error)):
            slots.run(lambda error=error: (_ for _ in ()).throw(error))
    with pytest.raises(SystemExit):
        slots.run(sys.exit)
    assert slots.run(lambda: 8) == 8


def test_no_more_than_its_size_at_a_time():
    """Sixteen callers never have more than two calls in flight."""
    lock, running, most = threading.Lock(), [], []
    slots = Slots(2)

    def job():
        with lock:
            running.append(1)
            most.append(len(running))
        threading.Event().wait(0.001)
        with lock:
            running.pop()

    def caller():
        for _ in range(20):
            with suppress(NodeBusy):
                slots.run(job)

    callers = [threading.Thread(target=caller) for _ in range(16)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(SOON)
    assert max(most) <= 2


def test_a_call_without_a_slot_is_turned_away(stuck):
    """With all slots taken a call waits a moment, then never happens."""
    slots = Slots(2, Clock())
    callers = occupy(slots, stuck, 2)
    happened = []
    with pytest.raises(NodeBusy, match=r"every slot is taken$") as caught:
        slots.run(lambda: happened.append(1))
    assert caught.value.retry_after == 1
    stuck.release.set()
    for caller in callers:
        caller.join(SOON)
    assert slots.run(lambda: 7) == 7
    assert happened == []


def test_no_waiting_behind_a_call_that_hangs(stuck, clock):
    """Once the oldest call hangs, further ones are turned away at once."""
    slots = Slots(2, clock)
    occupy(slots, stuck, 2)
    clock.advance(0.26)
    with pytest.raises(NodeBusy, match="taken by a call that hangs"):
        slots.run(lambda: 7)


def test_no_waiting_without_patience(stuck, clock):
    """Who has reason to doubt the node is turned away as soon as all slots are taken."""
    slots = Slots(2, clock)
    occupy(slots, stuck, 1)
    assert slots.run(lambda: 7, patient=False) == 7
    occupy(slots, stuck, 1)
    clock.advance(0.01)
    with pytest.raises(NodeBusy, match="taken by a call that hangs"):
        slots.run(lambda: 7, patient=False)


def test_a_free_slot_is_used_beside_one_that_hangs(stuck, clock):
    """One call that hangs takes one slot, not all."""
    slots = Slots(2, clock)
    occupy(slots, stuck, 1)
    clock.advance(3600)
    assert slots.run(lambda: 7) == 7


def test_a_job_runs_on_its_caller_s_thread():
    """No call is handed from thread to thread."""
    assert Slots(1).run(threading.current_thread) is threading.current_thread()

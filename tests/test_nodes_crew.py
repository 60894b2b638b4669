import gc
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from support.clocks import Clock

from l402.errors import NodeBusy, NodeUnreachable
from l402.nodes.crew import Crew

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


def occupy(crew, job, slots):
    """Take `slots` threads of `crew` by calls of `job`, made on threads of their own."""
    callers = [threading.Thread(target=crew.run, args=(job, SOON)) for _ in range(slots)]
    for caller in callers:
        caller.start()
        assert job.begun.acquire(timeout=SOON)
    return callers


def test_a_job_returns_or_raises():
    """The result of a job, or its error, is the caller's."""
    crew = Crew(1)
    assert crew.run(lambda: 7, SOON) == 7
    for error in (KeyError("x"), TimeoutError("the job's own")):
        with pytest.raises(type(error)):
            crew.run(lambda error=error: (_ for _ in ()).throw(error), SOON)
    with pytest.raises(SystemExit):
        crew.run(sys.exit, SOON)
    assert crew.run(lambda: 8, SOON) == 8


def test_no_more_than_its_size_at_a_time():
    """Sixteen callers never have more than two calls in flight."""
    lock, running, most = threading.Lock(), [], []
    crew = Crew(2)

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
                crew.run(job, SOON)

    callers = [threading.Thread(target=caller) for _ in range(16)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(SOON)
    assert max(most) <= 2


def test_a_call_without_a_slot_is_turned_away(stuck):
    """With all slots taken a call waits a moment, then never happens."""
    crew = Crew(2, Clock())
    occupy(crew, stuck, 2)
    happened = []
    with pytest.raises(NodeBusy, match=r"every slot is taken$") as caught:
        crew.run(lambda: happened.append(1), SOON)
    assert caught.value.retry_after == 1
    stuck.release.set()
    assert crew.run(lambda: 7, SOON) == 7
    assert happened == []


def test_no_waiting_behind_a_call_that_hangs(stuck, clock):
    """Once the oldest call hangs, further ones are turned away at once."""
    crew = Crew(2, clock)
    occupy(crew, stuck, 2)
    clock.advance(0.26)
    with pytest.raises(NodeBusy, match="taken by a call that hangs"):
        crew.run(lambda: 7, SOON)


def test_no_waiting_without_patience(stuck, clock):
    """Who has reason to doubt the node is turned away as soon as all slots are taken."""
    crew = Crew(2, clock)
    occupy(crew, stuck, 1)
    assert crew.run(lambda: 7, SOON, patient=False) == 7
    occupy(crew, stuck, 1)
    clock.advance(0.01)
    with pytest.raises(NodeBusy, match="taken by a call that hangs"):
        crew.run(lambda: 7, SOON, patient=False)


def test_a_free_slot_is_used_beside_one_that_hangs(stuck, clock):
    """One call that hangs takes one slot, not all."""
    crew = Crew(2, clock)
    occupy(crew, stuck, 1)
    clock.advance(3600)
    assert crew.run(lambda: 7, SOON) == 7


def test_a_slot_is_taken_until_its_call_ends(stuck, clock):
    """A caller that gave up frees nothing: a dead node holds a bounded number of threads."""
    crew = Crew(1, clock)
    with pytest.raises(NodeUnreachable, match="no answer in time"):
        crew.run(stuck, 0.1)
    clock.advance(1)
    for _ in range(10):
        with pytest.raises(NodeBusy):
            crew.run(lambda: 7, SOON)
    assert crew._hired == 1
    stuck.release.set()
    deadline = time.monotonic() + SOON
    while crew._taken_for_more_than(0.0) and time.monotonic() < deadline:
        pass
    assert crew.run(lambda: 7, SOON) == 7


def test_its_threads_end_with_it():
    """A crew that nobody holds any more leaves no threads behind."""
    crew = Crew(3)
    threads = {crew.run(threading.current_thread, SOON) for _ in range(10)}
    del crew
    gc.collect()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


def test_a_call_that_hangs_does_not_keep_the_process():
    """The interpreter ends while a call is still in flight."""
    program = (
        "import threading\n"
        "from l402.errors import NodeUnreachable\n"
        "from l402.nodes.crew import Crew\n"
        "crew = Crew(2)\n"
        "try:\n"
        "    crew.run(threading.Event().wait, 0.1)\n"
        "except NodeUnreachable:\n"
        "    print('gave up')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=SOON, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"gave up\n", b"")

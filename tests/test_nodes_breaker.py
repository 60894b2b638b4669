import logging

import pytest
from support.clocks import Clock

from l402.errors import NodeBusy, NodeUnreachable
from l402.nodes.breaker import Breaker, Journal


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker(clock)


@pytest.fixture
def journal(clock, caplog):
    caplog.set_level(logging.INFO, logger="l402.node")
    return Journal("a node", clock)


def fail(breaker, times):
    for _ in range(times):
        breaker.admit()
        breaker.failed()


def is_open(breaker):
    try:
        breaker.admit()
    except NodeBusy:
        return True
    return False


def test_five_failures_open_it(breaker):
    """Four failures in a row change nothing, the fifth opens the breaker."""
    fail(breaker, 4)
    breaker.admit()
    breaker.failed()
    with pytest.raises(NodeBusy) as caught:
        breaker.admit()
    assert 1 <= caught.value.retry_after <= 2


def test_failures_far_apart_open_it(breaker, clock):
    """Five failures in a row are enough however slowly they come: each took a caller's time."""
    for _ in range(5):
        assert not is_open(breaker)
        breaker.failed()
        clock.advance(5.0)
    fail(breaker, 1)
    assert is_open(breaker)


def test_an_answer_in_between_counts(breaker):
    """Failures are counted in a row: a node that answers now and then is called on."""
    for _ in range(5):
        fail(breaker, 4)
        breaker.answered()
    assert not is_open(breaker)


def test_one_probe_passes_after_the_pause(breaker, clock):
    """After the pause exactly one call passes, until it is known what became of it."""
    fail(breaker, 5)
    clock.advance(0.9)
    assert is_open(breaker)
    clock.advance(1.1)
    breaker.admit()
    assert is_open(breaker)
    clock.advance(5.0)
    assert is_open(breaker)


def test_a_probe_that_succeeds_closes_it(breaker, clock):
    """A probe that is answered ends the outage for everybody."""
    fail(breaker, 5)
    clock.advance(2.0)
    breaker.admit()
    breaker.answered()
    fail(breaker, 4)
    assert not is_open(breaker)


def test_a_probe_that_fails_keeps_it_open(breaker, clock):
    """One failed probe is enough for another pause."""
    fail(breaker, 5)
    for _ in range(3):
        clock.advance(2.0)
        breaker.admit()
        breaker.failed()
        clock.advance(0.9)
        assert is_open(breaker)


def test_a_probe_that_was_not_made_is_another_s(breaker, clock):
    """A probe for which no slot was free leaves its right to the next call."""
    fail(breaker, 5)
    clock.advance(2.0)
    breaker.admit()
    breaker.withdrawn()
    breaker.admit()
    assert is_open(breaker)


def test_a_probe_that_is_never_heard_of_again(breaker, clock):
    """A caller that dies with its probe does not keep the breaker open for ever."""
    fail(breaker, 5)
    clock.advance(2.0)
    breaker.admit()
    clock.advance(6.1)
    breaker.admit()


def test_doubt_begins_with_the_first_failure(breaker):
    """A node is doubtful from its first failure to its next answer."""
    assert not breaker.doubtful
    fail(breaker, 1)
    assert breaker.doubtful
    breaker.answered()
    assert not breaker.doubtful


def test_processes_probe_at_different_times():
    """The pause is drawn anew, so that a fleet does not probe at one moment."""
    pauses = set()
    for _ in range(20):
        breaker = Breaker(lambda: 0.0)
        fail(breaker, 5)
        pauses.add(breaker._next_probe)
    assert len(pauses) > 10
    assert all(1.0 <= pause <= 1.9 for pause in pauses)


def test_one_line_down_and_one_back(journal, caplog):
    """An outage is two lines, however many requests it meets."""
    for _ in range(100):
        journal.failed(NodeUnreachable("no answer in time"))
    for _ in range(100):
        journal.answered()
    assert caplog.messages == ["'a node': no answer in time", "'a node': answers again"]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_each_fault_of_an_outage_once(journal, caplog):
    """What changes is reported, what comes back in turn is not."""
    for _ in range(50):
        journal.failed(NodeUnreachable("reset"))
        journal.failed(NodeUnreachable("refused"))
    assert caplog.messages == ["'a node': reset", "'a node': refused"]


def test_a_healthy_node_is_not_mentioned(journal, caplog):
    """Success alone writes nothing."""
    journal.answered()
    assert caplog.messages == []


def test_a_second_outage_is_reported(journal, clock, caplog):
    """The same fault, later, is news."""
    for _ in range(2):
        journal.failed(NodeUnreachable("refused"))
        journal.answered()
        clock.advance(10.1)
    assert len(caplog.messages) == 4


def test_a_node_that_comes_and_goes(journal, clock, caplog):
    """A fault on every second request does not fill the log."""
    for _ in range(1000):
        journal.failed(NodeUnreachable("refused"))
        journal.answered()
        clock.advance(0.02)
    assert len(caplog.messages) == 4  # within 20 s


def test_a_fault_that_is_worded_anew_each_time(journal, clock, caplog):
    """A message that is never the same is bounded too, within an outage and over several."""
    for number in range(1000):
        journal.failed(NodeUnreachable(f"payment hash {number}"))
    assert len(caplog.messages) == 16
    for number in range(1000):
        journal.answered()
        journal.failed(NodeUnreachable(f"payment hash {number}"))
    assert len(caplog.messages) < 50

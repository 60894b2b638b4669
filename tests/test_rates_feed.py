import logging
import os
import signal
import threading
from contextlib import suppress
from decimal import Decimal

import pytest
from support.clocks import Clock

from l402.errors import RateError
from l402.rates import feed as rate_feed
from l402.rates.feed import Feed
from l402.rates.rate import Reading
from l402.rates.sources import Source

MAX_AGE = 600


class Scripted(Source):
    """Says what a test tells it to, and can be held up."""

    def __init__(self, said="97000"):
        self.said = said
        self.left_out = {}
        self.readings = 0
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()

    def read(self, _currency):
        self.readings += 1
        self.begun.release()
        self.go_on.wait(60)
        if isinstance(self.said, Exception):
            raise self.said
        return Reading(Decimal(self.said), self.left_out)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def source():
    source = Scripted()
    yield source
    source.go_on.set()


@pytest.fixture
def feed(source, clock):
    return Feed(source, "USD", MAX_AGE, clock)


@pytest.fixture
def impatient(monkeypatch):
    """A request waits a short time for a reading."""
    monkeypatch.setattr(rate_feed, "_PATIENCE", 0.05)


def land(feed):
    """Wait for the reading under way, if there is one."""
    if flight := feed._flight:
        assert flight._landed.wait(30)


def price(feed):
    return int(feed.rate().per_bitcoin)


def later(feed, clock, seconds):
    """Let time pass, have the rate asked for and read if it is due; return the one then known."""
    clock.advance(seconds)
    with suppress(RateError):
        price(feed)
    land(feed)
    return price(feed)


def refused(feed):
    with pytest.raises(RateError) as caught:
        feed.rate()
    return caught.value


def test_the_first_request_waits_for_a_reading(feed, clock):
    """Without a rate a request has one read, and it is as old as the question."""
    rate = feed.rate()
    assert rate.words == "USD 97000"
    assert rate.read_at == clock.now


def test_nothing_is_read_before_it_is_asked_for(feed, source):
    """A feed that nobody asks reads nothing."""
    assert source.readings == 0


def test_is_read_at_most_once_a_minute(feed, source, clock):
    """Within a minute a rate is not read again."""
    for _ in range(60):
        assert price(feed) == 97000
        clock.advance(0.999)
    assert source.readings == 1


def test_the_old_rate_serves_while_the_new_is_read(feed, source, clock):
    """After a minute one request has it read, and none waits for that."""
    price(feed)
    source.go_on.clear()
    source.said = "98000"
    clock.advance(60)
    assert [price(feed) for _ in range(20)] == [97000] * 20
    assert source.begun.acquire(timeout=30)
    source.go_on.set()
    land(feed)
    assert price(feed) == 98000
    assert source.readings == 2


def test_threads_share_one_reading(feed, source):
    """Many requests at once without a rate cause one reading, and all get its result."""
    source.go_on.clear()
    together, found = threading.Barrier(16), []

    def ask():
        together.wait(30)
        found.append(price(feed))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    assert source.begun.acquire(timeout=30)
    source.go_on.set()
    for thread in threads:
        thread.join(30)
    assert found == [97000] * 16
    assert source.readings == 1


@pytest.mark.parametrize(("age", "good"), [(MAX_AGE, True), (MAX_AGE + 0.001, False)])
def test_the_edge_of_its_age(feed, source, clock, age, good):
    """A rate of exactly the maximal age is in force, a moment later it is not."""
    price(feed)
    source.said = RateError("is down")
    clock.advance(age)
    if good:
        assert price(feed) == 97000
        land(feed)
        assert price(feed) == 97000
    else:
        assert str(refused(feed)) == "no rate of USD: is down"


def test_a_clock_that_was_set_back(feed, source, clock):
    """A rate from the future has no known age, and is read anew."""
    price(feed)
    clock.advance(-1)
    source.said = "98000"
    assert later(feed, clock, 0) == 98000
    clock.advance(-1)
    source.said = RateError("is down")
    refused(feed)


def test_a_failure_is_not_tried_again_at_once(feed, source, clock):
    """After a failure all are refused for a minute and told when to come again."""
    source.said = RateError("is down")
    assert refused(feed).retry_after == 60
    clock.advance(45)
    assert refused(feed).retry_after == 15
    assert source.readings == 1
    source.said = "97000"
    clock.advance(15)
    assert price(feed) == 97000
    assert source.readings == 2


@pytest.mark.usefixtures("impatient")
def test_a_source_that_hangs(feed, source, clock, caplog):
    """Nobody waits long for a source that hangs, it is not asked twice, and one line tells."""
    source.go_on.clear()
    assert [str(refused(feed)) for _ in range(3)] == ["no rate of USD: no answer in time"] * 3
    clock.advance(3600)
    assert refused(feed).retry_after == 1
    assert source.readings == 1
    assert len(caplog.messages) == 1
    source.go_on.set()
    land(feed)
    assert price(feed) == 97000  # an hour late is too old: read anew
    assert source.readings == 2


def test_an_error_that_nobody_thought_of(feed, source):
    """Any exception of a source is a RateError, without its text."""
    source.said = ValueError("canary")
    assert str(refused(feed)) == "no rate of USD: its source failed with ValueError"


def test_no_thread_can_be_begun(feed, clock, monkeypatch):
    """Where the system gives no thread, there is no rate until it does."""

    def none(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        assert "no thread could be begun" in str(refused(feed))
    clock.advance(60)
    assert price(feed) == 97000


@pytest.mark.parametrize("moved", ["77600", "116400", "97000", "80000"])
def test_a_fifth_is_believed(feed, source, clock, moved):
    """A move of up to 20 % is believed at once."""
    price(feed)
    source.said = moved
    assert later(feed, clock, 60) == int(moved)


@pytest.mark.parametrize("moved", ["77599.9", "116400.1", "0.001", "9999999999999", "1"])
def test_a_jump_is_not_believed(feed, source, clock, moved):
    """A move of more than 20 % leaves the last rate in force till its end, and then none."""
    price(feed)
    source.said = moved
    for _ in range(10):
        assert later(feed, clock, 60) == 97000
    clock.advance(1)
    assert "more than a fifth off the last, USD 97000" in str(refused(feed))


def test_a_jump_that_lasts_is_believed(feed, source, clock):
    """Still there the maximal age after it was first seen, a jump is the new rate."""
    price(feed)
    source.said = "60000"
    assert later(feed, clock, 60) == 97000
    clock.advance(MAX_AGE - 1)
    assert refused(feed).retry_after == 60  # read a second early, and next in a minute
    clock.advance(60)
    assert price(feed) == 60000


def test_says_when_a_jump_may_be_believed(feed, source, clock):
    """Whoever is refused for a jump is told when it may be believed."""
    price(feed)
    clock.advance(MAX_AGE + 1)
    source.said = "60000"
    assert refused(feed).retry_after == MAX_AGE
    clock.advance(100)
    assert refused(feed).retry_after == MAX_AGE - 100


def test_a_jump_that_goes_back(feed, source, clock):
    """A reading near the last rate ends the doubt; the next jump waits its full time."""
    price(feed)
    for said in ("60000", "97500", "60000"):
        source.said = said
        later(feed, clock, 60)
    assert price(feed) == 97500
    assert later(feed, clock, MAX_AGE - 60) == 97500


def test_a_jump_that_goes_on_jumping(feed, source, clock):
    """Each further jump begins the wait anew."""
    price(feed)
    clock.advance(MAX_AGE + 1)
    for said in ("60000", "40000", "25000", "15000"):
        source.said = said
        refused(feed)
        clock.advance(MAX_AGE - 1)
    source.said = "15500"
    refused(feed)
    clock.advance(60)
    assert price(feed) == 15500


def test_a_jump_after_a_long_silence(feed, source, clock):
    """However old the last rate is, a jump from it is not believed at once."""
    price(feed)
    clock.advance(30 * 86400)
    source.said = "9700000"
    refused(feed)
    clock.advance(MAX_AGE)
    assert price(feed) == 9700000


def test_a_short_age_is_read_more_often(source, clock):
    """Where a rate lives less than two minutes it is read twice in its life."""
    feed = Feed(source, "USD", 30, clock)
    price(feed)
    source.said = "97001"
    clock.advance(14.9)
    assert price(feed) == 97000
    assert later(feed, clock, 0.1) == 97001


def test_one_line_for_an_outage_and_one_for_its_end(feed, source, clock, caplog):
    """However many are refused, the log tells once what is wrong and once that it is over."""
    source.said = RateError("a.example: answered 403")
    for _ in range(5):
        refused(feed)
        clock.advance(60)
    source.said = "97000"
    for _ in range(5):
        assert later(feed, clock, 60) == 97000
    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            "l402.rates",
            logging.ERROR,
            "no rate of USD, nothing is sold in it: a.example: answered 403",
        ),
        ("l402.rates", logging.WARNING, "USD 97000 read with nothing left out"),
    ]


def test_says_that_the_last_rate_is_still_in_force(feed, source, clock, caplog):
    """While the last rate bridges an outage, the line says so and is a warning."""
    price(feed)
    source.said = RateError("is down")
    later(feed, clock, 60)
    later(feed, clock, 60)
    assert caplog.messages == ["no rate of USD, USD 97000 is still in force: is down"]
    assert caplog.records[0].levelno == logging.WARNING


def test_says_that_nothing_is_sold_any_more(feed, source, clock, caplog):
    """When the bridge ends, that is an error of its own."""
    price(feed)
    source.said = RateError("is down")
    for _ in range(10):
        later(feed, clock, 60)
    clock.advance(1)  # not yet time for another reading
    refused(feed)
    clock.advance(60)
    refused(feed)
    assert caplog.messages[1:] == ["no rate of USD, nothing is sold in it: is down"]
    assert caplog.records[1].levelno == logging.ERROR


def test_says_who_is_left_out(feed, source, clock, caplog):
    """A source that is left out is told of once, with the reason, and once that it is back."""
    source.left_out = {"a.example": "answered 500"}
    price(feed)
    for reason in ("no answer in time", "answered 500"):
        source.left_out = {"a.example": reason}
        later(feed, clock, 60)
    source.left_out = {}
    later(feed, clock, 60)
    assert caplog.messages == [
        "USD 97000 read without a.example: answered 500",
        "USD 97000 read with nothing left out",
    ]


def test_says_that_it_jumped(feed, source, clock, caplog):
    """A jump is told of once while it lasts, and once when it is believed."""
    price(feed)
    source.said = "60000"
    for _ in range(10):
        later(feed, clock, 60)
    clock.advance(60)
    assert price(feed) == 60000
    land(feed)
    assert caplog.messages == [
        "no rate of USD, USD 97000 is still in force: USD 60000 is more than a fifth off the last,"
        " USD 97000: not believed until it is still there 600 s after it was first seen",
        "USD 60000 read with nothing left out",
    ]


def test_a_forked_child_reads_for_itself(feed, source):
    """A child forked in mid-reading, with the lock held, has its own reading and gets a rate."""
    source.go_on.clear()
    asking = threading.Thread(target=feed.rate)
    asking.start()
    assert source.begun.acquire(timeout=30)
    with feed._lock:
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)  # a child that waits for its parent's lock or thread ends
            source.go_on = threading.Event()
            source.go_on.set()
            os._exit(0 if price(feed) == 97000 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    source.go_on.set()
    asking.join(30)


def test_a_forked_child_keeps_the_last_rate(feed, source, clock):
    """What a child's first reading is compared with is what its parent last believed."""
    price(feed)
    clock.advance(MAX_AGE + 1)
    source.said = "1000"
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        try:
            feed.rate()
        except RateError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

"""Rate limits: whose bucket counts, how long to wait, and what holds while the storage is down."""

import logging
import threading
import time

import pytest
from flask import Flask
from flask_limiter import Limiter
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from support.clocks import Clock
from support.redis_servers import Redis, running

from l402.errors import ConfigurationError
from l402.limits import Limits, parse_rates
from l402.storages import Strategy, host_limiter, private_limiter

TOKEN, OTHER = b"\x01" * 32, b"\x02" * 32


def rates(text):
    return parse_rates(text, "the test's limit")


def make_limits(limiter=None, *, token="3/hour", challenge="8/hour", total="100/hour", **given):
    counter = Strategy(FixedWindowRateLimiter(MemoryStorage()))
    return Limits(
        token=rates(token),
        challenge=rates(challenge),
        challenge_total=rates(total),
        limiter=limiter or (lambda: counter),
        **given,
    )


def admitted(call, most=200):
    """How many calls are let in before the first one that has to wait."""
    return next((number for number in range(most) if call()), most)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60/minute", [(60, 60)]),
        ("60 per minute", [(60, 60)]),
        ("1000000000 PER Month", [(10**9, 2_592_000)]),
        ("1/2 hours", [(1, 7200)]),
        ("5/second;1000/day", [(5, 1), (1000, 86400)]),
        ("5/second, 1000/day", [(5, 1), (1000, 86400)]),
    ],
)
def test_parses_rates(text, expected):
    """A limit, or several, are read as amounts and lengths in seconds."""
    assert [(rate.amount, rate.get_expiry()) for rate in rates(text)] == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "60", "60/", "/minute", "x/minute", "60/fortnight", "-1/minute", "1.5/minute",
     "60/minute;", "60/minute;x", "x;60/minute", "60/minute 5/hour", "0/minute", "5/second;0/day",
     "1/0 days", "9" * 5000 + "/minute", "60/\N{LATIN SMALL LETTER LONG S}econd",
     None, 60, True, b"60/minute", ["60/minute"], {}],
)  # fmt: skip
def test_refuses_rates(text):
    """What is no limit, or lets nobody in, is refused by the name of its setting."""
    with pytest.raises(ConfigurationError, match=r"^L402_RATE_LIMIT: ") as caught:
        parse_rates(text, "L402_RATE_LIMIT")
    assert "write '60/minute'" in str(caught.value) or "the least is 1" in str(caught.value)


_WORDS = [
    "60", "1", "007", " ", "\t", "\n", "/", "per", "minute", "minutes", "Second", "hour", "days",
    "month", "years", "week", ";", ",", "|", "x", "-1", "1.5", "\N{ARABIC-INDIC DIGIT THREE}",
    "\N{LATIN SMALL LETTER LONG S}econd",
]  # fmt: skip


@settings(deadline=None, max_examples=2000)
@given(st.lists(st.sampled_from(_WORDS), max_size=9).map("".join))
def test_reads_rates_as_flask_limiter_does(text):
    """A text means the same to both, or neither takes it."""
    try:
        theirs = [(rate.amount, rate.get_expiry()) for rate in parse_many(text)]
    except (ValueError, TypeError):
        theirs = []
    if not theirs:
        with pytest.raises(ConfigurationError):
            rates(text)
    else:
        found = [(rate.amount, rate.seconds) for rate in rates(text)]
        assert found == sorted(theirs, key=lambda each: each[1])


def test_one_bucket_per_token():
    """A token has one bucket over all views, and none of another's."""
    limits = make_limits()
    calls = iter(["quote", "fact", "echo", "quote"] * 2)
    assert admitted(lambda: limits.admit(TOKEN, None, next(calls))) == 3
    assert limits.admit(OTHER, None, "quote") == 0


def test_a_views_own_bucket():
    """A view's own limit counts by token and endpoint, apart from the token's bucket."""
    limits = make_limits()
    own = rates("2/hour")
    assert admitted(lambda: limits.admit(TOKEN, own, "quote")) == 2
    assert admitted(lambda: limits.admit(TOKEN, own, "fact")) == 2
    assert admitted(lambda: limits.admit(OTHER, own, "quote")) == 2
    assert admitted(lambda: limits.admit(TOKEN, None, "quote")) == 3


def test_challenges_by_address():
    """Challenges count by address, and an IPv6 network is one caller."""
    limits = make_limits()
    assert admitted(lambda: limits.admit_challenge("192.0.2.1")) == 8
    assert limits.admit_challenge("192.0.2.2") == 0
    hosts = iter(range(1, 100))
    assert admitted(lambda: limits.admit_challenge(f"2001:db8::{next(hosts):x}")) == 8
    assert limits.admit_challenge("2001:db8:0:1::1") == 0


def test_challenges_without_an_address():
    """Callers whose address is unknown are counted too, in one bucket."""
    limits = make_limits()
    addresses = iter([None, "", "unix:"] * 5)
    assert admitted(lambda: limits.admit_challenge(next(addresses))) == 8


def test_challenges_in_total():
    """Many addresses together meet the total."""
    limits = make_limits(total="20/hour")
    hosts = iter(range(1, 200))
    assert admitted(lambda: limits.admit_challenge(f"192.0.2.{next(hosts)}")) == 20


def test_inquiries_have_their_own_bucket():
    """Questions about a credential are limited by address and take no challenges away."""
    limits = make_limits()
    assert admitted(lambda: limits.admit_inquiry("192.0.2.1")) == 8
    assert limits.admit_challenge("192.0.2.1") == 0


@pytest.mark.parametrize("strategy", [FixedWindowRateLimiter, MovingWindowRateLimiter])
def test_seconds_to_wait(strategy):
    """The wait is whole seconds, no shorter than the window that is full, and at least 1."""
    counter = Strategy(strategy(MemoryStorage()))
    limits = make_limits(lambda: counter, token="1/hour;2/day")
    before = time.time()
    assert limits.admit(TOKEN, None, "quote") == 0
    wait = limits.admit(TOKEN, None, "quote")
    elapsed = time.time() - before
    assert isinstance(wait, int)
    assert 3600 - elapsed <= wait <= 3600


def test_waits_for_the_last_of_several():
    """Where several limits are full the longest wait is named."""
    limits = make_limits(token="1/hour;1/day")
    limits.admit(TOKEN, None, "quote")
    assert limits.admit(TOKEN, None, "quote") > 3600


def test_waits_no_less_than_a_second():
    """A window that ends at once still names a wait: 0 would mean admitted."""
    limits = make_limits(token="1/second")
    waits = [limits.admit(TOKEN, None, "quote") for _ in range(50)]
    assert set(waits) <= {0, 1}
    assert 1 in waits


class FailingStorage:
    """A limiter whose storage can be taken away."""

    def __init__(self):
        self.down, self.asked = False, 0
        self.limiter = Strategy(FixedWindowRateLimiter(MemoryStorage()))

    def __call__(self):
        self.asked += 1
        if self.down:
            raise ConnectionError("redis://:canary@host is away")
        return self.limiter


def test_storage_down(caplog):
    """While the storage is down paid requests count per process, and challenges at a quarter."""
    storage, clock = FailingStorage(), Clock()
    limits = make_limits(storage, monotonic=clock)
    storage.down = True
    assert admitted(lambda: limits.admit(TOKEN, None, "quote")) == 3
    assert admitted(lambda: limits.admit_challenge("192.0.2.1")) == 2
    assert admitted(lambda: limits.admit_inquiry("192.0.2.1")) == 2
    assert limits.admit(OTHER, None, "quote") == 0
    assert "ConnectionError" in caplog.text
    assert "canary" not in caplog.text


def test_small_limits_while_the_storage_is_down():
    """A share of a small limit is still one."""
    storage = FailingStorage()
    storage.down = True
    limits = make_limits(storage, challenge="1/hour", monotonic=Clock())
    assert admitted(lambda: limits.admit_challenge("192.0.2.1")) == 1


def test_storage_back(caplog):
    """A dead storage is asked once a second and no more; when it is back it counts again.

    Each is said once, however long the storage was away.
    """
    storage, clock = FailingStorage(), Clock()
    limits = make_limits(storage, monotonic=clock)
    assert limits.admit(TOKEN, None, "quote") == 0
    storage.down = True
    storage.asked = 0
    for _ in range(10):
        limits.admit(TOKEN, None, "quote")
    assert storage.asked == 1
    clock.advance(1.1)
    limits.admit(OTHER, None, "quote")
    assert storage.asked == 2
    assert len(caplog.records) == 1
    storage.down = False
    clock.advance(0.9)
    limits.admit(OTHER, None, "quote")
    assert storage.asked == 2
    clock.advance(0.2)
    assert admitted(lambda: limits.admit(TOKEN, None, "quote")) == 2  # one was counted before
    assert [each.getMessage() for each in caplog.records][1:] == [
        "the rate limits' storage counts again"
    ]
    storage.down = True
    limits.admit(TOKEN, None, "quote")
    assert len(caplog.records) == 3


def test_a_late_answer_of_a_dead_storage(caplog):
    """An answer to what was asked before the storage failed does not say that it is back."""
    storage = FailingStorage()
    storage.down = True
    firsts = iter([True])

    def reach():
        if next(firsts, False):
            limits.admit(OTHER, None, "quote")  # meanwhile another one fails
            storage.down = False
        return storage()

    limits = make_limits(reach, monotonic=Clock())
    assert limits.admit(TOKEN, None, "quote") == 0
    asked = storage.asked
    limits.admit(TOKEN, None, "quote")
    assert storage.asked == asked
    assert len(caplog.records) == 1


def test_tells_of_a_failure_once_however_many_meet_it(caplog):
    """Who meets the failure while another one is telling of it adds nothing."""
    storage = FailingStorage()
    storage.down = True
    limits = make_limits(storage, monotonic=Clock())

    def tell(_):
        if len(caplog.records) < 5:
            limits.admit(OTHER, None, "quote")
        return True

    logging.getLogger("l402.limits").addFilter(tell)
    try:
        limits.admit(TOKEN, None, "quote")
    finally:
        logging.getLogger("l402.limits").removeFilter(tell)
    assert len(caplog.records) == 1


def test_set_up_starts_no_thread():
    """Until the first request nothing runs: a thread would not live through a fork."""
    before = set(threading.enumerate())
    Limits(
        token=rates("1/hour"),
        challenge=rates("1/hour"),
        challenge_total=rates("1/hour"),
        limiter=private_limiter({}, None),
    )
    assert set(threading.enumerate()) <= before


def test_a_hosts_limiter():
    """A host's own Limiter, initialised later, lends its storage, and its routes get no limit."""
    limiter = Limiter(key_func=lambda: "anybody", storage_uri="memory://")
    limits = make_limits(host_limiter(limiter))
    app = Flask("host")
    limiter.init_app(app)
    assert admitted(lambda: limits.admit(TOKEN, None, "quote")) == 3
    assert any(TOKEN.hex() in key for key in limiter.storage.storage)


def test_a_limiter_of_our_own():
    """Without one a Limiter is made at first use, with the host's strategy, and kept."""
    reach = private_limiter(
        {"RATELIMIT_STRATEGY": "moving-window", "RATELIMIT_ENABLED": False}, None
    )
    assert isinstance(reach().strategy, MovingWindowRateLimiter)
    assert reach() is reach()
    limits = make_limits(reach)
    assert admitted(lambda: limits.admit(TOKEN, None, "quote")) == 3


def test_a_storage_of_our_own():
    """Our own storage's setting goes before the host's."""
    reach = private_limiter({"RATELIMIT_STORAGE_URI": "redis://127.0.0.1:1"}, "memory://")
    assert isinstance(reach().strategy.storage, MemoryStorage)


@pytest.fixture
def redis_server(tmp_path):
    with running(Redis(tmp_path)) as server:
        yield server


@pytest.mark.redis
def test_redis_counts_over_processes(redis_server):
    """Two processes with one Redis share their buckets."""
    one = make_limits(private_limiter({"RATELIMIT_STORAGE_URI": redis_server.uri}, None))
    other = make_limits(private_limiter({}, redis_server.uri))
    assert one.admit(TOKEN, None, "quote") == 0
    assert other.admit(TOKEN, None, "quote") == 0
    assert one.admit(TOKEN, None, "quote") == 0
    assert 1 <= other.admit(TOKEN, None, "quote") <= 3600


@pytest.mark.redis
def test_redis_dies_and_comes_back(redis_server):
    """Without Redis each process counts for itself; when it is back they count together."""
    clock = Clock()
    limits = make_limits(private_limiter({}, redis_server.uri), monotonic=clock)
    assert admitted(lambda: limits.admit(TOKEN, None, "quote")) == 3
    redis_server.stop()
    assert admitted(lambda: limits.admit(TOKEN, None, "quote")) == 3
    assert admitted(lambda: limits.admit_challenge("192.0.2.1")) == 2
    redis_server.start()  # empty, as nothing was saved
    clock.advance(2)
    assert admitted(lambda: limits.admit(TOKEN, None, "quote")) == 3
    assert admitted(lambda: limits.admit_challenge("192.0.2.1")) == 8


def test_a_full_window_costs_no_longer_one():
    """What the short window refuses is not counted in the long one."""
    limits = make_limits(token="20/day;2/hour")
    for _ in range(40):
        limits.admit(TOKEN, None, "quote")
    assert limits.admit(TOKEN, None, "quote") <= 3600


def test_a_flood_of_addresses_cannot_reset_the_total():
    """While the total is full no address is counted, so none can push the total out."""
    limits = make_limits(private_limiter({}, None), total="100/day")
    admitted = sum(
        not limits.admit_challenge(f"2001:db8:{n >> 16:x}:{n & 65535:x}::1") for n in range(70_000)
    )
    assert admitted == 100


def test_a_flood_of_inquiries_cannot_reset_the_total():
    """Inquiries have a total of their own, which they take from nobody."""
    limits = make_limits(private_limiter({}, None), total="100/day")
    hosts = iter(range(1, 200))
    assert admitted(lambda: limits.admit_challenge(f"192.0.2.{next(hosts)}")) == 100
    places = (f"2001:db8:{n >> 16:x}:{n & 65535:x}::1" for n in range(70_000))
    assert sum(not limits.admit_inquiry(place) for place in places) == 100
    assert limits.admit_challenge("192.0.2.200") > 0


@pytest.mark.parametrize("strategy", ["fixed-window", "moving-window"])
def test_a_bucket_that_is_known_counts_with_all_others(strategy):
    """Whoever counts by a bucket at hand meets the requests that were counted without it."""
    limits = make_limits(private_limiter({"RATELIMIT_STRATEGY": strategy}, None), token="3/hour")
    assert limits.admit(TOKEN, None, "quote") == 0
    count = limits.bucket(TOKEN, None, "quote")
    assert [count(), limits.admit(TOKEN, None, "quote")] == [0, 0]
    assert 3590 <= count() <= 3600
    assert 3590 <= limits.admit(TOKEN, None, "quote") <= 3600
    assert limits.bucket(OTHER, None, "quote")() == 0


def test_a_bucket_that_is_known_has_all_its_windows():
    """The shortest window is asked first, and each that is full says how long it stays so."""
    limits = make_limits(private_limiter({}, None), token="4/hour;2/minute")
    assert limits.admit(TOKEN, None, "quote") == 0
    count = limits.bucket(TOKEN, None, "quote")
    assert [count() == 0, 1 <= count() <= 60] == [True, True]
    assert limits.admit(TOKEN, None, "quote") <= 60

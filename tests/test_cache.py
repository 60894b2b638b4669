"""The cache of verified credentials: exact texts, bounded, evicted on demand."""

import random
import threading
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from l402.cache import VerifiedTokens
from l402.protocol.token import PASS, Grant, Token

GRANT = Grant("weather", PASS, 10_000, "simulated", 1, 2, 3, 4, "GET", "quote", "l", 10_000, "")


def token(number, payment=0):
    return Token(payment.to_bytes(32, "big"), number.to_bytes(32, "big"), GRANT)


def test_remembers_exact_texts():
    """A text is found as it was put, and no other spelling of it."""
    cache = VerifiedTokens()
    tokens = (token(1), token(2))
    cache.put("L402 a:b", tokens)
    assert cache.get("L402 a:b") is tokens
    for other in ("l402 a:b", "L402 a:c", "L402 a:b ", "", "L402 a:\udcff", "L402 a:\u20ac"):
        assert cache.get(other) is None


def test_holds_no_text():
    """What is kept of a credential is a digest: a dump of the cache shows no preimage."""
    cache = VerifiedTokens()
    cache.put("L402 a:canary", (token(1),))
    assert "canary" not in repr(vars(cache))


def test_is_bounded():
    """Beyond its size the oldest entries go."""
    cache = VerifiedTokens(size=3)
    for number in range(5):
        cache.put(f"text {number}", (token(number),))
    assert len(cache) == 3
    assert [n for n in range(5) if cache.get(f"text {n}")] == [2, 3, 4]


def test_few_texts_per_token():
    """A holder who writes one token in many ways takes few places, and crowds nobody out."""
    cache = VerifiedTokens(size=100, texts_per_token=4)
    cache.put("bystander", (token(2),))
    for number in range(1000):
        cache.put(f"spelling {number}", (token(1),))
    assert len(cache) == 5
    assert cache.get("bystander")
    assert [n for n in range(1000) if cache.get(f"spelling {n}")] == [996, 997, 998, 999]


def test_putting_twice_changes_nothing():
    """A text that is known already keeps its tokens, and with them what they have booked."""
    cache = VerifiedTokens()
    first = (token(1),)
    cache.put("text", first)
    cache.put("text", (token(1),))
    assert cache.get("text") is first
    assert len(cache) == 1


def test_evicts_what_matches():
    """Every entry that shows a matching token goes, in all its spellings, others stay."""
    cache = VerifiedTokens()
    cache.put("a", (token(1),))
    cache.put("b", (token(1),))
    cache.put("both", (token(1), token(2)))
    cache.put("c", (token(2),))
    cache.evict(lambda shown: shown.token_id == token(1).token_id)
    assert [text for text in ("a", "b", "both", "c") if cache.get(text)] == ["c"]
    cache.evict(lambda _shown: True)
    assert len(cache) == 0


def test_one_token_several_times_in_a_text():
    """One text may show a token in four spellings at once; it goes as it came."""
    cache = VerifiedTokens()
    for number in range(10):
        cache.put(f"text {number}", tuple(token(1, payment) for payment in range(4)))
    assert 1 <= len(cache) <= 4
    assert cache.get("text 9")
    cache.evict(lambda _shown: True)
    cache.put("again", (token(1),))
    assert len(cache) == 1


CALLS = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.lists(st.integers(0, 4), min_size=1, max_size=4),
        st.booleans(),
    ),
    max_size=60,
)


@given(CALLS)
def test_keeps_its_books(calls):
    """Whatever is put and evicted: no more than the size, no more than the texts, nothing left."""
    cache = VerifiedTokens(size=6, texts_per_token=4)
    for text, numbers, evict in calls:
        if evict:
            cache.evict(lambda shown, first=numbers[0]: shown.token_id[-1] == first)
        else:
            cache.put(str(text), tuple(map(token, numbers)))
        known = [cache.get(str(n)) for n in range(13) if cache.get(str(n))]
        assert len(cache) == len(known) <= 6
        for number in range(5):
            assert sum(token(number) in tokens for tokens in known) <= 4
    cache.evict(lambda _shown: True)
    assert not cache._tokens
    assert not cache._texts


def test_many_entries_are_small():
    """Ten thousand entries take a few megabytes, however long the texts that showed them."""
    tracemalloc.start()
    try:
        cache = VerifiedTokens(size=10_000)
        for number in range(12_000):
            cache.put(f"{number} " + "x" * 2000, (token(number),))
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) == 10_000
    assert held < 12 * 2**20


def test_threads():
    """Threads that put and evict at once leave the books in order."""
    cache = VerifiedTokens(size=50)
    failures = []

    def work(seed):
        numbers = random.Random(seed)
        try:
            for _ in range(2000):
                number = numbers.randrange(40)
                if numbers.random() < 0.2:
                    cache.evict(lambda shown, n=number: shown.token_id[-1] == n)
                else:
                    cache.put(str(numbers.randrange(200)), (token(number), token(number + 1)))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert len(cache) <= 50
    cache.evict(lambda _shown: True)
    assert not cache._texts

"""Credentials as people ask for them."""

from datetime import timedelta

import pytest
from support.books import buy, reserve, use
from support.sales import ISSUED, NOW, payment_hash, sale, token_id

from l402.store import Store

pytest_plugins = ["support.databases"]

HOUR = timedelta(hours=1)


def tokens(page) -> list[str]:
    return [state.token_id for state in page]


def numbered(*numbers: int) -> list[str]:
    return [token_id(number).hex() for number in numbers]


def test_state(store: Store) -> None:
    """A credential's state holds its payments, oldest first, and what they sum to."""
    assert store.credentials.state(token_id(1)) is None
    store.payments.admit(sale(1), NOW, settled_at=NOW)
    more = sale(2, token_id=token_id(1), msat=7, ends_at=ISSUED + 9000, valid_until=ISSUED + 9000)
    store.payments.admit(more, NOW + HOUR)
    state = store.credentials.state(token_id(1))
    assert state == store.credentials.state(token_id(1).hex())
    assert (state.token_id, state.service) == (token_id(1).hex(), "quotes")
    assert state.first_presented_at == NOW
    assert (state.uses, state.last_used_at) == (0, None)
    assert [each.payment_hash for each in state.payments] == [
        payment_hash(1).hex(),
        payment_hash(2).hex(),
    ]
    first = state.payments[0]
    assert (first.msat, first.kind, first.status, first.settled_at) == (
        10_000,
        "pass",
        "granted",
        NOW,
    )
    assert state.msat == 10_007
    assert state.ends_at.timestamp() == ISSUED + 9000
    assert not state.revoked
    assert state.why is None


def test_state_revoked(store: Store) -> None:
    """A credential is revoked when all its payments are; each tells the reason."""
    store.payments.admit(sale(1), NOW)
    store.payments.admit(sale(2, token_id=token_id(1)), NOW)
    store.revocations.revoke("payment", payment_hash(1).hex(), why="refunded")
    state = store.credentials.state(token_id(1))
    assert not state.revoked
    assert state.why == "refunded"
    assert {each.payment_hash for each in state.payments if each.revoked} == {payment_hash(1).hex()}
    store.revocations.revoke("handle", token_id(1).hex()[:16])
    assert store.credentials.state(token_id(1)).revoked


def test_active(store: Store) -> None:
    """A right is active when granted, until its own or its token's end, and unless revoked."""
    store.payments.admit(sale(1), NOW)
    store.payments.admit(sale(2, valid_until=ISSUED + 100), NOW)
    store.payments.admit(sale(3, valid_until=ISSUED), NOW)
    one, two, late = (store.credentials.state(token_id(number)) for number in (1, 2, 3))
    assert one.active(NOW + HOUR)
    assert not one.active(NOW + 2 * HOUR)
    assert not two.active(NOW + HOUR)
    assert not late.active(NOW)
    store.revocations.revoke("token", token_id(1).hex())
    assert not store.credentials.state(token_id(1)).active(NOW)


def test_find(store: Store) -> None:
    """A token is found by its id, its first digits, its handle, or a payment's hash."""
    for number in range(1, 4):
        store.payments.admit(sale(number), NOW)
    digits = token_id(2).hex()
    for name in (digits, digits.upper(), digits[:16], digits[:6], payment_hash(2).hex()):
        assert store.credentials.find(name) == [digits]
    assert store.credentials.find("0" * 16) == []
    assert store.credentials.find(payment_hash(9).hex()) == []


def test_find_several(store: Store) -> None:
    """Digits that several tokens begin with give ten of them at most."""
    alike = [b"\xab" * 31 + bytes([number]) for number in range(12)]
    for number, token in enumerate(alike):
        store.payments.admit(sale(number, token_id=token), NOW)
    assert store.credentials.find("ababab") == [token.hex() for token in alike[:10]]


@pytest.mark.parametrize("name", ["", "abcde", "xyzxyz", "a" * 65, "%%%%%%", "abcdef "])
def test_find_nonsense(store: Store, name: str) -> None:
    """Anything but 6 to 64 hex digits is refused."""
    with pytest.raises(ValueError, match="hex digits"):
        store.credentials.find(name)


def test_page(store: Store) -> None:
    """A page is the newest first, and the next one goes on exactly where it ended."""
    for number in range(7):  # five at one moment, which the token id tells apart
        store.payments.admit(sale(number), NOW + max(0, number - 4) * HOUR)
    page = store.credentials.page
    everything = tokens(page(now=NOW))
    assert everything[:2] == numbered(6, 5)
    assert everything[2:] == sorted(numbered(*range(5)), reverse=True)
    walked = []
    while step := tokens(page(now=NOW, limit=3, after=walked[-1] if walked else None)):
        walked += step
    assert walked == everything
    with pytest.raises(ValueError, match="no credential"):
        page(now=NOW, after="0" * 64)


def test_page_narrowed(store: Store) -> None:
    """A page can be narrowed to a service, to the active, the revoked, and what came since."""
    store.payments.admit(sale(1), NOW - HOUR)
    store.payments.admit(sale(2, service="other"), NOW)
    store.payments.admit(sale(3, ends_at=ISSUED), NOW + HOUR)
    store.revocations.revoke("token", token_id(1).hex())
    page = store.credentials.page
    assert tokens(page(now=NOW)) == numbered(3, 2, 1)
    assert tokens(page(now=NOW, service="quotes")) == numbered(3, 1)
    assert tokens(page(now=NOW, since=NOW)) == numbered(3, 2)
    assert tokens(page(now=NOW, revoked=True)) == numbered(1)
    assert tokens(page(now=NOW, revoked=False)) == numbered(3, 2)
    assert tokens(page(now=NOW, active=True)) == numbered(2)
    assert tokens(page(now=NOW, active=False)) == numbered(3, 1)
    assert tokens(page(now=NOW, active=False, revoked=False, service="quotes")) == numbered(3)
    assert page(now=NOW, service="none") == []
    store.payments.admit(sale(4, valid_until=ISSUED + 70), NOW)
    assert tokens(page(now=NOW, active=True)) == sorted(numbered(2, 4), reverse=True)
    assert tokens(page(now=NOW + HOUR, active=True)) == numbered(2)


# --- credit


def test_state_of_credit(store: Store) -> None:
    """A credential's state has its balances by service, and what may be spent of them in all."""
    buy(store, 1)
    buy(store, 2, 5_000, token_id=token_id(1), service="other", ends_at=ISSUED + 100)
    reserve(store, 1, 4_000)
    state = store.credentials.state(token_id(1))
    assert [(each.service, each.balance, each.reserved) for each in state.credits] == [
        ("other", 5_000, 0),
        ("quotes", 6_000, 4_000),
    ]
    assert state.balance(NOW) == 11_000
    assert state.balance(NOW + HOUR) == 6_000
    assert state.balance(NOW + 2 * HOUR) == 0
    store.payments.admit(sale(3), NOW)
    assert store.credentials.state(token_id(3)).balance(NOW) is None


def test_active_by_credit(store: Store) -> None:
    """A balance is active while there is some of it, it lasts, and a macaroon opens it."""
    buy(store, 1, ends_at=ISSUED + 9000, valid_until=ISSUED + 9000)
    buy(store, 2, ends_at=ISSUED + 9000, valid_until=ISSUED + 100)
    buy(store, 3, ends_at=ISSUED + 100, valid_until=ISSUED + 9000)
    buy(store, 4, ends_at=ISSUED + 9000, valid_until=ISSUED + 9000)
    use(store, 4, 10_000)
    buy(store, 5, ends_at=ISSUED + 9000, valid_until=ISSUED + 9000)
    store.revocations.revoke("token", token_id(5).hex())
    for now, active in ((NOW, {1, 2, 3}), (NOW + HOUR, {1})):
        states = {number: store.credentials.state(token_id(number)) for number in range(1, 6)}
        assert {number for number, state in states.items() if state.active(now)} == active
        assert {number for number, state in states.items() if state.exhausted(now)} == {4}
        listed = tokens(store.credentials.page(now=now, active=True))
        assert set(listed) == set(numbered(*active))
        rest = tokens(store.credentials.page(now=now, active=False))
        assert set(rest) == set(numbered(*range(1, 6))) - set(listed)


def test_any_macaroon_opens_all(store: Store) -> None:
    """What an account holds is open while any of its macaroons lasts; a pass is no balance."""
    store.payments.admit(sale(1, ends_at=ISSUED + 9000, valid_until=ISSUED + 100), NOW)
    state = store.credentials.state(token_id(1))
    assert (state.active(NOW), state.active(NOW + HOUR)) == (True, False)
    buy(store, 2, 1_000, token_id=token_id(1), ends_at=ISSUED + 100, valid_until=ISSUED + 9000)
    state = store.credentials.state(token_id(1))
    assert state.active(NOW + HOUR)
    assert not state.exhausted(NOW + HOUR)
    assert tokens(store.credentials.page(now=NOW + HOUR, active=True)) == numbered(1)
    assert not state.active(NOW + 3 * HOUR)
    assert state.ends_at.timestamp() == ISSUED + 9000

"""A thousand real purchases: what lnd received, what was sold and what is on record are one."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from support.shops import ask, buy, selling_for

pytest_plugins = ["support.regtest"]
pytestmark = pytest.mark.lightning

PURCHASES, SATS = 500, 10


@pytest.fixture
def shop(regtest, tmp_path):
    # A slot for each buyer: who finds none is told to come again, and these do not.
    with selling_for(regtest.bob, tmp_path, FLASK_L402_NODE_CONCURRENCY="8") as running:
        yield running


@pytest.mark.parametrize("at_a_time", [1, 8])
def test_sums(regtest, shop, books, at_a_time):
    """Each payment is one invoice, one token and one row, however many buy at a time."""

    def purchases(number):
        with requests.Session() as session:
            return [purchase(session) for _ in range(number)]

    def purchase(session):
        credential = buy(regtest, ask(shop, "/quote", session=session))
        assert ask(shop, "/quote", credential, session=session).status_code == 200
        return credential

    shares = [len(range(buyer, PURCHASES, at_a_time)) for buyer in range(at_a_time)]
    with ThreadPoolExecutor(at_a_time) as pool:
        credentials = [one for bought in pool.map(purchases, shares) for one in bought]

    settled, recorded = books.payment_hashes, shop.payments()
    assert (books.payments, books.invoices, len(settled), len(recorded)) == (PURCHASES,) * 4
    assert len(set(credentials)) == len({row.token_id for row in recorded}) == PURCHASES
    assert sorted(row.payment_hash for row in recorded) == sorted(h.hex() for h in settled)
    assert books.received == PURCHASES * SATS
    assert sum(row.msat for row in recorded) == PURCHASES * SATS * 1000

"""Strict verification asks a real lnd whether a payment arrived, once for each payment."""

import json
import secrets
import signal
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from support.http_servers import Certificate, http_answer, serving
from support.regtest import await_that
from support.relays import relay
from support.shops import ask, buy, challenge, selling_behind, selling_for

pytest_plugins = ["support.regtest"]
pytestmark = pytest.mark.lightning

LOOK_UP = "/v1/invoice/"


@pytest.fixture(scope="module")
def shop(regtest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strict")
    with selling_for(regtest.bob, folder, FLASK_L402_STRICT="True") as running:
        yield running


def is_unsettled(response):
    """See that the payer is told to wait and is not billed again."""
    assert (response.status_code, response.json()["reason"]) == (503, "unsettled")
    assert "WWW-Authenticate" not in response.headers
    assert int(response.headers["Retry-After"]) > 0
    return True


def test_purchase(regtest, shop, books):
    """A payment is confirmed by the node, and recorded with the moment."""
    credential = buy(regtest, ask(shop, "/quote"))
    before = datetime.now(UTC).replace(microsecond=0)
    assert [ask(shop, "/quote", credential).status_code for _ in range(2)] == [200] * 2
    latest = max(shop.payments(), key=lambda payment: payment.presented_at)
    assert latest.msat == 10_000
    assert before <= latest.settled_at <= datetime.now(UTC)
    assert (books.payments, books.received) == (1, 10)


def test_preimage_without_a_payment(regtest, shop, books):
    """Who knows the preimage before paying is told to wait, is not billed again, and then pays.

    An lnd shows it to whoever may read its invoices.
    """
    macaroon, invoice = challenge(ask(shop, "/quote"))
    payment_hash = regtest.alice.call("GET", f"/v1/payreq/{invoice}")["payment_hash"]
    stored = regtest.bob.call("GET", f"/v1/invoice/{payment_hash}")
    preimage = b64decode(stored["r_preimage"]).hex()
    assert is_unsettled(ask(shop, "/quote", f"L402 {macaroon}:{preimage}"))
    assert (books.payments, books.received, books.invoices) == (0, 0, 1)
    regtest.alice.pay(invoice)
    assert ask(shop, "/quote", f"L402 {macaroon}:{preimage}").status_code == 200
    assert (books.payments, books.received) == (1, 10)


def test_node_stopped(regtest, shop, books):
    """A recorded payment needs no look-up; another one waits while the node is stopped."""
    recorded = buy(regtest, ask(shop, "/quote"))
    assert ask(shop, "/quote", recorded).status_code == 200
    paid = buy(regtest, ask(shop, "/quote"))
    regtest.bob.process.signal(signal.SIGSTOP)
    try:
        assert ask(shop, "/quote", recorded).status_code == 200
        assert is_unsettled(ask(shop, "/quote", paid))
    finally:
        regtest.bob.process.signal(signal.SIGCONT)
    assert ask(shop, "/quote", paid).status_code == 200
    assert (books.payments, books.received) == (2, 20)


class Between:
    """Stands between a shop and bob: notes what is looked up, and may have invoices held.

    A held invoice is paid as soon as bob is told its preimage; until then a payment is in flight.
    """

    def __init__(self, bob):
        self._bob, self._pass_on = bob, relay(bob.url, bob.tls_cert)
        self.preimage = None  # if the next invoice is to be held
        self.looked_up = []  # payment hashes in hex
        self.after_look_up = lambda: None

    def __call__(self, request):
        if request.path == "/v1/invoices" and self.preimage:
            return self._hold(json.loads(request.body))
        answer = self._pass_on(request)
        if request.path.startswith(LOOK_UP):
            self.looked_up.append(request.path.removeprefix(LOOK_UP))
            self.after_look_up()
        return answer

    def _hold(self, order):
        preimage, self.preimage = self.preimage, None
        payment_hash = b64encode(sha256(preimage).digest()).decode()
        issued = self._bob.call("POST", "/v2/invoices/hodl", order | {"hash": payment_hash})
        return http_answer(200, issued | {"r_hash": payment_hash})


class Held:
    """A payment of alice's that has arrived, and that bob has not taken."""

    def __init__(self, regtest, between, shop, alice):
        self._bob, self._preimage = regtest.bob, secrets.token_bytes(32)
        between.preimage = self._preimage
        macaroon, invoice = challenge(ask(shop, "/quote"))
        self.credential = f"L402 {macaroon}:{self._preimage.hex()}"
        self.payment_hash = sha256(self._preimage).digest()
        self.payment = alice.submit(regtest.alice.send, invoice)
        await_that("the payment's arrival", lambda: self._state() == "ACCEPTED")

    def _state(self):
        return self._bob.call("GET", LOOK_UP + self.payment_hash.hex())["state"]

    def settle(self):
        """Take the money."""
        order = {"preimage": b64encode(self._preimage).decode()}
        self._bob.call("POST", "/v2/invoices/settle", order)

    def cancel(self):
        """Give it back, if it was not taken."""
        if self._state() == "ACCEPTED":
            order = {"payment_hash": b64encode(self.payment_hash).decode()}
            self._bob.call("POST", "/v2/invoices/cancel", order)


class TestAtTheNode:
    @pytest.fixture
    def between(self, regtest):
        return Between(regtest.bob)

    @pytest.fixture
    def shop(self, regtest, between, tmp_path):
        certificate = Certificate.make(tmp_path)
        settings = {"FLASK_L402_STRICT": "True", "FLASK_L402_SECRET_KEY": secrets.token_hex(32)}
        with (
            serving(between, certificate) as proxy,
            selling_behind(proxy, certificate, regtest.bob, tmp_path, **settings) as running,
        ):
            yield running

    @pytest.fixture
    def held(self, regtest, between, shop, books):
        with ThreadPoolExecutor(1) as alice:
            payment = Held(regtest, between, shop, alice)
            yield payment
            payment.cancel()

    def test_one_look_up_for_each_payment(self, regtest, shop, between, books):
        """Each payment is looked up once, wherever and however often its token is shown."""
        bought = {}
        for path in ("/quote", "/report?rows=20"):
            credential = bought[path] = buy(regtest, ask(shop, path))
            for shown_at in (path, "/quote", path):
                assert ask(shop, shown_at, credential).status_code == 200
        assert between.looked_up == [payment_hash(shown) for shown in bought.values()]
        assert (books.payments, books.received) == (2, 30)

    def test_none_for_a_recorded_payment(self, regtest, shop, between, books):
        """What stands in the record is not looked up by another process either."""
        credential = buy(regtest, ask(shop, "/quote"))
        assert ask(shop, "/quote", credential).status_code == 200
        shop.stop()
        shop.start()
        assert ask(shop, "/quote", credential).status_code == 200
        assert between.looked_up == [payment_hash(credential)]
        assert (books.payments, books.received) == (1, 10)

    def test_in_flight(self, shop, held, between, books):
        """While a payment is in flight its payer waits and is not billed; settled, it opens."""
        assert is_unsettled(ask(shop, "/quote", held.credential))
        looked_up = len(between.looked_up)
        assert looked_up > 1, "asked again for a short while"
        assert (books.invoices, books.received) == (1, 0)
        held.settle()
        assert held.payment.result()["status"] == "SUCCEEDED"
        assert [ask(shop, "/quote", held.credential).status_code for _ in range(2)] == [200] * 2
        assert len(between.looked_up) == looked_up + 1
        assert (books.invoices, books.payments, books.received) == (1, 1, 10)

    def test_settled_in_the_meantime(self, shop, held, between, books):
        """A payment that settles within the short wait opens at the first try."""
        between.after_look_up = held.settle
        between.looked_up.clear()
        assert ask(shop, "/quote", held.credential).status_code == 200
        assert between.looked_up == [held.payment_hash.hex()] * 2
        assert (books.payments, books.received) == (1, 10)

    def test_given_back(self, shop, held, books):
        """A payment in flight that is given back opens nothing, and may be made anew."""
        held.cancel()
        assert held.payment.result()["status"] == "FAILED"
        refused = ask(shop, "/quote", held.credential)
        assert (refused.status_code, refused.json()["reason"]) == (402, "unpaid")
        assert (books.payments, books.received) == (1, 0)


def payment_hash(credential):
    return sha256(bytes.fromhex(credential[-64:])).hexdigest()

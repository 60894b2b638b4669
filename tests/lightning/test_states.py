"""An lnd that cannot sell yet, or will not: what its operator and the caller are told."""

import signal

import pytest
from support.http_servers import Certificate, serving
from support.lnd import Lnd
from support.regtest import await_that
from support.relays import relay
from support.shops import ask, challenge, selling, selling_behind, selling_for

pytest_plugins = ["support.regtest"]
pytestmark = pytest.mark.lightning

PASSWORD = "correct horse battery"
BAKE = "bake one: lncli bakemacaroon invoices:read invoices:write"
FOREIGN = "its certificate is not trusted: name the node's own with tls_cert_path"


def refused(shop, *said):
    """See that callers are told to come again, and the operator once, by the lines `said`."""
    for _ in range(3):
        response = ask(shop, "/quote")
        assert (response.status_code, response.json()["reason"]) == (503, "node_unavailable")
        assert int(response.headers["Retry-After"]) > 0
        assert "WWW-Authenticate" not in response.headers
    assert shop.said_of_node() == list(said)


@pytest.fixture
def carol(regtest, tmp_path):
    """An lnd without a wallet."""
    lnd = Lnd("carol", regtest.programs / "lnd", tmp_path / "carol", regtest.chain, flags="")
    await_that("carol", lambda: lnd.state == "NON_EXISTING")
    yield lnd
    lnd.process.stop()


@pytest.fixture(scope="module")
def macaroon(regtest, tmp_path_factory):
    """A macaroon of bob's that can do what the app needs, and nothing else."""
    folder = tmp_path_factory.mktemp("macaroon")
    return regtest.bob.bake(folder, "invoices:read", "invoices:write")


class TestWallet:
    def test_none_yet(self, carol, macaroon, tmp_path):
        """Without a wallet nothing is sold, and the operator is told to make one."""
        with selling(tmp_path, carol.node_url(macaroon)) as shop:
            refused(shop, "lnd has no wallet yet; create one: lncli create")

    def test_opened(self, regtest, carol, tmp_path):
        """A locked wallet and one that starts are told apart; once open, the same app sells."""
        carol.create_wallet(PASSWORD)
        await_that("carol's wallet", lambda: carol.state == "SERVER_ACTIVE")
        with selling_for(carol, tmp_path) as shop:
            challenge(ask(shop, "/quote"))
            carol.process.stop()
            carol.process.start()
            await_that("the locked wallet", lambda: carol.state == "LOCKED")
            said = ["lnd's wallet is locked; unlock it: lncli unlock"]
            refused(shop, *said)
            regtest.chain.process.signal(signal.SIGSTOP)  # a starting lnd waits for its chain
            try:
                carol.unlock(PASSWORD)
                said.append("lnd is starting up and answers soon")
                refused(shop, *said)
            finally:
                regtest.chain.process.signal(signal.SIGCONT)
            await_that("a challenge", lambda: ask(shop, "/quote").status_code == 402)
            assert shop.said_of_node() == [*said, "answers again"]


class TestCredential:
    def test_read_only_macaroon(self, regtest, tmp_path):
        """A macaroon that may not write is named, with how to make one that may."""
        url = regtest.bob.node_url(regtest.bob.macaroon("readonly"))
        with selling(tmp_path, url) as shop:
            refused(shop, f"the macaroon lacks a permission; {BAKE}")

    def test_macaroon_of_another_node(self, regtest, tmp_path):
        """Another node's macaroon is named as one."""
        with selling(tmp_path, regtest.bob.node_url(regtest.alice.macaroon("invoice"))) as shop:
            refused(shop, f"the macaroon is not of this lnd or was withdrawn; {BAKE}")

    def test_no_macaroon(self, regtest, tmp_path):
        """Where none reaches lnd, a proxy that strips it is suspected."""
        certificate = Certificate.make(tmp_path)
        strips = relay(regtest.bob.url, regtest.bob.tls_cert, without="Grpc-Metadata-macaroon")
        with (
            serving(strips, certificate) as proxy,
            selling_behind(proxy, certificate, regtest.bob, tmp_path) as shop,
        ):
            refused(shop, "no macaroon reached lnd; does a proxy strip Grpc-Metadata-macaroon?")

    def test_certificate_of_another_node(self, regtest, macaroon, tmp_path):
        """Another node's tls.cert is not taken for this one's."""
        url = regtest.bob.node_url(macaroon, tls_cert_path=regtest.alice.tls_cert)
        with selling(tmp_path, url) as shop:
            refused(shop, FOREIGN)

    def test_expired_certificate(self, regtest, tmp_path):
        """A certificate that has expired is refused as such, and the macaroon is not sent."""
        certificate = Certificate.make(tmp_path, days=-1)
        with (
            serving(relay(regtest.bob.url, regtest.bob.tls_cert), certificate) as proxy,
            selling_behind(proxy, certificate, regtest.bob, tmp_path) as shop,
        ):
            refused(shop, "its certificate has expired: renew it")
            assert not proxy.requests

    def test_another_network(self, regtest, macaroon, tmp_path):
        """A node of another network than the one named sells nothing."""
        with selling(tmp_path, regtest.bob.node_url(macaroon, network="mainnet")) as shop:
            refused(shop, "network: asked for mainnet, its invoice has regtest")

"""``flask l402 doctor`` on a real lnd."""

from pathlib import Path

import pytest
from support.lnd import Lnd
from support.network import Books, Network
from support.patients import SetUp
from support.regtest import await_that

pytest_plugins = ["support.patients", "support.regtest"]
pytestmark = pytest.mark.lightning

PASSWORD = "correct horse battery"
BAKE = "lncli bakemacaroon invoices:read invoices:write"


@pytest.fixture(scope="module")
def macaroon(regtest: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A macaroon of bob's that can do what the app needs, and nothing else."""
    folder = tmp_path_factory.mktemp("macaroon")
    return regtest.bob.bake(folder, "invoices:read", "invoices:write")


def name(set_up: SetUp, node: Lnd, macaroon: Path, **parameters: object) -> None:
    """Have a set-up sell with a node."""
    set_up.config["L402_NODE"] = node.node_url(macaroon, **parameters)
    set_up.kept.append(macaroon.read_bytes())


def failures(set_up: SetUp) -> dict[str, tuple[str, str, str]]:
    """Severity, detail and fix of each check that failed."""
    return {
        check: (finding["severity"], finding["detail"], finding["fix"])
        for check, finding in set_up.findings("--workers", "1").items()
        if finding["passed"] is False
    }


def test_all_is_well(set_up: SetUp, regtest: Network, macaroon: Path, books: Books) -> None:
    """With a macaroon of two permissions every check passes; one invoice is issued, unpaid."""
    name(set_up, regtest.bob, macaroon)
    findings = set_up.findings("--workers", "1")
    assert [check for check, each in findings.items() if not each["passed"]] == []
    assert "in 4" in findings["certificate"]["detail"]  # lnd's last for 14 months
    assert (books.invoices, books.received) == (1, 0)


def test_read_only_macaroon(set_up: SetUp, regtest: Network) -> None:
    """A macaroon that may only read looks up, sells nothing and may too much."""
    name(set_up, regtest.bob, regtest.bob.macaroon("readonly"))
    found = failures(set_up)
    assert set(found) == {"permissions", "invoice"}
    severity, detail, fix = found["invoice"]
    assert (severity, detail) == ("error", "the macaroon lacks a permission")
    assert BAKE in fix
    assert "offchain:read" in found["permissions"][1]
    assert "invoices:read" not in found["permissions"][1]


def test_administrators_macaroon(set_up: SetUp, regtest: Network) -> None:
    """lnd's admin.macaroon sells, and is told to be too much."""
    name(set_up, regtest.bob, regtest.bob.macaroon())
    ((check, (severity, detail, fix)),) = failures(set_up).items()
    assert (check, severity) == ("permissions", "warning")
    assert "macaroon:generate" in detail
    assert "offchain:write" in detail
    assert BAKE in fix


def test_macaroon_by_calls(set_up: SetUp, regtest: Network, tmp_path: Path) -> None:
    """A macaroon of the two calls that are made does, and is not too much."""
    calls = ("uri:/lnrpc.Lightning/AddInvoice", "uri:/lnrpc.Lightning/LookupInvoice")
    name(set_up, regtest.bob, regtest.bob.bake(tmp_path, *calls))
    assert failures(set_up) == {}


def test_macaroon_of_another_node(set_up: SetUp, regtest: Network) -> None:
    """Another node's macaroon is named as one."""
    name(set_up, regtest.bob, regtest.alice.macaroon("invoice"))
    found = failures(set_up)
    assert set(found) == {"permissions", "invoice", "look_up"}
    assert found["invoice"][1] == "the macaroon is not of this lnd or was withdrawn"
    assert BAKE in found["invoice"][2]


def test_locked_wallet(set_up: SetUp, regtest: Network, macaroon: Path, tmp_path: Path) -> None:
    """A wallet that nobody unlocked is told to be, after a start as before the first."""
    carol = Lnd("carol", regtest.programs / "lnd", tmp_path / "carol", regtest.chain, flags="")
    try:
        await_that("carol", lambda: carol.state == "NON_EXISTING")
        name(set_up, carol, macaroon)
        assert failures(set_up)["invoice"][1:] == (
            "lnd has no wallet yet",
            "create one: lncli create",
        )
        carol.create_wallet(PASSWORD)
        await_that("carol's wallet", lambda: carol.state == "SERVER_ACTIVE")
        carol.process.stop()
        carol.process.start()
        await_that("the locked wallet", lambda: carol.state == "LOCKED")
        found = failures(set_up)
        assert set(found) == {"invoice", "look_up"}
        assert found["invoice"][1:] == ("lnd's wallet is locked", "unlock it: lncli unlock")
    finally:
        carol.process.stop()


def test_another_network(set_up: SetUp, regtest: Network, macaroon: Path) -> None:
    """A node of another network than the one named is told with what to write."""
    name(set_up, regtest.bob, macaroon, network="mainnet")
    ((check, (severity, detail, fix)),) = failures(set_up).items()
    assert (check, severity) == ("network", "error")
    assert detail == "the node is on regtest, and L402_NODE names mainnet"
    assert "network=regtest" in fix


def test_certificate_of_another_node(set_up: SetUp, regtest: Network, macaroon: Path) -> None:
    """Another node's tls.cert is found before anything is asked of the node."""
    name(set_up, regtest.bob, macaroon, tls_cert_path=regtest.alice.tls_cert)
    assert failures(set_up) == {
        "certificate": (
            "error", "its certificate is not trusted", "name the node's own with tls_cert_path",
        )
    }  # fmt: skip


def test_lnd_is_down(set_up: SetUp, regtest: Network, macaroon: Path) -> None:
    """An lnd that does not run is the one error."""
    name(set_up, regtest.bob, macaroon)
    set_up.config["L402_NODE"] = set_up.config["L402_NODE"].replace(regtest.bob.rest, "127.0.0.1:1")
    found = failures(set_up)
    assert set(found) == {"node"}
    assert "start the node" in found["node"][2]

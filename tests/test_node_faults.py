"""The whole app over an lnd that is wrong, refuses, hangs or is gone: no sale, and no harm."""

import json
import logging
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock
from flask import Flask
from support.http_servers import Behaviour, Certificate, Request, Server, http_answer, serving
from test_gate import CHALLENGE, ask

from l402.nodes.simulated import SimulatedNode
from l402.protocol import token
from l402.signals import challenged

MACAROON = "02" + "c0ffee" * 20
EXPIRY = 30  # seconds: within the clocks' tolerance, so that an invoice can be dated well but over
PREIMAGE = secrets.token_bytes(32)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate: Certificate) -> Iterator[Server]:
    with serving(lambda _: http_answer(404, {}), certificate) as server:
        yield server


@pytest.fixture
def open_shop(
    make_app: Callable[..., Flask], server: Server, certificate: Certificate, tmp_path: Path
) -> Callable[[str], Flask]:
    """Makes an app whose node is `server`, said to be of a network."""
    macaroon = tmp_path / "invoices.macaroon"
    macaroon.write_bytes(bytes.fromhex(MACAROON))
    url = f"lnd+{server.url}?macaroon_path={macaroon}&tls_cert_path={certificate.cert}"
    return lambda network: make_app(
        L402_NODE=f"{url}&network={network}", L402_INVOICE_EXPIRY=EXPIRY
    )


@pytest.fixture
def shop(open_shop: Callable[[str], Flask]) -> Flask:
    return open_shop("regtest")


class Lnd:
    """A behaviour: issues invoices in lnd's words, off the order as a test tells it to be."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.msat_more = self.expiry_more = 0
        self.late = 0.0  # seconds by which the node's clock is behind
        self.changes: dict[str, object] = {}

    def __call__(self, request: Request) -> bytes:
        order = json.loads(request.body)
        node = SimulatedNode(b"the key of a node in a test only", lambda: self.clock() - self.late)
        msat = int(order["value_msat"]) + self.msat_more
        issued = node.create_invoice(msat, order["memo"], int(order["expiry"]) + self.expiry_more)
        body = {
            "payment_request": issued.bolt11,
            "r_hash": b64encode(issued.payment_hash).decode(),
        }
        return http_answer(200, body | self.changes)


def paid(app: Flask, clock: Clock, network: str = "regtest") -> str:
    """Return the Authorization of somebody who bought before."""
    now = int(clock())
    grant = token.Grant(
        "shop", "pass", 10_000, network, now, now + EXPIRY, now + 3600, now + 3600, "GET", "quote",
        "another ledger's", 10_000, "",
    )  # fmt: skip
    keys, payment_hash = app.extensions["l402"].keys, sha256(PREIMAGE).digest()
    raw = token.mint(keys, payment_hash, secrets.token_bytes(32), grant)
    return f"L402 {b64encode(raw).decode()}:{PREIMAGE.hex()}"


def refuses(
    app: Flask, clock: Clock, caplog: pytest.LogCaptureFixture, says: str, network: str = "regtest"
) -> None:
    """Assert that nothing is sold, that the log says why, and that who paid before is served."""
    holder, offers = paid(app, clock, network), []

    def note(_: object, **offer: object) -> None:
        offers.append(offer)

    with caplog.at_level(logging.INFO, "l402.node"), challenged.connected_to(note, app):
        for response in (ask(app), ask(app, f"L402 AAAA:{'0' * 64}")):
            assert response.status_code == 503
            assert response.json == {"error": "unavailable", "reason": "node_unavailable"}
            assert int(response.headers["Retry-After"]) >= 1
            assert "WWW-Authenticate" not in response.headers
            assert ask(app, holder).status_code == 200
    assert not offers
    lines = [record.getMessage() for record in caplog.records if record.name == "l402.node"]
    assert any(says in line for line in lines), lines
    assert MACAROON not in caplog.text


def test_a_right_answer_is_sold(shop: Flask, server: Server, clock: Clock) -> None:
    """The invoice that the node issued is the one in the challenge, with a token bound to it."""
    server.behaviour = Lnd(clock)
    response = ask(shop)
    assert response.status_code == 402
    found = CHALLENGE.fullmatch(response.headers["WWW-Authenticate"])
    assert found
    assert response.json["invoice"] == found[2]
    (order,) = server.requests
    assert json.loads(order.body)["value_msat"] == "10000"
    assert order.headers["grpc-metadata-macaroon"] == MACAROON


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "too much": ({"msat_more": 1000}, "amount in msat: asked for 10000, its invoice has 11000"),
    "too little": ({"msat_more": -1}, "amount in msat: asked for 10000, its invoice has 9999"),
    "another hash": ({"changes": {"r_hash": b64encode(b"h" * 32).decode()}}, "payment hash"),
    "no hash": ({"changes": {"r_hash": "AAAA"}}, "r_hash is missing or odd"),
    "no invoice": ({"changes": {"payment_request": ""}}, "its invoice is none"),
    "null": ({"changes": {"payment_request": None}}, "payment_request is missing or odd"),
    "no bech32": ({"changes": {"payment_request": "lnbcrt1canary"}}, "its invoice is none"),
    "expired": ({"late": 40}, "expiry: its invoice has expired already"),
    "long expired": ({"late": 7200}, "120 min behind this machine's clock"),
    "ahead": ({"late": -7200}, "120 min ahead of this machine's clock"),
    "lasting": ({"expiry_more": 3600}, "expiry in seconds: asked for 30, its invoice has 3630"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_invoice_is_not_sold(
    name: str, shop: Flask, server: Server, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """An invoice other than the one ordered is no offer; the log names the difference."""
    node, (how, says) = Lnd(clock), WRONG[name]
    vars(node).update(how)
    server.behaviour = node
    refuses(shop, clock, caplog, says)


@pytest.mark.parametrize("network", ["mainnet", "signet", "testnet"])
def test_another_networks_invoice_is_not_sold(
    network: str,
    open_shop: Callable[[str], Flask],
    server: Server,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A node of another network than configured sells nothing."""
    server.behaviour = Lnd(clock)
    says = f"network: asked for {network}, its invoice has regtest"
    refuses(open_shop(network), clock, caplog, says, network)


NONSENSE: dict[str, tuple[Behaviour, str]] = {
    "locked": (lambda _: http_answer(500, {"message": "wallet locked"}), "wallet is locked"),
    "unknown refusal": (lambda _: http_answer(418, {"message": "teapot"}), "status 418: teapot"),
    "echo": (lambda _: http_answer(500, {"message": f"no {MACAROON}"}), "no (macaroon)"),
    "a list": (lambda _: http_answer(200, []), "no JSON object"),
    "a page": (lambda _: http_answer(200, "<html>canary</html>"), "no JSON object"),
    "an empty object": (lambda _: http_answer(200, {}), "payment_request is missing or odd"),
    "bytes": (lambda _: b"\x00\xff\x00\xff" * 64 + b"\r\n\r\n", ""),
    "a hang-up": (lambda _: None, ""),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_not_sold(
    name: str, shop: Flask, server: Server, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal, another server's page, garbage or a closed connection sell nothing."""
    server.behaviour, says = NONSENSE[name]
    refuses(shop, clock, caplog, says)


@pytest.mark.parametrize("way", ["hang", "drip"])
def test_a_late_node_sells_nothing(
    way: str,
    shop: Flask,
    server: Server,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node that does not answer in time, or never ends its answer, holds up nobody who paid."""
    monkeypatch.setattr("l402.nodes.lnd.CREATE_WITHIN", 0.3)
    server.behaviour = getattr(server, way)
    refuses(shop, clock, caplog, "no answer in time")


def test_a_node_that_is_gone_sells_nothing(
    shop: Flask, server: Server, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Without anybody at the node's address nothing is sold, and who paid is served."""
    server.close()
    refuses(shop, clock, caplog, f"lnd at {server.url} (regtest): ")


def test_a_node_that_is_back_sells_again(
    shop: Flask, server: Server, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The first good answer after a fault is a sale, and the log says that the node is back."""
    node = Lnd(clock)
    node.msat_more = 1000
    server.behaviour = node
    refuses(shop, clock, caplog, "amount in msat")
    node.msat_more = 0
    with caplog.at_level(logging.INFO, "l402.node"):
        assert ask(shop).status_code == 402
    assert caplog.messages[-1].endswith("answers again")

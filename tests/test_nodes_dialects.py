"""A whole app with a node of each kind: challenge, payment, admission, strict, down, refused."""

import logging
from collections.abc import Callable, Iterator

import pytest
from conftest import Clock
from flask import Flask
from support.dialects import DIALECTS, RIGHT, WRONG, Dialect
from support.http_servers import Server, http_answer, serving
from test_gate import CHALLENGE, ask

from l402.errors import NodeError
from l402.nodes.url import make_node
from l402.protocol import bolt11

pytestmark = pytest.mark.parametrize("kind", DIALECTS)


@pytest.fixture
def dialect(kind: str, clock: Clock) -> Dialect:
    return DIALECTS[kind](clock)


@pytest.fixture
def server(dialect: Dialect) -> Iterator[Server]:
    with serving(dialect) as running:
        yield running


@pytest.fixture
def sell(make_app: Callable[..., Flask], dialect: Dialect, server: Server) -> Callable[..., Flask]:
    """Makes an app that sells with the node, by default in the way of its kind."""

    def make(secret: str = RIGHT, **config: object) -> Flask:
        return make_app(L402_NODE=dialect.url(f"127.0.0.1:{server.port}", secret), **config)

    return make


def challenge(app: Flask) -> tuple[str, str]:
    """Return the macaroon and the invoice that the app asks to be paid."""
    response = ask(app)
    assert response.status_code == 402
    found = CHALLENGE.fullmatch(response.headers["WWW-Authenticate"])
    assert found
    return found[1], found[2]


def refusal(app: Flask, shown: str | None = None) -> tuple[int, str]:
    response = ask(app, shown)
    return response.status_code, response.json["reason"]


def test_a_sale(sell: Callable[..., Flask], dialect: Dialect, server: Server) -> None:
    """The challenge's invoice is the node's, its description ends in our handle; paid, it opens."""
    app = sell()
    macaroon, invoice = challenge(app)
    request = bolt11.decode(invoice)
    assert dialect.of(invoice).bolt11 == invoice
    assert (request.msat, request.expiry) == (10_000, 600)
    handle = (request.description or "").rpartition(" ")[2]
    assert app.extensions["l402"].keys.recognise(handle)
    shown = f"L402 {macaroon}:{dialect.pay(invoice).hex()}"
    assert [ask(app, shown).status_code for _ in range(3)] == [200] * 3
    asked = [request for request in server.requests if request.path != server.requests[0].path]
    assert len(asked) == dialect.custodial, "a custodian is asked, once; one's own node is not"


def test_strict(sell: Callable[..., Flask], dialect: Dialect) -> None:
    """Strictly, a preimage opens nothing until the node says that the payment is settled."""
    app = sell(L402_STRICT=True)
    macaroon, invoice = challenge(app)
    shown = f"L402 {macaroon}:{dialect.of(invoice).preimage.hex()}"
    assert refusal(app, shown) == (503, "unsettled")
    dialect.pay(invoice)
    assert ask(app, shown).status_code == 200


@pytest.mark.parametrize("fate", ["expired", "forgotten", "underpaid"])
def test_strict_about_what_was_never_paid(
    fate: str, sell: Callable[..., Flask], dialect: Dialect
) -> None:
    """Strictly, an invoice that expired, is unknown or was underpaid is to be paid anew.

    LNbits does not say how much arrived, and is believed that it was enough.
    """
    app = sell(L402_STRICT=True)
    macaroon, invoice = challenge(app)
    shown = f"L402 {macaroon}:{dialect.of(invoice).preimage.hex()}"
    if fate == "expired":
        dialect.of(invoice).expired = True
    elif fate == "forgotten":
        dialect.issued.clear()
    else:
        dialect.pay(invoice, 9_000)
    if (fate, dialect.scheme) == ("underpaid", "lnbits"):
        assert ask(app, shown).status_code == 200
    else:
        assert refusal(app, shown) == (402, "unpaid")


def test_strictness_by_default(sell: Callable[..., Flask], dialect: Dialect) -> None:
    """Strict verification is the default where somebody else holds the money, and nowhere else."""
    app = sell()
    assert app.extensions["l402"].defaults.strict is dialect.custodial
    assert sell(L402_STRICT=False).extensions["l402"].defaults.strict is False


def test_down(
    sell: Callable[..., Flask],
    dialect: Dialect,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without the node nothing is sold, who paid before is served, and the log has one line."""
    app = sell()
    macaroon, invoice = challenge(app)
    shown = f"L402 {macaroon}:{dialect.pay(invoice).hex()}"
    assert ask(app, shown).status_code == 200
    unshown = challenge(app)
    late = f"L402 {unshown[0]}:{dialect.pay(unshown[1]).hex()}"
    server.close()
    with caplog.at_level(logging.INFO, "l402.node"):
        assert [refusal(app) for _ in range(3)] == [(503, "node_unavailable")] * 3
        assert ask(app, shown).status_code == 200
        if dialect.custodial:
            assert refusal(app, late) == (503, "unsettled")
    (line,) = set(said(caplog))
    assert line.startswith(f"{app.extensions['l402'].desk.node!r}: ")


def test_wrong_credential(
    sell: Callable[..., Flask], dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    """A credential that is not the node's sells nothing, and its operator is told so once."""
    app = sell(WRONG)
    with caplog.at_level(logging.DEBUG):
        assert [refusal(app) for _ in range(3)] == [(503, "node_unavailable")] * 3
    (line,) = said(caplog)
    assert dialect.wrong in line
    assert WRONG not in caplog.text


def test_wrong_credential_of_a_look_up(dialect: Dialect, server: Server) -> None:
    """Nor does a look-up with such a credential ever count as paid."""
    issued = dialect.issue(10_000, "tea", 600)
    dialect.pay(issued.bolt11)
    with pytest.raises(NodeError) as caught:
        make_node(dialect.url(f"127.0.0.1:{server.port}", WRONG)).look_up(
            bytes.fromhex(issued.hash)
        )
    assert dialect.wrong in str(caught.value)


def test_another_network(
    make_app: Callable[..., Flask],
    dialect: Dialect,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without network= the node must be of mainnet."""
    url = dialect.url(f"127.0.0.1:{server.port}").replace("&network=regtest", "")
    assert refusal(make_app(L402_NODE=url)) == (503, "node_unavailable")
    (line,) = said(caplog)
    assert "network: asked for mainnet, its invoice has regtest" in line


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of the node."""
    return [record.getMessage() for record in caplog.records if record.name == "l402.node"]


def test_no_secret_in_a_refusal(kind: str, dialect: Dialect, server: Server) -> None:
    """A refusal that repeats the credential is quoted without it, in one bounded line."""
    said = f"no {RIGHT}\n\x1b[2J" + "x" * 999
    server.behaviour = lambda _: http_answer(
        400, dict.fromkeys(("message", "detail", "error"), said)
    )
    node = make_node(dialect.url(f"127.0.0.1:{server.port}"))
    for call in (lambda: node.create_invoice(1000, "", 600), lambda: node.look_up(b"h" * 32)):
        with pytest.raises(NodeError) as caught:
            call()
        text = str(caught.value)
        assert "refused with status 400: " in text
        assert RIGHT not in text + repr(node)
        assert text.isprintable()
        assert len(text) < 300

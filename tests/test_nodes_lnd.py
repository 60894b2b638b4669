import json
from pathlib import Path

import pytest
from support.http_servers import Certificate, http_answer, serving

from l402.errors import NodeError, NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.lnd import LndNode, macaroon_in
from l402.protocol import bolt11

ANSWERS = json.loads((Path(__file__).parent / "data" / "lnd_answers.json").read_text())
MACAROON = "02" + "c0ffee" * 20
PREIMAGES = {
    value["body"]["r_preimage"] for value in ANSWERS.values() if "r_preimage" in value["body"]
}
HASH = bytes.fromhex("40d86d75cd9be44c1654d09a6ab51109b5d22d48517ffda85f72713c0bf9f9f9")
HUNDRED_SAT = 10_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate):
    with serving(lambda _: http_answer(404, {}), certificate) as server:
        yield server


@pytest.fixture
def node(server, certificate):
    return LndNode(server.url, MACAROON, network="regtest", ca_file=certificate.cert)


def say(server, name, **changes):
    """Have `server` give a recorded answer, with some fields changed or (None) left out."""
    body = {**ANSWERS[name]["body"], **changes}
    body = {key: value for key, value in body.items() if value is not None}
    server.behaviour = lambda _: http_answer(ANSWERS[name]["status"], body)


def refuse(server, message, status=500):
    server.behaviour = lambda _: http_answer(status, {"code": 2, "message": message, "details": []})


def test_create(node, server):
    """An order is written as lnd reads it, and the recorded answer is understood."""
    say(server, "create")
    issued = node.create_invoice(HUNDRED_SAT, "L402", 600)
    assert issued.payment_hash == HASH
    assert issued.bolt11 == ANSWERS["create"]["body"]["payment_request"]
    request = bolt11.decode(issued.bolt11)
    assert (request.payment_hash, request.msat, request.expiry) == (HASH, HUNDRED_SAT, 600)
    (seen,) = server.requests
    assert (seen.method, seen.path) == ("POST", "/v1/invoices")
    assert seen.headers["grpc-metadata-macaroon"] == MACAROON
    assert json.loads(seen.body) == {
        "memo": "L402",
        "value_msat": "10000",
        "expiry": "600",
        "private": False,
    }


def test_create_with_hints_to_private_channels(server, certificate):
    """A node reachable over unannounced channels only asks for hints to them."""
    say(server, "private")
    node = LndNode(server.url, MACAROON, ca_file=certificate.cert, private=True)
    node.create_invoice(1000, "", 600)
    assert json.loads(server.requests[0].body)["private"] is True


@pytest.mark.parametrize(
    ("name", "settlement"),
    [
        ("open", Settlement.OPEN),
        ("settled", Settlement.SETTLED),
        ("canceled", Settlement.GONE),
        ("expired", Settlement.GONE),
        ("unknown", Settlement.GONE),
    ],
)
def test_look_up(node, server, name, settlement):
    """Each recorded state of an invoice has its meaning."""
    body = ANSWERS[name]["body"]
    payment_hash = HASH if "r_hash" not in body else bolt11.decode(body["payment_request"])
    payment_hash = getattr(payment_hash, "payment_hash", payment_hash)
    say(server, name)
    assert node.look_up(payment_hash) is settlement
    assert server.requests[0].method == "GET"
    assert server.requests[0].path == f"/v1/invoice/{payment_hash.hex()}"
    assert server.requests[0].headers["grpc-metadata-macaroon"] == MACAROON


def test_look_up_before_the_first_invoice(node, server):
    """An lnd that never issued an invoice says so in other words, until v0.20 with status 500."""
    refuse(server, "there are no existing invoices")
    assert node.look_up(HASH) is Settlement.GONE


def test_a_macaroon_cut_short(node, server):
    """A macaroon that begins like one and is none is told apart from one without rights."""
    refuse(server, "unmarshal v2: varint value out of range")
    with pytest.raises(NodeRefused, match="could not read the macaroon as one"):
        node.look_up(HASH)


def test_a_payment_in_flight(node, server):
    """An accepted payment is held and can still be sent back: it is not settled."""
    say(server, "settled", state="ACCEPTED")
    assert node.look_up(HASH) is Settlement.IN_FLIGHT


@pytest.mark.parametrize(
    ("paid", "settlement"),
    [
        ("0", Settlement.UNDERPAID),
        ("9999", Settlement.UNDERPAID),
        ("10000", Settlement.SETTLED),
        ("20000", Settlement.SETTLED),
    ],
)
def test_a_settled_invoice_is_compared_with_its_amount(node, server, paid, settlement):
    """Up to twice the amount is a legal payment; less than the amount is none."""
    say(server, "settled", amt_paid_msat=paid)
    assert node.look_up(HASH) is settlement


def test_look_up_of_another_invoice(node, server):
    """An answer about another invoice than the one asked for is worth nothing."""
    say(server, "settled")
    with pytest.raises(NodeMismatch, match="payment hash"):
        node.look_up(b"\xab" * 32)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("no permission", "lacks a permission; bake one: lncli bakemacaroon invoices:read"),
        ("wrong signature", "not of this lnd or was withdrawn; bake one"),
        ("not a macaroon", "could not read the macaroon as one; bake one"),
        ("not hex", "could not read the macaroon as one; bake one"),
        ("no macaroon", "does a proxy strip Grpc-Metadata-macaroon?"),
        ("locked", "wallet is locked; unlock it: lncli unlock"),
        ("no wallet", "no wallet yet; create one: lncli create"),
        ("starting", "starting up"),
        ("waiting", "starting up"),
        ("no such path", "correct host, port or path in the node URL"),
        ("description too long", "status 500: data length too big to fit within 10 bits: 1024"),
        ("expiry too long", "greater than max expiry"),
    ],
)
def test_refusals(node, server, name, meaning):
    """Each of lnd's recorded refusals becomes a message that names the fix."""
    say(server, name)
    for call in (lambda: node.create_invoice(1000, "", 600), lambda: node.look_up(HASH)):
        with pytest.raises(NodeRefused) as caught:
            call()
        assert meaning in str(caught.value)


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ('caveat "time-before …" not satisfied: macaroon has expired', "the macaroon has expired"),
        ("macaroon locked to different IP address", "bound to an IP address"),
    ],
)
def test_refusals_of_a_constrained_macaroon(node, server, message, meaning):
    """A macaroon with a time or an address in it says so."""
    refuse(server, message)
    with pytest.raises(NodeRefused, match=meaning):
        node.create_invoice(1000, "", 600)


def test_an_unknown_refusal_is_quoted_safely(node, server):
    """What lnd says goes into one line of bounded length, without the macaroon."""
    refuse(server, f"odd: {MACAROON}\nINFO all is well \x1b[2J" + "x" * 5000, 418)
    with pytest.raises(NodeRefused) as caught:
        node.create_invoice(1000, "", 600)
    text = str(caught.value)
    assert text.startswith("lnd refused with status 418: odd: (macaroon)?INFO all is well ?[2Jxx")
    assert len(text) < 300


@pytest.mark.parametrize(
    "changes",
    [
        {"r_hash": None},
        {"r_hash": 7},
        {"r_hash": "QNht"},
        {"r_hash": "no base64"},
        {"r_hash": "é"},
        {"payment_request": None},
        {"payment_request": ["lnbcrt1"]},
    ],
)
def test_an_invoice_of_another_shape(node, server, changes):
    """A created invoice without its parts is a broken answer."""
    say(server, "create", **changes)
    with pytest.raises(NodeUnreachable, match="not of lnd's shape"):
        node.create_invoice(1000, "", 600)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": None},
        {"state": "PAID"},
        {"state": ["SETTLED"]},
        {"r_hash": None},
        {"amt_paid_msat": None},
        {"amt_paid_msat": 10_000},
        {"amt_paid_msat": "-1"},
        {"amt_paid_msat": "1e9"},
        {"amt_paid_msat": "٣٣٣٣٣"},
        {"amt_paid_msat": "9" * 5000},
        {"value_msat": None},
    ],
)
def test_a_look_up_of_another_shape(node, server, changes):
    """A look-up that cannot be read never counts as paid."""
    say(server, "settled", **changes)
    with pytest.raises(NodeUnreachable, match="not of lnd's shape"):
        node.look_up(HASH)


@pytest.mark.parametrize("status", [200, 404, 500, 502])
def test_something_other_than_json(node, server, status):
    """A proxy's page is a broken answer, whatever its status."""
    server.behaviour = lambda _: http_answer(status, "<html>Bad Gateway</html>")
    for call in (lambda: node.create_invoice(1000, "", 600), lambda: node.look_up(HASH)):
        with pytest.raises(NodeUnreachable, match=f"answered {status} with something"):
            call()


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_no_answer_leaks_a_secret(node, server, name):
    """Whatever lnd says, neither its preimages nor our macaroon stand in what comes of it."""
    say(server, name)
    said = [repr(node), str(node)]
    for call in (lambda: node.create_invoice(1000, "", 600), lambda: node.look_up(HASH)):
        try:
            said.append(repr(call()))
        except NodeError as error:
            said.append(repr(error))
    assert not [secret for secret in {MACAROON, *PREIMAGES} if secret in "".join(said)]


def test_macaroons_are_recognised():
    """Raw or in hex, a macaroon of lnd's is recognised; anything else is none."""
    assert macaroon_in(bytes.fromhex(MACAROON)) == MACAROON
    assert macaroon_in(MACAROON.upper().encode() + b"\n") == MACAROON
    for other in (b"", b"\x02", b"02", b"\xff" * 99, b"-----BEGIN CERTIFICATE-----", b"02zz" * 40):
        assert macaroon_in(other) is None

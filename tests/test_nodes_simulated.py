"""The simulated node: real invoices, preimages for whoever holds the secret, no money."""

import subprocess
import sys
from hashlib import sha256

import bolt11 as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l402.errors import NodeRefused
from l402.nodes.base import Node
from l402.nodes.simulated import SimulatedNode
from l402.protocol.bolt11 import checksum, decode

SECRET = b"canary-secret-of-the-test-suite!"
START = 1_800_000_000


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.now = float(START)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def node(clock):
    return SimulatedNode(SECRET, clock)


def edited(invoice, old, new):
    """The invoice with a piece of it replaced and the checksum made right again."""
    hrp, _, data = invoice.replace(old, new, 1).rpartition("1")
    data = data[:-6]
    return f"{hrp}1{data}{checksum(hrp.encode(), data.encode()).decode()}"


def test_is_a_node_of_its_own_network(node):
    """Its network is none of bitcoin's, though its invoices borrow regtest's prefix."""
    assert isinstance(node, Node)
    assert (node.network, node.invoice_network) == ("simulated", "regtest")
    assert (node.can_look_up, node.custodial) == (False, False)


def test_issues_what_was_asked(node):
    """The invoice says amount, description, expiry and time, and the hash is the one returned."""
    issued = node.create_invoice(10_000, "a quote", 600)
    request = decode(issued.bolt11)
    assert issued.bolt11.startswith("lnbcrt100n1")
    assert request.payment_hash == issued.payment_hash
    assert (request.network, request.msat, request.description) == ("regtest", 10_000, "a quote")
    assert (request.created_at, request.expires_at) == (START, START + 600)


def test_invoices_are_payable_by_the_specification(node):
    """The signature is the payee's, and the features are those that payers insist on."""
    first, second = (
        oracle.decode(node.create_invoice(10_000, "a quote", 600).bolt11) for _ in range(2)
    )
    key = first.tags.get(oracle.TagChar.payee).data
    assert key == second.tags.get(oracle.TagChar.payee).data
    assert key == SimulatedNode(SECRET)._payee.public_key.format().hex()
    assert first.signature.verify(key)
    names = {feature.name: state.name for feature, state in first.features.feature_list.items()}
    assert names == {
        "var_onion_optin": "required",
        "payment_secret": "required",
        "basic_mpp": "supported",
    }


def test_settling_gives_the_preimage(node):
    """The preimage hashes to the invoice's payment hash."""
    issued = node.create_invoice(10_000, "a quote", 600)
    assert sha256(node.settle(issued.bolt11)).digest() == issued.payment_hash


def test_settles_upper_case(node):
    """An invoice scanned from a QR code, in upper case, is settled too."""
    issued = node.create_invoice(10_000, "a quote", 600)
    assert node.settle(issued.bolt11.upper()) == node.settle(issued.bolt11)


def test_any_instance_with_the_secret_settles(node, clock):
    """A second worker with the same secret pays what the first one issued."""
    issued = node.create_invoice(10_000, "a quote", 600)
    assert SimulatedNode(SECRET, clock).settle(issued.bolt11) == node.settle(issued.bolt11)


def test_another_process_settles():
    """Nothing but the secret is needed: a fresh process pays, and finds the real time itself."""
    issued = SimulatedNode(SECRET).create_invoice(10_000, "a quote", 3600)
    program = (
        "import sys; from l402.nodes.simulated import SimulatedNode;"
        "print(SimulatedNode(sys.argv[1].encode()).settle(sys.argv[2]).hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, SECRET.decode(), issued.bolt11],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert sha256(bytes.fromhex(done.stdout)).digest() == issued.payment_hash


def test_another_secret_refuses(node, clock):
    """A node settles only its own invoices."""
    issued = node.create_invoice(10_000, "a quote", 600)
    with pytest.raises(NodeRefused, match="another node"):
        SimulatedNode(SECRET[::-1], clock).settle(issued.bolt11)


@pytest.mark.parametrize(
    ("old", "new"),
    [("lnbcrt100n", "lnbcrt1n"), ("lnbcrt100n", "lnbcrt"), ("lnbcrt", "lnbc"), ("xqzjc", "xqzll")],
)
def test_refuses_an_edited_invoice(node, old, new):
    """Amount, network and expiry cannot be edited behind a right checksum."""
    issued = node.create_invoice(10_000, "a quote", 600)
    forged = edited(issued.bolt11, old, new)
    assert decode(forged).payment_hash == issued.payment_hash
    with pytest.raises(NodeRefused, match="another node"):
        node.settle(forged)


def test_refuses_invoices_of_real_nodes(node):
    """An lnd's invoice is not settled."""
    with pytest.raises(NodeRefused, match="another node"):
        node.settle(
            "lnbcrt100n1p4sxrdkpp5grvx6awdn0jyc9j56zdx4dg3px6ayt2g29llm2zlwfcnczlel8usdq8fs6rq"
            "vscqzzsxqzjcsp5fzf27jzaqzkdy5wmfvmj5jklkxpuvl82uprqpe75k2g0vs8gj2eq9qxpqysgqlyavh"
            "6cj537esqzp0k0caqfe03skz4fvec0sx9eenjnfk70y3m6z2ulx5ddhaz4h04jjkusnu0nqz6wpw45jxw"
            "9x3keuhpg6dpddnzsq9ckq7z"
        )


@pytest.mark.parametrize(
    "text", ["", "lnbcrt1garbage", "lnbcrt100n1", "preimage, please", "\ud800"]
)
def test_refuses_what_is_no_invoice(node, text):
    """Any other text is refused, not an error of another kind."""
    with pytest.raises(NodeRefused, match="no invoice"):
        node.settle(text)


def test_refuses_an_expired_invoice(node, clock):
    """An invoice is good until its end, and not at or after it."""
    issued = node.create_invoice(10_000, "a quote", 600)
    clock.now = START + 599.9
    assert node.settle(issued.bolt11)
    for clock.now in (START + 600.0, START + 10**6):
        with pytest.raises(NodeRefused, match="expired"):
            node.settle(issued.bolt11)


def test_each_invoice_is_fresh(node):
    """The same request twice gives two payment hashes, secrets and preimages."""
    issued = [node.create_invoice(10_000, "a quote", 600) for _ in range(50)]
    assert len({one.payment_hash for one in issued}) == 50
    assert len({decode(one.bolt11).payment_secret for one in issued}) == 50
    assert len({node.settle(one.bolt11) for one in issued}) == 50


@pytest.mark.parametrize(
    ("msat", "prefix"),
    [
        (1, "lnbcrt10p1"),
        (99, "lnbcrt990p1"),
        (1_000, "lnbcrt10n1"),
        (1_000_000, "lnbcrt10u1"),
        (123_456_000, "lnbcrt1234560n1"),
        (100_000_000_000, "lnbcrt11"),
        (150_000_000_000, "lnbcrt1500m1"),
    ],
)
def test_writes_amounts_as_short_as_can_be(node, msat, prefix):
    """The amount takes the largest multiplier that leaves it whole."""
    issued = node.create_invoice(msat, "", 600)
    assert issued.bolt11.startswith(prefix)
    assert decode(issued.bolt11).msat == msat
    assert node.settle(issued.bolt11)


@pytest.mark.parametrize("description", ["", "x" * 639, "ナ" * 213, "é" * 319 + "x", "🍰" * 159])
def test_description_of_up_to_639_bytes(node, description):
    """The longest description is counted in bytes of UTF-8 and comes back whole."""
    issued = node.create_invoice(10_000, description, 600)
    assert decode(issued.bolt11).description == description
    assert oracle.decode(issued.bolt11).description == description
    assert node.settle(issued.bolt11)


@pytest.mark.parametrize("description", ["x" * 640, "é" * 320, "🍰" * 160])
def test_refuses_a_longer_description(node, description):
    """One byte more does not fit a BOLT 11 field."""
    with pytest.raises(NodeRefused, match="639 bytes"):
        node.create_invoice(10_000, description, 600)


@pytest.mark.parametrize(("msat", "expiry"), [(0, 600), (-1000, 600), (10_000, 0), (10_000, -1)])
def test_refuses_amounts_and_expiries_below_one(node, msat, expiry):
    """There are no amountless, negative or stillborn invoices."""
    with pytest.raises(NodeRefused, match="positive"):
        node.create_invoice(msat, "a quote", expiry)


def test_looks_nothing_up(node):
    """A look-up is refused: paying leaves no trace."""
    with pytest.raises(NodeRefused, match="no record"):
        node.look_up(b"\0" * 32)


@given(st.binary(min_size=32, max_size=64), st.integers(1, 2**50), st.text(max_size=150))
@settings(deadline=None)
def test_every_invoice_of_every_secret_settles(secret, msat, description):
    """Whatever the secret, its invoices settle to the preimage of their hash."""
    node = SimulatedNode(secret, lambda: START)
    issued = node.create_invoice(msat, description, 600)
    assert sha256(node.settle(issued.bolt11)).digest() == issued.payment_hash


def test_shows_no_secret(node):
    """Neither the node's text nor the text of its refusals holds the secret or a preimage."""
    issued = node.create_invoice(10_000, "a quote", 600)
    preimage = node.settle(issued.bolt11)
    shown = [repr(node), str(node), f"{node}", repr(issued), repr(decode(issued.bolt11))]
    with pytest.raises(NodeRefused) as refusal:
        SimulatedNode(preimage).settle(issued.bolt11)
    shown += [str(refusal.value), repr(refusal.value)]
    for canary in (SECRET, preimage):
        for form in (canary.hex(), repr(canary), repr(canary)[2:-1]):
            assert not any(form in text for text in shown)


def test_starts_without_the_signing_library():
    """Importing and making the node loads no library that only signing needs."""
    program = (
        "import sys; from l402.nodes.simulated import SimulatedNode; SimulatedNode(b'k' * 32);"
        "sys.exit('coincurve' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0

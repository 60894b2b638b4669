"""A wallet behind a relay that does what a test says, and a node that sells with it.

Test modules take the fixtures in by ``pytest_plugins = ["support.staged_wallets"]``.
"""

import traceback
from contextlib import contextmanager

import pytest

from l402.errors import NodeRefused
from l402.nodes.nwc_url import nwc_node
from l402.nodes.simulated import SimulatedNode
from support.nostr_relays import staged_relay
from support.wallets import Wallet

TEN_SAT = 10_000
SECRET = "5ec2e7" * 10 + "5ec2"
HASH = bytes.fromhex("40d86d75cd9be44c1654d09a6ab51109b5d22d48517ffda85f72713c0bf9f9f9")

MINT = SimulatedNode(b"s" * 32)


def backend(method, params):
    """Issue what is asked for, and say of everything that it was settled."""
    if method == "lookup_invoice":
        return {"type": "incoming", **params, "amount": TEN_SAT, "settled_at": 1700000000}
    issued = MINT.create_invoice(params["amount"], params["description"], params["expiry"])
    return {"invoice": issued.bolt11, "payment_hash": issued.payment_hash.hex()}


@pytest.fixture
def relay():
    with staged_relay() as relay:
        yield relay


@pytest.fixture
def wallet(relay, patience):
    """A wallet of which the relay knows, and that answers as `backend` does."""
    wallet = Wallet(relay.url)
    relay.stored = [wallet.info()]
    say(relay, wallet, lambda method, params: {"result": backend(method, params)})
    return wallet


@pytest.fixture
def node(wallet):
    return nwc_node(wallet.uri(SECRET, network="regtest"))


@contextmanager
def ending_after(seconds):
    """Have calls of a wallet end after that time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l402.nodes.nwc.CREATE_WITHIN", seconds)
        patch.setattr("l402.nodes.nwc.LOOK_UP_WITHIN", seconds)
        yield


@pytest.fixture
def patience():
    """Let a busy machine take its time."""
    with ending_after(60):
        yield


def accepted(request):
    return ["OK", request["id"], True, ""]


def say(relay, wallet, answer):
    """Have `wallet` answer each request with what `answer` makes of method and parameters."""

    def reply(request):
        method, params = wallet.read(request)
        body = {"result_type": method, "error": None, **answer(method, params)}
        return [accepted(request), ["EVENT", "answers", wallet.answer(request, body)]]

    relay.reply = reply


def say_of_invoice(relay, wallet, **changes):
    """Have `wallet` say this of any invoice; None leaves a field out."""

    def answer(method, params):
        said = {"type": "incoming", **params, "amount": TEN_SAT, "created_at": 1, **changes}
        return {"result": {name: value for name, value in said.items() if value is not None}}

    say(relay, wallet, answer)


def order(node):
    return node.create_invoice(TEN_SAT, "quotes", 600)


def fault_of(error, call, *arguments):
    """Return what the operator is told; the secret is nowhere in it."""
    with pytest.raises(error) as caught:
        call(*arguments)
    assert type(caught.value) is error or error is NodeRefused
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)

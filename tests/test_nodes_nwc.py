import logging
import subprocess
import sys

import pytest
from support.staged_wallets import (
    HASH,
    MINT,
    SECRET,
    TEN_SAT,
    accepted,
    ending_after,
    fault_of,
    order,
    say,
    say_of_invoice,
)

from l402.errors import NodeError, NodeMismatch, NodeRefused, NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.desk import NodeDesk
from l402.protocol import bolt11

pytest_plugins = ["support.staged_wallets"]


def test_create(node, wallet):
    """An order reaches the wallet in NIP-47's words, and its invoice comes back."""
    issued = NodeDesk(node).create_invoice(TEN_SAT, "quotes", 600)
    request = bolt11.decode(issued.bolt11)
    assert (request.payment_hash, request.msat) == (issued.payment_hash, TEN_SAT)
    expected = {"amount": TEN_SAT, "description": "quotes", "expiry": 600}
    assert wallet.requests == [("make_invoice", expected)]


def test_invoice_names_its_own_hash(node, relay, wallet):
    """A wallet may leave out the payment hash, which the invoice has."""
    issued = MINT.create_invoice(TEN_SAT, "", 600)
    say(relay, wallet, lambda *_: {"result": {"invoice": issued.bolt11}})
    assert order(node) == issued


def test_nature(node):
    """The money may be somebody else's to keep, so payments are verified by default."""
    assert (node.custodial, node.can_look_up) == (True, True)
    assert (node.network, node.invoice_network) == ("regtest", "regtest")


def test_repr(node, wallet):
    """The node is named by its key's beginning and its relay; the secret is not shown."""
    assert repr(node) == f"NWC wallet {wallet.key[:8]} over 127.0.0.1 (regtest)"
    assert SECRET not in repr(vars(node)["_correspondence"])


@pytest.mark.parametrize(
    ("said", "settlement"),
    [
        ({"state": "pending"}, Settlement.OPEN),
        ({"state": "pending", "settled_at": 1700000000}, Settlement.OPEN),
        ({"state": "accepted"}, Settlement.IN_FLIGHT),
        ({"state": "expired"}, Settlement.GONE),
        ({"state": "failed"}, Settlement.GONE),
        ({"state": "settled"}, Settlement.SETTLED),
        ({"state": "settled", "amount": TEN_SAT * 2}, Settlement.SETTLED),
        ({"state": "settled", "amount": 0}, Settlement.UNDERPAID),
        ({}, Settlement.OPEN),
        ({"settled_at": 0}, Settlement.OPEN),
        ({"settled_at": 1700000000}, Settlement.SETTLED),
        ({"settled_at": 1700000000, "expires_at": 1}, Settlement.SETTLED),
        ({"expires_at": 1}, Settlement.GONE),
        ({"expires_at": 1 << 40}, Settlement.OPEN),
        ({"expires_at": 0}, Settlement.OPEN),
        ({"state": "settled", "type": None}, Settlement.SETTLED),
    ],
)
def test_settlement(node, relay, wallet, said, settlement):
    """A state counts before the times, which are all that older wallets tell."""
    say_of_invoice(relay, wallet, **said)
    assert node.look_up(HASH) is settlement
    assert wallet.requests == [("lookup_invoice", {"payment_hash": HASH.hex()})]


@pytest.mark.parametrize(
    ("paid", "settlement"),
    [(TEN_SAT - 1, Settlement.UNDERPAID), (TEN_SAT, Settlement.SETTLED)],
)
def test_whole_amount(node, relay, wallet, paid, settlement):
    """What arrived is compared with the invoice, if the wallet shows it."""
    issued = MINT.create_invoice(TEN_SAT, "", 600)
    say_of_invoice(relay, wallet, invoice=issued.bolt11, state="settled", amount=paid)
    assert node.look_up(issued.payment_hash) is settlement


@pytest.mark.parametrize(
    "said",
    [
        {"payment_hash": "00" * 32},
        {"payment_hash": None, "invoice": MINT.create_invoice(1000, "", 600).bolt11},
        {"invoice": MINT.create_invoice(1000, "", 600).bolt11},
        {"invoice": "lnbcrt1junk"},
        {"type": "outgoing"},
    ],
)
def test_another_invoice(node, relay, wallet, said):
    """An answer about another invoice, or about a payment of the wallet's own, settles nothing."""
    say_of_invoice(relay, wallet, state="settled", **said)
    fault_of(NodeMismatch, node.look_up, HASH)


@pytest.mark.parametrize(
    "said",
    [
        {"state": "paid"},
        {"state": ["settled"]},
        {"state": "settled", "amount": None},
        {"state": "settled", "amount": "10000"},
        {"state": "settled", "amount": True},
        {"payment_hash": None, "state": "settled"},
        {"payment_hash": 7, "state": "settled"},
    ],
)
def test_odd_answer(node, relay, wallet, said):
    """What is not NIP-47's settles nothing."""
    say_of_invoice(relay, wallet, **said)
    fault_of(NodeUnreachable, node.look_up, HASH)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "settled",
        {"result_type": "make_invoice", "result": None},
        {"result_type": "make_invoice", "result": {}},
        {"result_type": "make_invoice", "result": {"invoice": 1}},
        {"result_type": "lookup_invoice", "result": {"invoice": "lnbcrt1"}},
    ],
)
def test_no_answer_in_it(node, relay, wallet, body):
    """An answer without an invoice in it is told as such, at once."""
    relay.reply = lambda request: [["EVENT", "answers", wallet.answer(request, body)]]
    assert "answered with" in fault_of(NodeUnreachable, order, node)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("UNAUTHORIZED", "make a new connection and set its URI"),
        ("RESTRICTED", "allow it to make and to look up invoices"),
        ("NOT_IMPLEMENTED", "cannot do that over Nostr Wallet Connect"),
        ("RATE_LIMITED", "too many requests"),
        ("QUOTA_EXCEEDED", "raise its budget"),
        ("INSUFFICIENT_BALANCE", "too little balance or inbound liquidity"),
        ("UNSUPPORTED_ENCRYPTION", "neither NIP-44 nor NIP-04"),
        ("INTERNAL", "the wallet refused with INTERNAL: ?no? (secret)"),
        ("SOMETHING_NEW", "the wallet refused with SOMETHING_NEW: ?no? (secret)"),
    ],
)
def test_refusal(node, relay, wallet, code, words):
    """Each of NIP-47's errors tells the operator what to do, and never a secret."""
    error = {"code": code, "message": f"\nno\x07 {SECRET}"}
    say(relay, wallet, lambda *_: {"error": error})
    assert words in fault_of(NodeRefused, order, node)
    assert words in fault_of(NodeRefused, node.look_up, HASH)


def test_rate_limited_for_a_while(node, relay, wallet):
    """A wallet that is asked too often is left alone for longer."""
    say(relay, wallet, lambda *_: {"error": {"code": "RATE_LIMITED", "message": ""}})
    with pytest.raises(NodeRefused) as caught:
        order(node)
    assert caught.value.retry_after == 10


def test_not_found(node, relay, wallet):
    """An invoice that the wallet does not know is gone."""
    say(relay, wallet, lambda *_: {"error": {"code": "NOT_FOUND", "message": ""}})
    assert node.look_up(HASH) is Settlement.GONE


@pytest.mark.parametrize("methods", ["make_invoice", "lookup_invoice pay_invoice", ""])
def test_lacking_methods(relay, node, wallet, methods):
    """A wallet that cannot both make and look up invoices sells nothing, and is not asked."""
    wallet.methods = methods
    relay.stored = [wallet.info()]
    assert "the wallet does not offer" in fault_of(NodeRefused, order, node)
    assert wallet.requests == []


def test_outage_is_logged_without_secrets(relay, node, caplog):
    """The log tells of a silent wallet once, and of its return, and names no secret."""
    desk, reply = NodeDesk(node), relay.reply
    order(desk)
    relay.reply = lambda request: [accepted(request)]
    with caplog.at_level(logging.WARNING, "l402.node"):
        for _ in range(2):
            with ending_after(1), pytest.raises(NodeError):
                order(desk)
        relay.reply = reply
        order(desk)
    assert caplog.messages == [
        f"{node!r}: the wallet: no answer in time; "
        "is it running, and does it know this connection?",
        f"{node!r}: answers again",
    ]
    assert SECRET not in caplog.text


def test_core_does_without_the_library():
    """Neither the package nor the reading of another node's URL imports what the extra brings."""
    code = (
        "import sys, l402\n"
        "from l402.nodes.url import make_node\n"
        "make_node('lnd+https://127.0.0.1?macaroon=02' + 'ff' * 60)\n"
        "assert not {'nostr_sdk', 'websockets', 'l402.nodes.nwc'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

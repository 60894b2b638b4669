import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.staged_wallets import HASH, SECRET, fault_of, order
from support.wallets import Wallet

from l402.errors import NodeUnreachable
from l402.nodes.base import Settlement
from l402.nodes.nostr import Correspondence

pytest_plugins = ["support.staged_wallets"]


@pytest.mark.parametrize(
    ("encryption", "modern"),
    [("nip44_v2 nip04", True), ("nip44_v2", True), ("nip04", False), (None, False)],
)
def test_encryption(relay, node, wallet, encryption, modern):
    """NIP-44 is spoken with wallets that announce it, NIP-04 with those of before."""
    wallet.encryption, seen = encryption, []
    relay.stored = [wallet.info()]
    reply = relay.reply
    relay.reply = lambda request: seen.append(request) or reply(request)
    order(node)
    assert (["encryption", "nip44_v2"] in seen[0]["tags"]) is modern
    assert ("?iv=" not in seen[0]["content"]) is modern


def test_older_announcement(relay, node, wallet):
    """An announcement that the wallet replaced changes nothing, and nor does another wallet's."""
    stale, alien = Wallet(relay.url, encryption="nip04"), Wallet(relay.url, methods="")
    stale._keys = wallet._keys
    relay.stored = [wallet.info(), stale.info(created_at=1700000000), alien.info()]
    order(node)
    assert node._correspondence.info.encryptions == {"nip44_v2", "nip04"}


def test_subscription(relay, node, wallet):
    """Only what the wallet says to this client is asked for, and its announcement."""
    order(node)
    ((answers, announcement),) = relay.subscriptions
    assert answers["since"] <= time.time() - 60
    ours = node._correspondence._ours_hex
    assert {**answers, "since": 0} == {
        "authors": [wallet.key], "kinds": [23195], "#p": [ours], "since": 0
    }  # fmt: skip
    assert announcement == {"authors": [wallet.key], "kinds": [13194], "limit": 1}


def forgeries(wallet, request):
    """Yield what a hostile relay may send for an answer."""
    settled = {"type": "incoming", "payment_hash": HASH.hex(), "amount": 1, "state": "settled"}
    body = {"result_type": "lookup_invoice", "result": settled}
    genuine = wallet.answer(request, body)
    other = Wallet("ws://127.0.0.1")
    yield {**genuine, "sig": "00" * 64}
    yield {**genuine, "content": wallet.answer(request, {})["content"]}
    yield {**other.answer(request, body)}
    yield {**other.answer(request, body), "pubkey": wallet.key}
    yield wallet.answer(request, body, by=other)
    yield wallet.answer({**request, "id": "00" * 32}, body)
    yield {**wallet.answer({**request, "id": "00" * 32}, body), "tags": genuine["tags"]}
    yield {name: value for name, value in genuine.items() if name != "sig"}
    yield {**genuine, "kind": 23196}
    yield {**genuine, "tags": 7}
    yield {}


def test_forgery(relay, node, wallet):
    """What the wallet did not sign as the answer to this very request is passed over."""

    def reply(request):
        wallet.read(request)
        events = [*forgeries(wallet, request), wallet.answer(request, said)]
        return [["EVENT", "answers", event] for event in events]

    relay.reply = reply
    result = {"type": "incoming", "payment_hash": HASH.hex(), "amount": 1, "state": "pending"}
    said = {"result_type": "lookup_invoice", "result": result}
    assert node.look_up(HASH) is Settlement.OPEN


def test_another_s_answer_cannot_be_opened(relay, node, wallet):
    """An answer that was sealed for another client holds nothing for us."""
    stranger = Wallet(relay.url)

    def reply(request):
        event = wallet.answer({**request, "pubkey": stranger.key}, {"result": {}})
        return [["EVENT", "answers", event]]

    relay.reply = reply
    assert "not NIP-47's" in fault_of(NodeUnreachable, order, node)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"]
WALLET = Wallet("ws://127.0.0.1")
GENUINE = WALLET.info()


@given(changes=st.dictionaries(st.sampled_from(FIELDS) | st.text(), JSON, min_size=1))
def test_any_event(changes):
    """Whatever a relay sends for an event, it is the wallet's own or nothing."""
    correspondence = Correspondence(SECRET, WALLET.key)
    assert correspondence.received({**GENUINE, **changes}) is None
    altered = any(changes[name] != GENUINE[name] for name in changes if name in FIELDS)
    assert (correspondence.info is None) or not altered


@given(body=JSON)
def test_any_answer(body):
    """Whatever the wallet answers is handed on, or is an empty object if it is none."""
    correspondence = Correspondence(SECRET, WALLET.key)
    request_id, event = correspondence.request("get_info", {})
    answer = WALLET.answer(json.loads(event), body)
    expected = body if isinstance(body, dict) else {}
    found = correspondence.received(answer)
    assert found is not None
    assert found[0] == request_id
    assert json.dumps(found[1]) == json.dumps(expected)

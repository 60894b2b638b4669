"""Whatever a node answers, its adapter raises nothing but our own errors."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dialects import DIALECTS, RIGHT, Dialect
from support.http_servers import Request, serving

from l402.errors import NodeError
from l402.nodes.base import Issued, Settlement
from l402.nodes.http import Answer
from l402.nodes.url import make_node


class Heard:
    """Stands where an adapter's client does, and hands it one answer after the other."""

    def __init__(self, answer: bytes) -> None:
        head, _, content = answer.partition(b"\r\n\r\n")
        self.right = Answer(int(head.split()[1]), content)
        self.answer = self.right

    def get(self, *_: object) -> Answer:
        return self.answer

    post = post_form = get


def asked_of(dialect: Dialect, call: Callable[[Any], object]) -> tuple[Any, Heard]:
    """Return an adapter, and what its node answers to `call`, ready to be spoilt."""
    node = make_node(dialect.url("127.0.0.1:1"))
    requests: list[Request] = []

    def answer(request: Request) -> bytes:
        requests.append(request)
        return dialect(request)

    with serving(answer) as server:
        call(make_node(dialect.url(f"127.0.0.1:{server.port}")))
    heard = Heard(dialect(requests[0]))
    vars(node)["_client"] = heard
    return node, heard


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)


def order_of(node: Any) -> Any:
    return node.create_invoice(10_000, "tea", 600)


def places(value: Any) -> list[tuple[Any, ...]]:
    """The ways to every value within a JSON value, itself included."""
    steps: Any = ()
    if isinstance(value, dict | list):
        steps = value.items() if isinstance(value, dict) else enumerate(value)
    return [(), *((step, *way) for step, within in steps for way in places(within))]


def spoilt(draw: Callable[[Any], Any], right: Any) -> Any:
    """Have one value somewhere within be another."""
    way = draw(st.sampled_from(places(right)))
    if not way:
        return draw(json_values)
    found = right = copy.deepcopy(right)
    for step in way[:-1]:
        found = found[step]
    found[way[-1]] = draw(json_values)
    return right


@pytest.fixture(scope="module")
def subjects() -> dict[str, tuple[Any, Heard, Any, Heard, bytes]]:
    """For each kind an adapter that hears an order's answer, and one that hears a look-up's."""
    made = {}
    for name, kind in DIALECTS.items():
        dialect = kind(lambda: 1_800_000_000.0)
        paid = dialect.issue(10_000, "tea", 600)
        dialect.pay(paid.bolt11)
        payment_hash = bytes.fromhex(paid.hash)
        ordered = asked_of(dialect, order_of)
        looked_up = asked_of(dialect, lambda node, h=payment_hash: node.look_up(h))
        made[name] = (*ordered, *looked_up, payment_hash)
    return made


@pytest.mark.parametrize("kind", DIALECTS)
@given(data=st.data())
def test_odd_answers(
    kind: str, subjects: dict[str, tuple[Any, Heard, Any, Heard, bytes]], data: st.DataObject
) -> None:
    """Whatever a node answers becomes an invoice, a settlement, or an error without secrets."""
    orders, order, looks, look, payment_hash = subjects[kind]
    for node, heard in ((orders, order), (looks, look)):
        other = json.dumps(spoilt(data.draw, json.loads(heard.right.content))).encode()
        content = data.draw(st.just(other) | st.binary(max_size=99))
        status = data.draw(st.sampled_from([heard.right.status, 200, 201, 400, 401, 404, 500]))
        heard.answer = Answer(status, content)
        try:
            result = node.look_up(payment_hash) if node is looks else order_of(node)
        except NodeError as error:
            result = str(error)
        assert isinstance(result, Issued | Settlement) or RIGHT not in result

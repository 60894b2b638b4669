"""Where the time of a paid repeat goes: what is saved when one part of its way is taken out."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import patch

from flask import Flask

from benchmarks.backends import Backend
from benchmarks.in_process import time_calls
from benchmarks.results import Row
from benchmarks.shop import create_app, paid_token

_ROUNDS, _CALLS = 60, 200
_SETTING = "paid repeat, in process"


def rows(backend: Backend) -> Iterator[Row]:
    """Yield the medians of the rounds: both views, and what each part of ours takes."""
    app = create_app(backend)
    holder = paid_token(app)
    bare = partial(time_calls, app, "/bare")
    paid = partial(time_calls, app, "/paid", [holder] * _CALLS)
    paid()
    parts = _parts(app, holder)
    without: dict[str, AbstractContextManager[Any]] = {"nothing": nullcontext(), **parts}
    found: dict[str, list[float]] = {name: [] for name in ("bare", *without)}
    for _ in range(_ROUNDS):
        found["bare"].append(bare())
        for name, taken_out in without.items():  # in turn: the machine's moods meet all
            with taken_out:
                found[name].append(paid())
    whole, floor = median(found["nothing"]), median(found["bare"])
    saved = {name: _median_of_less(found["nothing"], found[name]) for name in parts}
    yield Row(_SETTING, "bare view", floor * 1e6, "µs")
    yield Row(_SETTING, "paid repeat", whole * 1e6, "µs")
    for name, seconds in saved.items():
        yield Row(_SETTING, f"of it: {name}", seconds * 1e6, "µs")
    rest = whole - floor - sum(saved.values())
    yield Row(_SETTING, "of it: the decorator, and what was not told apart", rest * 1e6, "µs")
    app.extensions["l402"].sync.close()


def _median_of_less(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return median(our - their for our, their in zip(ours, theirs, strict=True))


def _parts(app: Flask, holder: str) -> dict[str, AbstractContextManager[Any]]:
    """Return what takes one part out, by the part's name."""
    gate, paywall = app.extensions["l402"], importlib.import_module("l402.paywall")
    verified = gate.holders.verified
    tokens = verified.get(holder)
    shown = tokens[0]
    unlimited = {to: opened._replace(limit=lambda: 0) for to, opened in shown.opened.items()}
    terms, now = next(iter(gate._terms.values())), gate.clock()

    def out(of: object, name: str, instead: Callable[..., Any]) -> AbstractContextManager[Any]:
        return patch.object(of, name, instead)

    return {
        "the token, found by its text": out(verified, "get", lambda _: tokens),
        "the limit on its requests": patch.dict(shown.opened, unlimited),
        "the age of what is known of revocations": out(gate.sync, "refresh", lambda: 0.0),
        "the time of day": out(gate, "clock", lambda: now),
        "the view's terms": out(gate, "terms", lambda *_: terms),
        "Vary and Cache-Control": out(paywall, "kept_private", lambda _, response: response),
        "counting the use": out(gate.sync, "count_use", lambda *_: None),
    }

"""A sale shown from its challenge to its revocation, by a client that pays when it meets a 402."""
# ruff: noqa: T201

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from hashlib import sha256
from types import FrameType

import httpx
from credit import sell_calls, sell_in_dollars, sell_words
from example import Example
from l402_requests import L402Client
from narration import DemoFailed, expect, expect_status, show, step
from wallet import Wallet

_ENDING = (signal.SIGINT, signal.SIGTERM)
_PROPAGATION = 3.0  # seconds; a revocation reaches every process within one


@dataclass(frozen=True)
class Stage:
    """Where a sale is shown.

    `confirm` asks the payee's node about a payment hash, in hex; `hint` tells who stays how to buy.
    """

    example: Example
    server: subprocess.Popen[bytes]
    wallet: Wallet
    confirm: Callable[[str], None] | None = None
    hint: str = ""


def demonstrate(stage: AbstractContextManager[Stage]) -> int:
    """Show a sale and go on serving; return the exit code.

    With ``ONCE=1`` it ends after the last step, with a code other than zero if any step went
    otherwise than it should.
    """
    for number in _ENDING:
        signal.signal(number, _interrupt)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        with stage as set_up:
            return _show(set_up)
    except DemoFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _show(stage: Stage) -> int:
    try:
        _sell(stage)
    except (DemoFailed, httpx.HTTPError) as error:
        print(f"\nThis step went wrong: {error}", file=sys.stderr)
        return 1
    if os.environ.get("ONCE"):
        print("\nEvery step went as it should.")
        return 0
    url = stage.example.url
    with suppress(KeyboardInterrupt):
        print(f"\n{stage.hint}Serving on {url} until Ctrl-C. Try: curl -i {url}/quote")
        return stage.server.wait()
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the demonstration at the first signal; make passes Ctrl-C on by another."""
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def _sell(stage: Stage) -> None:
    example = stage.example
    step("GET /  (free: what is for sale)")
    for item in expect_status(example.get("/"), 200).json()["for_sale"]:
        print(f"   {item['method']:4} {item['path']:14} {item['price']}")

    step("GET /quote without payment")
    challenge = expect_status(example.get("/quote"), 402)
    show("WWW-Authenticate", challenge.headers["WWW-Authenticate"])

    authorization = _buy(example, stage.wallet)
    payment_hash = sha256(bytes.fromhex(stage.wallet.preimages[0])).hexdigest()
    if stage.confirm:
        stage.confirm(payment_hash)
    _revoke(example, payment_hash, authorization)
    for sell in (sell_calls, sell_in_dollars, sell_words):
        sell(example, stage.wallet)
    step("flask --app app l402 audit  (do the books agree?)")
    print(textwrap.indent(example.flask("l402", "audit").rstrip(), "   "))


def _buy(example: Example, wallet: Wallet) -> str:
    """Buy once and ask twice; return what the client sent as Authorization."""
    client = L402Client(wallet=wallet, trust_env=False)
    print("\nNow the same with l402-requests, a client that pays when it meets a 402.")
    bought = expect_status(client.get(f"{example.url}/quote"), 200, "GET /quote, paid")
    expect(len(wallet.preimages) == 1, "the first purchase is one payment")
    print(f"   {bought.text.strip()}")
    authorization: str = bought.request.headers["Authorization"]
    show("sent with Authorization", authorization)

    again = expect_status(client.get(f"{example.url}/quote"), 200, "GET /quote once more")
    expect(len(wallet.preimages) == 1, "the repeat pays nothing")
    print(f"   {again.text.strip()}\n   no payment: the token is good for any number of calls")
    return authorization


def _revoke(example: Example, payment_hash: str, authorization: str) -> None:
    step("the sale in the database")
    sales = example.sales(payment_hash)
    expect(len(sales) == 1, f"one row stands for the payment, not {len(sales)}")
    for column, value in sales[0].items():
        print(f"   {column:13} {value or '-'}")
    token_id = sales[0]["token_id"]

    step(f"flask --app app l402 revoke {token_id[:16]}…")
    print(textwrap.indent(example.flask("l402", "revoke", token_id).strip(), "   "))
    refused = _until_refused(example, authorization)
    expect_status(refused, 402, "GET /quote with the revoked token")
    expect(refused.json()["reason"] == "revoked", "the reason is that it was revoked")
    print(f"   reason: {refused.json()['reason']}, and a fresh invoice")


def _until_refused(example: Example, authorization: str) -> httpx.Response:
    """Show a revoked token until it is refused: it takes up to a second to reach a process."""
    deadline = time.monotonic() + _PROPAGATION
    while True:
        response = example.get("/quote", Authorization=authorization)
        if response.status_code != 200 or time.monotonic() > deadline:
            return response
        time.sleep(0.1)

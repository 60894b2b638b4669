"""Sales of calls, by the hundred and in dollars, and of words."""
# ruff: noqa: T201

from decimal import Decimal
from hashlib import sha256
from math import ceil
from typing import Any

from example import Example
from l402_requests import L402Client
from narration import expect, expect_status, show, step
from wallet import Wallet


def sell_calls(example: Example, wallet: Wallet) -> None:
    """Buy calls by the hundred, use them up, and be sold more for the same account."""
    client, before = L402Client(wallet=wallet, trust_env=False), len(wallet.preimages)

    def call() -> str:
        answer = client.get(f"{example.url}/lookup/gold")
        expect(answer.status_code == 200, f"the call succeeds: {answer.status_code}")
        left: str = answer.headers["L402-Balance-Msat"]
        return left

    print("\nNow calls, by the hundred: 200 sat once, then 2 sat off the balance for each.")
    left = call()
    step("GET /lookup/gold, paid")
    show("L402-Balance-Msat", left)
    step("ninety-nine times more")
    for _ in range(99):
        left = call()
    show("L402-Balance-Msat", left)
    expect(left == "0", "a hundred calls cost what was paid")
    expect(len(wallet.preimages) == before + 1, "they cost one payment")
    left = call()
    step("GET /lookup/gold after another payment")
    show("L402-Balance-Msat", left)
    accounts = {_account(example, preimage) for preimage in wallet.preimages[before:]}
    expect(len(accounts) == 1, "both payments went to one account")
    print(f"   for the same account: {min(accounts)[:16]}…")


def sell_in_dollars(example: Example, wallet: Wallet) -> None:
    """Buy a call whose price in satoshis is reckoned when it is asked for."""
    print("\nNow a call for two cents; the configuration says what a bitcoin costs.")
    asked = expect_status(example.get("/forecast"), 402, "GET /forecast without payment").json()
    print(f"   0.02 USD are {asked['amountSats']} sat")
    client = L402Client(wallet=wallet, trust_env=False)
    bought = client.get(f"{example.url}/forecast")
    print(f"   {expect_status(bought, 200, 'GET /forecast, paid').text.strip()}")
    rate: str = _sale(example, wallet.preimages[-1])["rate"]
    show("one bitcoin, as the sale's record has it", rate)
    currency, per_bitcoin = rate.split()
    at_that_rate = ceil(Decimal("0.02") * 10**8 / Decimal(per_bitcoin))
    expect((currency, asked["amountSats"]) == ("USD", at_that_rate), "it cost 0.02 USD at that")


def sell_words(example: Example, wallet: Wallet) -> None:
    """Buy credit, and be charged for each word of a stream."""
    print("\nNow words: 0.1 sat for each that is sent, from 500 sat of credit.")
    client = L402Client(wallet=wallet, trust_env=False)
    bought = client.get(f"{example.url}/stream?words=1")
    expect_status(bought, 200, "GET /stream?words=1, paid")
    authorization: str = bought.request.headers["Authorization"]
    before = _balance(example, authorization)
    step(f"GET /stream?words=24, word by word, from {before / 1000:g} sat")
    print("  ", end="")
    for word in example.events("/stream?words=24", Authorization=authorization):
        print(f" {word}", end="", flush=True)
    left = _balance(example, authorization)
    print(f"\n   24 words cost {(before - left) / 1000:g} sat; {left / 1000:g} sat are left")
    expect(before - left == 24 * 100, "each word costs 0.1 sat")


def _balance(example: Example, authorization: str) -> int:
    """Ask for what is left of a credit, in msat."""
    state = example.get("/l402/credential", Authorization=authorization).json()
    (credit,) = state["balances"].values()
    balance: int = credit["balance_msat"]
    return balance


def _account(example: Example, preimage: str) -> str:
    token_id: str = _sale(example, preimage)["token_id"]
    return token_id


def _sale(example: Example, preimage: str) -> dict[str, Any]:
    (sale,) = example.sales(sha256(bytes.fromhex(preimage)).hexdigest())
    return sale

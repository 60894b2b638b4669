"""A private Lightning network: btcd and two lnd, alice who pays and bob who sells."""

import base64
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.binaries import binaries

from support.daemons import Chain, await_that
from support.lnd import Lnd

_BLOCKS = 440  # btcd's regtest has segwit from block 432 on
_CHANNEL = 10_000_000  # sat, of which bob gets a tenth so that he can pay too


@dataclass(frozen=True)
class Network:
    """The network; `programs` is the folder of its binaries."""

    programs: Path
    chain: Chain
    alice: Lnd
    bob: Lnd

    def begin(self) -> None:
        """Give alice coins and a channel to bob, and pay him for the first time."""
        self._await_sync()
        # btcd writes no transaction to a bech32 address, so alice takes a nested one.
        path = "/v1/newaddress?type=NESTED_PUBKEY_HASH"
        self.chain.give(self.alice.call("GET", path)["address"], 49.999)
        key = self.bob.call("GET", "/v1/getinfo")["identity_pubkey"]
        self.alice.call("POST", "/v1/peers", {"addr": {"pubkey": key, "host": self.bob.peer}})
        self.open_channel()
        # A channel is active for a second or so before a payment finds a way through it.
        invoice = self.bob.call("POST", "/v1/invoices", {"value": "1"})["payment_request"]
        await_that("the first payment", lambda: self.alice.pay(invoice))

    def open_channel(self, private: bool = False) -> None:
        """Open one from alice to bob, deep enough in the chain to be announced."""
        self._await_sync()
        key = self.bob.call("GET", "/v1/getinfo")["identity_pubkey"]
        order = {
            "node_pubkey": base64.b64encode(bytes.fromhex(key)).decode(),
            "local_funding_amount": str(_CHANNEL),
            "push_sat": str(_CHANNEL // 10),
            "sat_per_vbyte": "5",
            "private": private,
        }
        await_that("the channel", lambda: self.alice.call("POST", "/v1/channels", order))
        self.chain.call("generate", 6)  # BOLT 7

    def _await_sync(self) -> None:
        height = self.chain.call("getblockcount")
        await_that("alice's chain", lambda: self.alice.synced(height))
        await_that("bob's chain", lambda: self.bob.synced(height))


class Books:
    """What lnd's own records say of the time since the books were opened."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._paid_before = self._count_payments()
        self._added_before = int(self._invoices(0)[-1]["add_index"])

    @property
    def payments(self) -> int:
        """How many payments alice tried, whatever came of them."""
        return self._count_payments() - self._paid_before

    @property
    def invoices(self) -> int:
        """How many invoices bob issued."""
        return len(self._invoices(self._added_before))

    @property
    def received(self) -> int:
        """How much reached bob, in satoshis."""
        return sum(int(invoice["amt_paid_sat"]) for invoice in self._settled())

    @property
    def payment_hashes(self) -> list[bytes]:
        """Of what reached bob, in the order of the invoices."""
        return [base64.b64decode(invoice["r_hash"]) for invoice in self._settled()]

    def _settled(self) -> list[dict[str, Any]]:
        return [i for i in self._invoices(self._added_before) if i["state"] == "SETTLED"]

    def _count_payments(self) -> int:
        query = "include_incomplete=true&max_payments=1&count_total_payments=true"
        return int(self._network.alice.call("GET", f"/v1/payments?{query}")["total_num_payments"])

    def _invoices(self, after: int) -> list[dict[str, Any]]:
        query = f"index_offset={after}&num_max_invoices=100000"
        found: list[dict[str, Any]]
        found = self._network.bob.call("GET", f"/v1/invoices?{query}")["invoices"]
        return found


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Run a network in `folder` for the length of a block; alice has paid bob once then."""
    programs = binaries()
    with ExitStack() as stack:
        chain = Chain(programs / "btcd", folder / "btcd")
        stack.callback(chain.process.stop)
        await_that("btcd", lambda: chain.call("generate", _BLOCKS))
        alice = Lnd("alice", programs / "lnd", folder / "alice", chain)
        stack.callback(alice.process.stop)
        bob = Lnd("bob", programs / "lnd", folder / "bob", chain, "--noseedbackup --accept-amp")
        stack.callback(bob.process.stop)
        running = Network(programs, chain, alice, bob)
        running.begin()
        yield running

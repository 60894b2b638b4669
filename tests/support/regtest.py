"""A private Lightning network: btcd and two lnd, alice who pays and bob who sells.

Test modules take the fixtures in by ``pytest_plugins = ["support.regtest"]``.
"""

import base64
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest
import requests
from lightning.binaries import binaries

_READY = 120  # seconds; six on a quiet machine
_ANSWER = 60
_END = 20
#: Pays to the script OP_TRUE (P2WSH): a coinbase sent there needs no key to be spent.
_OP_TRUE = b"\x51"
_ANYBODY = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85"
_BLOCKS = 440  # btcd's regtest has segwit from block 432 on
_CHANNEL = 10_000_000  # sat, of which bob gets a tenth so that he can pay too

_T = TypeVar("_T")


class NotYet(Exception):
    """What was asked for is not there, or was refused."""


def await_that(what: str, probe: Callable[[], _T]) -> _T:
    """Return the first true answer of `probe`; until it is ready it may fail."""
    last: object = None
    end = time.monotonic() + _READY
    while time.monotonic() < end:
        try:
            if last := probe():
                return last
        except (NotYet, OSError) as error:  # requests' errors are of OSError
            last = error
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {_READY} s, last {last!r}")


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Process:
    """A program with a log of its own; `arguments` become ``--name=value``."""

    def __init__(self, program: Path, folder: Path, flags: str, **arguments: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "output.log"
        options = [f"--{name.replace('_', '-')}={value}" for name, value in arguments.items()]
        self._command = [str(program), *flags.split(), *options]
        self.start()

    def start(self) -> None:
        """Start it, again if it has ended."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def check(self) -> None:
        """Fail if it has ended."""
        if self._process.poll() is not None:
            said = self._log.read_text(errors="replace")[-2000:]
            raise AssertionError(f"{self._command[0]} ended:\n{said}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it, gently at first."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Chain:
    """btcd; it forgets its blocks when it ends, so it runs as long as its network."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.cert = folder / "rpc.cert"
        self.process = Process(
            program,
            folder,
            "--regtest --nolisten --nodnsseed --txindex",
            datadir=folder / "data",
            logdir=folder / "log",
            rpcuser="user",
            rpcpass="password",
            rpclisten=self.address,
            rpccert=self.cert,
            rpckey=folder / "rpc.key",
            rpcmaxwebsockets=50,
            miningaddr=_ANYBODY,
        )

    def call(self, method: str, *params: object) -> Any:
        """Call a method of btcd's JSON-RPC."""
        self.process.check()
        answer = requests.post(
            f"https://{self.address}/",
            json={"jsonrpc": "1.0", "id": 1, "method": method, "params": params},
            auth=("user", "password"),
            verify=str(self.cert),
            timeout=_ANSWER,
        ).json()
        if answer["error"]:
            raise NotYet(f"btcd {method}: {answer['error']}")
        return answer["result"]

    def give(self, address: str, btc: float) -> None:
        """Pay the first block's coinbase to `address`; what is over goes to the miner."""
        block = self.call("getblock", self.call("getblockhash", 1), 1)
        coinbase = [{"txid": block["tx"][0], "vout": 0}]
        raw = bytes.fromhex(self.call("createrawtransaction", coinbase, {address: btc}))
        # BIP 144: marker and flag follow the version, the witness stands before the lock time
        witness = bytes([1, len(_OP_TRUE)]) + _OP_TRUE
        whole = raw[:4] + b"\x00\x01" + raw[4:-4] + witness + raw[-4:]
        self.call("sendrawtransaction", whole.hex(), True)
        self.call("generate", 1)


class Lnd:
    """One lnd, spoken to over REST."""

    def __init__(self, name: str, program: Path, folder: Path, chain: Chain) -> None:
        self.name, self.folder, self.tls_cert = name, folder, folder / "tls.cert"
        self.peer, self.grpc, self.rest = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.process = Process(
            program,
            folder,
            "--bitcoin.regtest --noseedbackup --nobootstrap",
            lnddir=folder,
            alias=name,
            listen=self.peer,
            rpclisten=self.grpc,
            restlisten=self.rest,
            trickledelay=50,
            **{
                "bitcoin.node": "btcd",
                "bitcoin.defaultchanconfs": 1,
                "btcd.rpchost": chain.address,
                "btcd.rpcuser": "user",
                "btcd.rpcpass": "password",
                "btcd.rpccert": chain.cert,
                "gossip.sub-batch-delay": "5ms",
                "db.batch-commit-interval": "10ms",
            },
        )

    @property
    def url(self) -> str:
        """Where its REST interface is."""
        return f"https://{self.rest}"

    def macaroon(self, name: str = "admin") -> Path:
        """Return the file of a macaroon that lnd made at its first start."""
        return self.folder / "data/chain/bitcoin/regtest" / f"{name}.macaroon"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call lnd as its administrator; anything but a 200 is `NotYet`."""
        self.process.check()
        credential = self.macaroon()
        answer = requests.request(
            method,
            self.url + path,
            json=body,
            headers={"Grpc-Metadata-macaroon": credential.read_bytes().hex()},
            verify=str(self.tls_cert),
            timeout=_ANSWER,
        )
        if answer.status_code != 200:
            raise NotYet(f"{self.name}: {method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def bake(self, folder: Path, *permissions: str) -> Path:
        """Have a macaroon made of permissions such as ``invoices:read``; return its file."""
        pairs = [permission.split(":") for permission in permissions]
        order = {"permissions": [{"entity": entity, "action": what} for entity, what in pairs]}
        path = folder / f"{self.name}.macaroon"
        path.write_bytes(bytes.fromhex(self.call("POST", "/v1/macaroon", order)["macaroon"]))
        return path

    def node_url(self, macaroon: Path, **parameters: object) -> str:
        """Return the URL by which the project is told of this node."""
        given = {"macaroon_path": macaroon, "tls_cert_path": self.tls_cert, "network": "regtest"}
        query = "&".join(f"{k}={quote(str(v), safe='/')}" for k, v in (given | parameters).items())
        return f"lnd+{self.url}?{query}"

    def pay(self, invoice: str) -> bytes:
        """Pay a BOLT11 invoice and return the preimage."""
        order = {"payment_request": invoice, "timeout_seconds": 30, "fee_limit_sat": "10"}
        order["no_inflight_updates"] = True
        result = self.call("POST", "/v2/router/send", order)["result"]
        if result["status"] != "SUCCEEDED":
            raise NotYet(f"{self.name} could not pay: {result['failure_reason']}")
        return bytes.fromhex(result["payment_preimage"])

    def synced(self, height: int) -> bool:
        """Tell whether it knows the chain up to `height`."""
        info = self.call("GET", "/v1/getinfo")
        return bool(info["synced_to_chain"]) and info["block_height"] >= height


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
        settled = [i for i in self._invoices(self._added_before) if i["state"] == "SETTLED"]
        return sum(int(invoice["amt_paid_sat"]) for invoice in settled)

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
        bob = Lnd("bob", programs / "lnd", folder / "bob", chain)
        stack.callback(bob.process.stop)
        running = Network(programs, chain, alice, bob)
        running.begin()
        yield running


@pytest.fixture(scope="session")
def regtest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The network, for the whole session."""
    with network(tmp_path_factory.mktemp("regtest")) as running:
        yield running


@pytest.fixture
def books(regtest: Network) -> Books:
    """Books opened at the beginning of the test."""
    return Books(regtest)

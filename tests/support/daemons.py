"""Programs that run for the length of a test session; and btcd, which makes the blocks."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import requests

_READY = 120  # seconds; six on a quiet machine
_ANSWER = 60
_END = 20
#: Pays to the script OP_TRUE (P2WSH): a coinbase sent there needs no key to be spent.
_OP_TRUE = b"\x51"
_ANYBODY = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85"

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
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us, who end them in their order
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
            self._process.wait(_END)


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

"""Buyers: unmodified L402 clients, each with a wallet that counts, driven by a test."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Protocol
from urllib.request import Request, urlopen

from l402_requests import L402Client
from l402_requests.wallets import WalletBase

from l402.protocol import bolt11
from support import http_servers
from support.example_server import ExampleServer

_ANSWER = 60  # seconds


@dataclass(frozen=True)
class Answer:
    """What a client handed to its caller in the end."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Wallet:
    """Pays at the example's stand-in wallet; `paid` holds the payment hashes, in order."""

    def __init__(self, server: ExampleServer) -> None:
        self.server = server
        self.paid: list[bytes] = []
        self.msat = 0

    def pay(self, invoice: str) -> bytes:
        """Pay, and return the wallet's answer as lnd words it."""
        address, macaroon = self.server.wallet()
        request = Request(
            f"{address}/v2/router/send",
            json.dumps({"payment_request": invoice}).encode(),
            {"Content-Type": "application/json", "Grpc-Metadata-macaroon": macaroon},
        )
        with urlopen(request, timeout=_ANSWER) as response:
            answer: bytes = response.read()
        asked = bolt11.decode(invoice)
        self.paid.append(asked.payment_hash)
        self.msat += asked.msat or 0
        return answer


class Buyer(Protocol):
    """A client and its wallet."""

    wallet: Wallet

    def fetch(self, path: str, body: object = None, *, afresh: bool = False) -> Answer:
        """Get a path of the example, or post JSON to it; `afresh`: without any token kept."""


class RequestsBuyer:
    """l402-requests, in this process."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet
        self._client = L402Client(_RequestsWallet(wallet), trust_env=False, timeout=_ANSWER)

    def fetch(self, path: str, body: object = None, *, afresh: bool = False) -> Answer:
        """Get a path, or post JSON to it; the client buys afresh by itself."""
        url = self.wallet.server.url + path
        response = self._client.get(url) if body is None else self._client.post(url, json=body)
        return Answer(response.status_code, response.text)


class _RequestsWallet(WalletBase):
    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet

    async def pay_invoice(self, bolt11: str) -> str:
        preimage: str = json.loads(self._wallet.pay(bolt11))["result"]["payment_preimage"]
        return preimage


class Desk:
    """Where a client in another process fetches its orders, pays and reports.

    It speaks HTTP because a page in a browser can do no other; `files` are for such a page.
    """

    def __init__(self, wallet: Wallet, files: Mapping[str, tuple[str, Path]]) -> None:
        self.wallet = wallet
        self.files = files
        self.process: subprocess.Popen[bytes] | None = None
        self._orders: Queue[object] = Queue()
        self._answers: Queue[dict[str, Any]] = Queue()

    def fetch(self, path: str, body: object = None, *, afresh: bool = False) -> Answer:
        """Have the client fetch a path of the example."""
        init: dict[str, object] = {"method": "GET"}
        if body is not None:
            headers = {"Content-Type": "application/json"}
            init = {"method": "POST", "body": json.dumps(body), "headers": headers}
        self._orders.put({"url": self.wallet.server.url + path, "init": init, "afresh": afresh})
        answer = self._answer()
        assert "error" not in answer, answer["error"]
        return Answer(answer["status"], answer["text"])

    def close(self) -> None:
        """Let the client go home."""
        self._orders.put(None)

    def serve(self, request: http_servers.Request) -> http_servers.Reply:
        """Answer the client."""
        match request.method, request.path:
            case "GET", "/order":
                return http_servers.http_answer(200, json.dumps(self._orders.get()))
            case "POST", "/answer":
                self._answers.put(json.loads(request.body))
                return http_servers.http_answer(200, "{}")
            case "POST", "/v2/router/send":
                invoice = json.loads(request.body)["payment_request"]
                return http_servers.http_answer(200, self.wallet.pay(invoice))
            case "GET", path if path in self.files:
                return _file(*self.files[path])
        return http_servers.http_answer(404, "{}")

    def _answer(self) -> dict[str, Any]:
        for _ in range(_ANSWER):
            try:
                return self._answers.get(timeout=1)
            except Empty:
                assert self.process is not None
                assert self.process.poll() is None, "the client's process ended"
        raise AssertionError("the client's process did not answer")


def _file(kind: str, path: Path) -> bytes:
    content = path.read_bytes()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


@contextmanager
def buyer_in_process(
    wallet: Wallet, *command: str, files: Mapping[str, tuple[str, Path]] | None = None
) -> Iterator[Desk]:
    """Run a client in another process; ``{desk}`` in its command stands for the desk's URL."""
    desk = Desk(wallet, files or {})
    with http_servers.serving(desk.serve) as at, tempfile.TemporaryFile() as said:
        desk.process = subprocess.Popen(
            [part.replace("{desk}", at.url) for part in command], stdout=said, stderr=said
        )
        try:
            yield desk
        except AssertionError as error:
            said.seek(0)
            error.add_note(f"the client said: {said.read().decode(errors='replace')}")
            raise
        finally:
            desk.close()
            desk.process.terminate()
            desk.process.wait(_ANSWER)

"""Relays of Nostr on loopback: a real one as a process, and one that does what a test says."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from clients.environments import nostr_relay
from websockets.exceptions import WebSocketException
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from support.daemons import Process, await_that, free_port

_END = 20  # seconds
_CONFIG = """
storage:
  sqlalchemy.url: sqlite+aiosqlite:///{folder}/nostr.sqlite3
  validators:
    - nostr_relay.validators.is_not_too_large
    - nostr_relay.validators.is_signed
max_event_size: 65536
gunicorn:
  bind: 127.0.0.1:{port}
  workers: 1
  control_socket_disable: true
  graceful_timeout: 1
authentication:
  enabled: false
"""
_RELAY = """
import asyncio, sys
from nostr_sdk import LocalRelayBuilder, LocalRelayBuilderNip42, LocalRelayBuilderNip42Mode

async def main(port, auth):
    builder = LocalRelayBuilder().addr("127.0.0.1").port(port)
    if auth:
        builder = builder.nip42(LocalRelayBuilderNip42(mode=LocalRelayBuilderNip42Mode.BOTH))
    relay = builder.build()
    await relay.run()
    await asyncio.Event().wait()

asyncio.run(main(int(sys.argv[1]), sys.argv[2] == "auth"))
"""


class StoringRelay:
    """Another relay, which keeps events on disk; its port stays the same."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"ws://127.0.0.1:{port}"
        config = folder / "relay.yaml"
        config.write_text(_CONFIG.format(folder=folder, port=port))
        self.process = Process(nostr_relay(), folder, f"--config {config} serve")
        self.await_answer()

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        self.process.start()
        self.await_answer()

    def close(self) -> None:
        """End it."""
        self.process.stop()

    def await_answer(self) -> None:
        """Wait until it answers; end it if it does not."""
        try:
            await_that("the relay", lambda: (self.process.check(), answers(self.url))[1])
        except BaseException:
            self.process.stop()
            raise


class LocalRelay:
    """nostr-sdk's relay, which keeps events in memory; its port stays the same."""

    def __init__(self, *, auth: bool = False) -> None:
        self._port, self._auth = free_port(), auth
        self.url = f"ws://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-c", _RELAY, str(self._port), "auth" if self._auth else ""]
        self.process = subprocess.Popen(command)
        try:
            await_that("the relay", lambda: answers(self.url))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(_END)


def answers(url: str) -> bool:
    """Tell whether a WebSocket opens there."""
    with suppress(WebSocketException), connect(url, proxy=None, close_timeout=1):
        return True
    return False


@contextmanager
def local_relay(**options: Any) -> Iterator[LocalRelay]:
    """Run a `LocalRelay` for the length of a block."""
    with closing(LocalRelay(**options)) as relay:
        yield relay


class StagedRelay:
    """Sends what `stored` holds and, on a client's event, what `reply` says."""

    def __init__(self) -> None:
        self.stored: list[Any] = []
        self.reply: Callable[[dict[str, Any]], list[Any]] = lambda _: []
        self.ends_storage = True
        self.connections = 0
        self.subscriptions: list[Any] = []
        self._server = serve(self._handle, "127.0.0.1", 0, close_timeout=1)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Stop accepting."""
        self._server.shutdown()
        self._thread.join(_END)

    def _handle(self, socket: ServerConnection) -> None:
        self.connections += 1
        for text in socket:
            for message in self._messages(json.loads(text)):
                if message is None:
                    return
                socket.send(message if isinstance(message, str) else json.dumps(message))

    def _messages(self, heard: list[Any]) -> list[Any]:
        if heard[0] == "REQ":
            self.subscriptions.append(heard[2:])
            stored = [["EVENT", heard[1], event] for event in self.stored]
            return [*stored, ["EOSE", heard[1]]] if self.ends_storage else stored
        return self.reply(heard[1]) if heard[0] == "EVENT" else []


class DeafRelay:
    """Accepts the first request, then sends pings and reads no more, until nobody reads it."""

    def __init__(self) -> None:
        self.stuck = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End it; its client has gone by then, or goes now."""
        self._listener.close()
        self._connection.close()
        self._thread.join(_END)

    def _serve(self) -> None:
        self._connection, _ = self._listener.accept()
        protocol = ServerProtocol()
        while not self._heard(protocol, self._connection.recv(65536)):
            self._connection.sendall(b"".join(protocol.data_to_send()))
        for _ in range(1000):
            protocol.send_ping(b"x" * 125)
        pings = b"".join(protocol.data_to_send())
        self._connection.settimeout(1)
        with suppress(OSError):
            while True:
                self._connection.sendall(pings)
        self.stuck.set()

    def _heard(self, protocol: ServerProtocol, data: bytes) -> bool:
        """Answer what came; tell whether a request was among it."""
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
                continue
            kind, said, *_ = json.loads(event.data)
            if kind == "EVENT":
                protocol.send_text(json.dumps(["OK", said["id"], True, ""]).encode())
                return True
            protocol.send_text(json.dumps(["EOSE", said]).encode())
        return False


@contextmanager
def staged_relay() -> Iterator[StagedRelay]:
    """Run a `StagedRelay` for the length of a block."""
    with closing(StagedRelay()) as relay:
        yield relay

"""A wire to Postgres that is cut where a transaction ends, on either side of the end.

It reads the protocol just so far: where a message ends, and whether a transaction does with it.
"""

import socket
import threading
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

#: Where it is cut: the request never arrives; it does, and nobody waits for the answer; the
#: answer never arrives.
BEFORE, AMID, AFTER = PLACES = ("before", "amid", "after")
_LAST = b"QSpX"  # kinds of messages that end what a client sends at once
_WRITES = (b"INSERT", b"UPDATE", b"DELETE", b"EXECUTE", b"pg_logical_emit_message")
_READY, _IDLE = b"Z", b"I"


@dataclass
class _Line:
    client: socket.socket
    server: socket.socket
    idle: bool = True  # no transaction is open
    dropped: bool = False  # what the server says reaches nobody

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Cutter:
    """Forwards connections to a port of loopback; `cuts` counts where they were cut.

    It speaks neither TLS nor GSSAPI: a URL through here says ``sslmode=disable``.
    """

    def __init__(self, target: int) -> None:
        self.cuts = Counter[str]()
        self._target = target
        self._places = deque[str]()
        self._stays_away = self._away = False
        self._lines: list[_Line] = []

    def __enter__(self) -> "Cutter":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self._lines:
            line.close()

    def arm(self, places: Sequence[str], *, stays_away: bool = False) -> None:
        """Cut the next transactions at these places; and then let nobody connect, if so wished."""
        self._places.extend(places)
        self._stays_away = stays_away

    def mend(self) -> int:
        """Forward everything again; give how many cuts did not come about."""
        left = len(self._places)
        self._places.clear()
        self._stays_away = self._away = False
        return left

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._away:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                for end in (client, server):  # or each small message waits for the one before
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line = _Line(client, server)
                self._lines.append(line)
                self._spawn(self._ask, line)
                self._spawn(self._answer, line)

    def _ask(self, line: _Line) -> None:
        """Forward what the client asks, up to the cut."""
        with suppress(OSError, EOFError):
            line.server.sendall(_read(line.client, b""))  # how it introduces itself
            while request := _request(line.client):
                if self._places and _ends(request, line.idle):
                    return self._cut(line, request)
                line.server.sendall(request)
        if not line.dropped:
            line.close()
        return None

    def _cut(self, line: _Line, request: bytes) -> None:
        place = self._places.popleft()
        self.cuts[place] += 1
        self._away = self._stays_away
        if place == BEFORE:
            return line.close()
        line.dropped = True  # the server's side ends it, once it has answered
        line.server.sendall(request)
        if place == AMID:
            line.client.shutdown(socket.SHUT_RDWR)
        return None

    def _answer(self, line: _Line) -> None:
        """Forward what the server answers; after a cut, wait only until it is done."""
        with suppress(OSError, EOFError):
            while True:
                kind = _exactly(line.server, 1)
                message = _read(line.server, kind)
                if not line.dropped:
                    line.idle = line.idle if kind != _READY else message.endswith(_IDLE)
                    line.client.sendall(message)
                elif kind == _READY:
                    break
        line.close()

    def _spawn(self, run: object, *args: object) -> None:
        threading.Thread(target=run, args=args, daemon=True).start()  # type: ignore[arg-type]


def _ends(request: bytes, idle: bool) -> bool:
    """Tell whether a transaction that changes something ends with a request."""
    alone = idle and b"BEGIN" not in request and any(word in request for word in _WRITES)
    return b"COMMIT" in request or alone


def _request(source: socket.socket) -> bytes:
    """Read all that a client sends before it waits for an answer."""
    whole = b""
    while True:
        kind = _exactly(source, 1)
        whole += _read(source, kind)
        if kind in _LAST:
            return whole


def _read(source: socket.socket, kind: bytes) -> bytes:
    """Read a message whose kind, if it has one, was read."""
    length = _exactly(source, 4)
    return kind + length + _exactly(source, int.from_bytes(length) - 4)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := source.recv(size - len(data))):
            raise EOFError
        data += more
    return data

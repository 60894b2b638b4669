"""Networks that misbehave, on loopback: a server without an answer, and a wire that swallows."""

import socket
import threading
from contextlib import suppress
from itertools import count


class Silent:
    """Listens, accepts in the kernel, and never says anything."""

    def __enter__(self) -> "Silent":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def calls(self) -> int:
        """Give how many connections were made since this was asked last."""
        self._listener.setblocking(False)
        for number in count():
            try:
                self._listener.accept()[0].close()
            except BlockingIOError:
                return number
        raise AssertionError


class Wire:
    """A TCP forwarder to a port of loopback that can stop delivering, or be cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._delivers = threading.Event()
        self._delivers.set()
        self._sockets: list[socket.socket] = []
        self._cut_at: bytes | None = None
        self._cut_after = False
        self._arrives = threading.Event()
        self._arrives.set()
        self.asked = 0  # how often a client sent something

    def __enter__(self) -> "Wire":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._delivers.set()
        self._arrives.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def swallow(self) -> None:
        """From now on nothing arrives, in either direction."""
        self._delivers.clear()

    def mend(self) -> None:
        """Deliver again, beginning with what was held back."""
        self._delivers.set()

    def cut(self, request: bytes, *, after: bool) -> None:
        """Cut the next connection that sends `request`: before it arrives, or its answer."""
        self._cut_at, self._cut_after = request, after

    def delay(self, request: bytes) -> None:
        """Cut the next connection that sends `request`, which arrives when `deliver` is called."""
        self._arrives.clear()
        self.cut(request, after=True)

    def deliver(self) -> None:
        """Let what was delayed arrive."""
        self._arrives.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                self._spawn(self._forward, client, server, True)
                self._spawn(self._forward, server, client, False)

    def _forward(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._delivers.wait()
                self.asked += asks
                if asks and self._cut_at and self._cut_at in data:
                    self._cut_at = None
                    if self._cut_after:
                        # Nothing more reaches the client, but the server does what it was asked.
                        source.shutdown(socket.SHUT_RDWR)
                        self._arrives.wait()
                        target.sendall(data)
                        target.shutdown(socket.SHUT_WR)
                        return
                    break
                target.sendall(data)
            source.shutdown(socket.SHUT_RDWR)
            target.shutdown(socket.SHUT_RDWR)

    def _spawn(self, run: object, *args: object) -> None:
        threading.Thread(target=run, args=args, daemon=True).start()  # type: ignore[arg-type]

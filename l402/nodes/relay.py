"""One open connection to a Nostr relay, which the threads of a process share (NIP-01).

Needs the extra ``nwc``.
"""

import json
import os
import socket
import threading
import time
import weakref
from concurrent.futures import Future
from contextlib import suppress
from itertools import cycle
from queue import SimpleQueue
from typing import Any, NamedTuple

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    WebSocketException,
)
from websockets.sync.client import ClientConnection, connect

from l402.errors import NodeRefused, NodeUnreachable
from l402.http.faults import reason
from l402.nodes.nostr import Correspondence

_CONNECT_WITHIN = 3.05  # seconds: TCP sends its second SYN again after 3
_LARGEST_MESSAGE = 1 << 20  # bytes
#: What relays kept of former answers is not wanted, but those of a wallet whose clock is behind.
_SINCE = 120  # seconds; the desk accepts no invoice that is dated as far back
_MOST_UNSENT = 100  # messages that wait for a relay which does not read; calls are far fewer
_ANSWERS = "answers"  # the name of the subscription


class Relays:
    """The connection of one process; a broken one is replaced, at the next of `urls`."""

    def __init__(self, urls: tuple[str, ...], correspondence: Correspondence) -> None:
        self._urls = cycle(urls)
        self._correspondence = correspondence
        self._lock = threading.Lock()
        self._line: Line | None = None

    def line(self) -> "Line":
        """Return the connection, perhaps one that is still being made."""
        with self._lock:
            if self._line is None or self._line.ended:
                self._line = line = Line(next(self._urls), self._correspondence)
                # Otherwise its thread would keep it open for ever.
                weakref.finalize(self, _release, line, os.getpid()).atexit = False
            return self._line


class _Call(NamedTuple):
    answer: Future[dict[str, Any]]
    accepted: threading.Event  # by the relay


class Line:
    """A connection to the relay at `url`; a thread of its own makes it and reads, another writes.

    Neither looking up a name, nor a handshake that drips, nor writing to who does not read ends in
    time by itself, so callers wait for those threads no longer than they like.
    """

    def __init__(self, url: str, correspondence: Correspondence) -> None:
        self._url = url
        self._correspondence = correspondence
        self._calls: dict[str, _Call] = {}  # by the request's id
        self._unsent: SimpleQueue[str | None] = SimpleQueue()  # None: there is no more
        self._socket: ClientConnection | None = None
        self._known = threading.Event()  # whether it opens is known
        self._fault = ""  # why it ended
        threading.Thread(target=self._run, name="l402-relay", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether nothing more can be asked over it."""
        return bool(self._fault)

    def await_open(self, end: float) -> None:
        """Wait until the relay sent what it knows of the wallet; `end` is on the monotonic clock.

        :raises NodeUnreachable: there is no connection, or not in time
        """
        if not self._known.wait(end - time.monotonic()):
            self.hang_up("the relay: no answer in time")
        if self._fault:
            raise NodeUnreachable(self._fault)

    def ask(self, request_id: str, event: str, end: float) -> dict[str, Any]:
        """Send a request's event and return the wallet's answer; `await_open` comes before.

        :raises NodeUnreachable: the connection breaks, or nothing comes in time
        :raises NodeRefused: the relay does not take the event
        """
        call = self._calls[request_id] = _Call(Future(), threading.Event())
        try:
            if self._fault:  # it ended before it knew of this call
                raise NodeUnreachable(self._fault)
            self._unsent.put(f'["EVENT",{event}]')
            return call.answer.result(end - time.monotonic())
        except TimeoutError:
            if call.accepted.is_set():
                raise NodeUnreachable(self._silence()) from None
            self.hang_up("the relay: no answer in time")
            raise NodeUnreachable(self._fault) from None
        finally:
            del self._calls[request_id]

    def _silence(self) -> str:
        # Some wallets do not even refuse a connection that they do not know.
        silence = "the wallet: no answer in time; is it running, and does it know this connection?"
        return (
            silence if self._correspondence.info else f"{silence} This relay knows no such wallet"
        )

    def hang_up(self, fault: str) -> None:
        """End without a farewell, for which a relay that hangs would be waited for."""
        self._fault = self._fault or fault
        if self._socket:
            with suppress(OSError):
                self._socket.socket.shutdown(socket.SHUT_RDWR)

    def _write(self, relay: ClientConnection) -> None:
        with suppress(WebSocketException, OSError):  # of which the reading thread tells
            while (message := self._unsent.get()) is not None:
                relay.send(message)

    def _run(self) -> None:
        fault = "broke the connection"
        try:
            self._read()
        except Exception as error:
            fault = _words(error)
        self._end(f"the relay: {fault}")

    def _read(self) -> None:
        with connect(
            self._url,
            proxy=None,
            compression=None,
            user_agent_header="Flask-L402",
            open_timeout=_CONNECT_WITHIN,
            close_timeout=1,
            max_size=_LARGEST_MESSAGE,
        ) as self._socket:
            if self._fault:  # nobody waits any more
                return
            name, arguments = "l402-relay-writer", (self._socket,)
            threading.Thread(target=self._write, name=name, args=arguments, daemon=True).start()
            self._subscribe()
            for message in self._socket:
                self._understand(json.loads(message))

    def _subscribe(self) -> None:
        filters = self._correspondence.filters(int(time.time()) - _SINCE)
        self._unsent.put(json.dumps(["REQ", _ANSWERS, *filters]))

    def _understand(self, message: object) -> None:
        match message:
            case ["EVENT", _, dict(event)]:
                self._hand_over(event)
            case ["EOSE", _]:
                self._known.set()
            case ["OK", str(request_id), accepted, *why]:
                self._confirm(request_id, accepted, why)
            case ["AUTH", str(challenge)] if self._unsent.qsize() < _MOST_UNSENT:
                proof = self._correspondence.authentication(self._url, challenge)
                self._unsent.put(f'["AUTH",{proof}]')
                self._subscribe()
            case ["CLOSED", _, str(why)] if not why.startswith("auth-required:"):
                self.hang_up(f"the relay: ended the subscription, saying {_plain(why)}")

    def _hand_over(self, event: dict[str, Any]) -> None:
        found = self._correspondence.received(event)
        call = self._calls.get(found[0]) if found else None
        if found and call and not call.answer.done():
            call.answer.set_result(found[1])

    def _confirm(self, request_id: str, accepted: object, why: list[object]) -> None:
        call = self._calls.get(request_id)
        if call and accepted is True:
            call.accepted.set()
        elif call and not call.answer.done():
            said = _plain(str(*why[:1]))
            call.answer.set_exception(NodeRefused(f"the relay refused the request, saying {said}"))

    def _end(self, fault: str) -> None:
        self._fault = self._fault or fault
        self._known.set()
        self._unsent.put(None)
        for call in list(self._calls.values()):
            if not call.answer.done():
                call.answer.set_exception(NodeUnreachable(self._fault))


def _release(line: Line, process: int) -> None:
    if os.getpid() == process:  # not in a child, whose parent goes on with it
        line.hang_up("nobody needs it")


def _words(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return f"answered {error.response.status_code} and opened no WebSocket"
    if isinstance(error, InvalidHandshake):
        return "opened no WebSocket"
    if isinstance(error, ConnectionClosed):
        return "broke the connection"
    if isinstance(error, OSError) or not isinstance(error, ValueError | RecursionError):
        return reason(error)  # a certificate that is not trusted is both
    return "sent something that is not Nostr's"


def _plain(text: str) -> str:
    return repr("".join(c if " " <= c <= "~" else "?" for c in text[:200]))

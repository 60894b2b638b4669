"""Connections to one server, on which nothing lasts longer than it may.

What requests would do besides is left out: cookies, redirects, retries, and proxies, authorities
and credentials of the environment's.
"""

import io
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future
from http.client import HTTPConnection as _Plain
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from threading import Thread
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

_KEPT_OPEN = 100  # connections at most; there are no more than calls at a time
#: A time-out is not set anew for less than this, seconds: it costs a wait for the interpreter lock.
_COARSE = 0.02


class Transport(HTTPAdapter):
    """Sends prepared requests to the server at `base`; threads share its open connections.

    Its certificate is verified against `ca_file`, read anew for each connection, or against the
    system's authorities.
    """

    def __init__(self, base: str, ca_file: Path | None) -> None:
        super().__init__(pool_maxsize=_KEPT_OPEN)
        trusted = {"cert_reqs": "CERT_REQUIRED", "ca_certs": str(ca_file) if ca_file else None}
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        self._pool = cast(
            urllib3.HTTPConnectionPool, self.poolmanager.connection_from_url(base, trusted)
        )

    def send(
        self,
        request: requests.PreparedRequest,
        stream: Any = True,
        timeout: Any = None,
        *_: Any,
        **__: Any,
    ) -> requests.Response:
        """Send `request` and return status and body, the latter still to be read and closed.

        `timeout` is how many seconds connecting may take, and how many all of it. Whom to trust is
        settled already, so `verify` and its like change nothing. The pool's own `urlopen` would do
        no more here, and takes longer than all the rest of the exchange.

        :raises urllib3.exceptions.HTTPError: or OSError, or http.client.HTTPException; nothing is
            tried again
        """
        connection = cast(_Connection, self._pool._get_conn())
        try:
            answered = connection.exchange(request, *timeout)
        except BaseException:
            connection.close()
            raise
        response = requests.Response()
        response.status_code = answered.status
        response.raw = _Body(answered, connection, self._pool)
        return response

    def certificate_end(self, within: float) -> int | None:
        """Connect anew within so many seconds, and return when the certificate ends.

        In unix seconds; None without TLS. It is verified, and no request is sent.

        :raises urllib3.exceptions.HTTPError: or OSError
        """
        connection = cast(HTTPConnection, self._pool._new_conn())
        connection.timeout = within
        try:
            connection.connect()
            sock: object = connection.sock
            shown = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
            return int(ssl.cert_time_to_seconds(str(shown["notAfter"]))) if shown else None
        finally:
            connection.close()


def _dial(connection: HTTPConnection, connect: Callable[[], None]) -> None:
    """Connect within the connection's time-out.

    Neither looking up a name nor a handshake that drips ends in time by itself, so a thread of its
    own does it, and is left to it when it is late.
    """
    done: Future[None] = Future()

    def run() -> None:
        fault = None
        try:
            connect()
        except Exception as error:
            fault = error
        if not done.set_running_or_notify_cancel():
            connection.close()  # nobody waits for it any more
        elif fault:
            done.set_exception(fault)
        else:
            done.set_result(None)

    Thread(target=run, name="l402-dial", daemon=True).start()
    try:
        done.result(cast(float, connection.timeout))
    except TimeoutError:
        if done.cancel():
            raise
        done.result()


class _TimedReader(io.RawIOBase):
    """Reads from a socket as long as the socket's time-out, all reads together.

    A socket's own time-out begins anew with each byte, so a server that drips never trips it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._within = sock.gettimeout() or 0.0
        self._end = time.monotonic() + self._within

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if left < self._within - _COARSE:
            self._within = left
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def readall(self) -> bytes:
        """Refuse to read without a bound, which http.client does for a chunk of -1 bytes."""
        raise HTTPException

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """All of a socket that a response asks for."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock))


class _Response(HTTPResponse):
    """A response whose head and body must both arrive within one time-out."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(cast(socket.socket, _TimedSocket(sock)), *args, **kwargs)


class _Connection(HTTPConnection):
    """A connection that is made in time, and sends a request in one piece.

    Two pieces would be two records of TLS, and two times to wait for the interpreter lock.
    """

    response_class = _Response

    def connect(self) -> None:
        _dial(self, super().connect)

    def exchange(
        self, request: requests.PreparedRequest, connecting: float, within: float
    ) -> HTTPResponse:
        """Send a request and read the head of its answer, within so many seconds in all."""
        end = time.monotonic() + within
        if self.sock is None:
            self.timeout = min(connecting, within)
            self.connect()
        self._unsent: list[bytes] = []
        _Plain.request(
            self,
            cast(str, request.method),
            request.path_url,
            request.body,
            cast(dict[str, str], request.headers),
        )
        self._allow(end)
        super().send(b"".join(self._unsent))
        self._allow(end)
        return _Plain.getresponse(self)

    def send(self, data: Any) -> None:
        self._unsent.append(data)

    def _allow(self, end: float) -> None:
        """Let the socket take no longer than to `end`."""
        sock, left = cast(socket.socket, self.sock), end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if abs(left - (sock.gettimeout() or 0.0)) > _COARSE:
            sock.settimeout(left)


class _TLSConnection(_Connection, HTTPSConnection):
    """The same under TLS: `super` above is HTTPSConnection here."""


class _Body:
    """The body of an answer; once closed, the connection serves the next request."""

    def __init__(
        self, answered: HTTPResponse, connection: _Connection, pool: urllib3.HTTPConnectionPool
    ) -> None:
        self._answered, self._connection, self._pool = answered, connection, pool

    def read(self, most: int) -> bytes:
        """Return all that is left, or `most` bytes if it is more.

        :raises http.client.IncompleteRead: it is less than was announced
        """
        content = self._answered.read(most)
        if self._answered.length and len(content) < most:
            raise IncompleteRead(b"")
        return content

    def close(self) -> None:
        """Give the connection back; what was not read of the answer closes it."""
        if not self._answered.isclosed():
            self._connection.close()
        self._pool._put_conn(self._connection)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection

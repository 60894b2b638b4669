"""JSON over HTTP to a node: verified TLS, bounded in time and size, whatever the node does.

Nothing in the environment changes its certificates, proxies or credentials, save that OpenSSL finds
the system's authorities where SSL_CERT_FILE and SSL_CERT_DIR say.
"""

import errno
import http.client
import io
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from l402.errors import NodeUnreachable

#: Seconds for a whole exchange, a moment less than `desk` waits: its slot is free when that ends.
CREATE_WITHIN = 4.8
LOOK_UP_WITHIN = 1.9

_CONNECT_WITHIN = 3.05  # seconds: TCP sends its second SYN again after 3
_LARGEST_ANSWER = 1 << 20  # bytes; a hundred times what any node says of one invoice
#: Instead of those of requests: an answer is read as it comes, so it must not be compressed.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "Flask-L402"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered, of whatever status but a redirect."""

    status: int
    content: bytes = field(repr=False)  # may hold a preimage

    def json(self) -> dict[str, Any]:
        """Return the JSON object that it holds.

        :raises NodeUnreachable: it holds none
        """
        try:
            found = json.loads(self.content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise NodeUnreachable(f"answered {self.status} with something that is no JSON object")
        return found


class JsonClient:
    """Calls to one node, on a connection kept open in each thread.

    `base` is ``scheme://host:port/path`` without a secret, `headers` carry the credential, and
    `ca_file` is what to verify the node's certificate against, read anew for each connection
    (None: the system's authorities). May be shared by threads and made before a fork.
    """

    def __init__(self, base: str, headers: Mapping[str, str], ca_file: Path | None = None) -> None:
        self._base = base
        self._headers = {**_HEADERS, **headers}
        self._verify: bool | str = str(ca_file) if ca_file else True
        self._local = threading.local()

    def get(self, path: str, within: float) -> Answer:
        """GET `path`; the exchange takes at most `within` seconds.

        :raises NodeUnreachable: no connection, too late, too large, or not HTTP
        """
        return self._exchange("GET", path, None, self._headers, within)

    def post(self, path: str, body: Mapping[str, object], within: float) -> Answer:
        """POST `body` as JSON to `path`; as `get`."""
        headers = {**self._headers, "Content-Type": "application/json"}
        return self._exchange("POST", path, json.dumps(body).encode(), headers, within)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], within: float
    ) -> Answer:
        try:
            response = self._session().send(
                _prepared(method, self._base + path, headers, body),
                timeout=cast(Any, urllib3.Timeout(connect=_CONNECT_WITHIN, total=within)),
                verify=self._verify,
                proxies={},
                allow_redirects=False,
                stream=True,
            )
            return _answer(response)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as e:
            raise NodeUnreachable(_reason(e)) from None  # its text may hold what was sent

    def _session(self) -> "_Session":
        """Return this thread's own; one that came over a fork is its parent's."""
        pid = os.getpid()
        if getattr(self._local, "pid", None) != pid:
            self._local.pid, self._local.session = pid, _Session()
        return cast(_Session, self._local.session)


def _prepared(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> requests.PreparedRequest:
    """Prepare no more than there is: no parameters, cookies or hooks, and `url` is in order."""
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, url, body
    request.prepare_headers(headers)
    request.prepare_content_length(body)
    return request


def _answer(response: requests.Response) -> Answer:
    """Read no more of the body than is allowed; what is left over closes the connection."""
    try:
        content = response.raw.read(_LARGEST_ANSWER + 1, decode_content=False)
        if len(content) > _LARGEST_ANSWER:
            raise NodeUnreachable("its answer is larger than 1 MiB")
    finally:
        response.raw.close()
    if 300 <= response.status_code < 400:
        raise NodeUnreachable(
            f"answered with a redirect ({response.status_code}): "
            "name the final address in the node URL"
        )
    return Answer(response.status_code, content)


class _Session(requests.Session):
    """A session that takes nothing from the environment, and neither cookies nor redirects."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        for scheme in ("http://", "https://"):
            self.mount(scheme, _TimedAdapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Find none: requests reads the whole body of one, even of one not to be followed."""


class _TimedAdapter(HTTPAdapter):
    """Connections whose answers arrive within the time-out, head and body together."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _TimedPool, "https": _TimedTLSPool}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: bool | str | None, *_: Any, **__: Any
    ) -> urllib3.HTTPConnectionPool:
        """Without a file, requests would trust the authorities of certifi, not the system's."""
        ca_certs = verify if isinstance(verify, str) else None
        pool = self.poolmanager.connection_from_url(
            request.url, {"cert_reqs": "CERT_REQUIRED", "ca_certs": ca_certs}
        )
        return cast(urllib3.HTTPConnectionPool, pool)

    def cert_verify(self, *_: Any) -> None:
        """Leave the pool as it is: the file may be missing while a connection stands."""


class _TimedReader(io.RawIOBase):
    """Reads from a socket as long as the socket's time-out, all reads together.

    A socket's own time-out begins anew with each byte, so a node that drips never trips it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._end = time.monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """All of a socket that a response asks for."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock))


class _TimedResponse(http.client.HTTPResponse):
    """A response whose head and body must both arrive within one time-out."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(cast(socket.socket, _TimedSocket(sock)), *args, **kwargs)


class _TimedHTTPConnection(HTTPConnection):
    response_class = _TimedResponse


class _TimedHTTPSConnection(HTTPSConnection):
    response_class = _TimedResponse


class _TimedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _TimedHTTPConnection


class _TimedTLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TimedHTTPSConnection


#: OpenSSL's verification results (x509_vfy.h) that an operator can mend
_CERTIFICATE_FAULTS = {
    9: "its certificate is not valid yet: compare the clocks",
    10: "its certificate has expired: renew it",
    62: "its certificate is not for this host name: use a name that it lists",
    64: "its certificate is not for this IP address: use an address that it lists",
}
_FOREIGN_CERTIFICATE = "its certificate is not trusted: name the node's own with tls_cert_path"

_BROKEN = "broke the connection before it answered"
_BROKEN_ERRNO = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ECONNABORTED)

#: The first match counts.
_MEANINGS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "no answer in time"),
    (urllib3.exceptions.TimeoutError, "no answer in time"),
    (http.client.RemoteDisconnected, _BROKEN),
    (ssl.SSLEOFError, _BROKEN),
    (ssl.SSLZeroReturnError, _BROKEN),
    (http.client.IncompleteRead, "broke off in the middle of its answer"),
    (http.client.HTTPException, "answered with something other than HTTP"),
    (FileNotFoundError, "the file of tls_cert_path is missing"),
    (PermissionError, "permission denied: to connect, or to read the file of tls_cert_path"),
)


def _reason(error: Exception) -> str:
    """Say in words what `error` means, by the first of its causes that tells; never its text."""
    return next(filter(None, map(_meaning, _causes(error))), f"failed with {type(error).__name__}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error` and what it came from, the innermost first."""
    if error is not None:
        hidden = error.__suppress_context__
        yield from _causes(error.__cause__ or (None if hidden else error.__context__))
        yield error


def _meaning(error: BaseException) -> str | None:
    for kind, meaning in _MEANINGS:
        if isinstance(error, kind):
            return meaning
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_FAULTS.get(error.verify_code, _FOREIGN_CERTIFICATE)
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({error.reason or type(error).__name__})"
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        broken = error.errno in _BROKEN_ERRNO
        return _BROKEN if broken else f"no connection ({error.strerror or type(error).__name__})"
    return None

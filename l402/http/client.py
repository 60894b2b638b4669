"""One exchange at a time with one server: verified TLS, redirects never followed.

Nothing in the environment changes certificates, proxies or credentials, save that OpenSSL finds
the system's authorities where SSL_CERT_FILE and SSL_CERT_DIR say.
"""

import http.client
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import requests
import urllib3

from l402.errors import L402Error
from l402.http.faults import reason
from l402.http.transport import Transport

_CONNECT_WITHIN = 3.05  # seconds: TCP sends its second SYN again after 3
LARGEST_ANSWER = 1 << 20  # bytes; a hundred times what anybody says of one invoice or price
#: Instead of those of requests: an answer is read as it comes, so it must not be compressed.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "Flask-L402"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, of whatever status but a redirect."""

    status: int
    content: bytes = field(repr=False)  # may hold a secret


class Client:
    """Calls to one server, on connections that are kept open.

    `base` is ``scheme://host:port/path`` without a secret, `headers` carry the credential, and
    `ca_file` is what to verify the server's certificate against, read anew for each connection
    (None: the system's authorities). `error` makes what is raised from words that hold no secret.
    May be shared by threads and made before a fork.
    """

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        error: Callable[[str], L402Error],
        ca_file: Path | None = None,
    ) -> None:
        self._base = base
        self._headers = {**_HEADERS, **headers}
        self._error = error
        self._ca_file = ca_file
        self._transports: dict[int, Transport] = {}  # by process id

    def exchange(
        self,
        method: str,
        path: str,
        within: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        largest: int = LARGEST_ANSWER,
    ) -> Answer:
        """Send a request to `path` below the base; the exchange takes at most `within` seconds.

        An answer of more than `largest` bytes is an error.

        :raises L402Error: the client's own, for no connection, too late, too large, not HTTP
        """
        request = _prepared(method, self._base + path, {**self._headers, **(headers or {})}, body)
        timeout = (_CONNECT_WITHIN, within)
        try:
            return self._answer(self._transport().send(request, timeout=timeout), largest)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as e:
            raise self._error(reason(e)) from None  # its text may hold what was sent

    def certificate_end(self, within: float) -> int | None:
        """Connect anew within so many seconds, and tell when the server's certificate ends.

        In unix seconds; None without TLS. Nothing is sent, and the certificate is verified.

        :raises L402Error: the client's own, as for `exchange`
        """
        try:
            return self._transport().certificate_end(min(within, _CONNECT_WITHIN))
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise self._error(reason(e)) from None

    def _answer(self, response: requests.Response, largest: int) -> Answer:
        """Read no more of the body than is allowed; what is left over closes the connection."""
        try:
            content = response.raw.read(largest + 1)
            if len(content) > largest:
                raise self._error(f"its answer is larger than {largest >> 20} MiB")
        finally:
            response.raw.close()
        if 300 <= response.status_code < 400:
            raise self._error(
                f"answered with a redirect ({response.status_code}): name the final address"
            )
        return Answer(response.status_code, content)

    def _transport(self) -> Transport:
        """Return this process's own; connections that came over a fork are the parent's."""
        pid = os.getpid()
        return self._transports.get(pid) or self._transports.setdefault(
            pid, Transport(self._base, self._ca_file)
        )


def _prepared(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> requests.PreparedRequest:
    """Prepare no more than there is: no parameters, cookies or hooks, and `url` is in order."""
    request = requests.PreparedRequest()
    request.method, request.url, request.body = method, url, body
    request.headers = cast(Any, headers)
    return request

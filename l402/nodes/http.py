"""JSON over HTTP to a node: verified TLS, bounded in time and size, whatever the node does.

Nothing in the environment changes its certificates, proxies or credentials, save that OpenSSL finds
the system's authorities where SSL_CERT_FILE and SSL_CERT_DIR say.
"""

import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import requests
import urllib3

from l402.errors import NodeUnreachable
from l402.nodes.faults import reason
from l402.nodes.transport import Transport

#: Seconds for a whole exchange; lnd on the same machine takes one millisecond.
CREATE_WITHIN = 5.0
LOOK_UP_WITHIN = 2.0

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
    """Calls to one node, on connections that are kept open.

    `base` is ``scheme://host:port/path`` without a secret, `headers` carry the credential, and
    `ca_file` is what to verify the node's certificate against, read anew for each connection
    (None: the system's authorities). May be shared by threads and made before a fork.
    """

    def __init__(self, base: str, headers: Mapping[str, str], ca_file: Path | None = None) -> None:
        self._base = base
        self._headers = {**_HEADERS, **headers}
        self._ca_file = ca_file
        self._transports: dict[int, Transport] = {}  # by process id

    def get(self, path: str, within: float) -> Answer:
        """GET `path`; the exchange takes at most `within` seconds.

        :raises NodeUnreachable: no connection, too late, too large, or not HTTP
        """
        return self._exchange("GET", path, None, self._headers, within)

    def post(self, path: str, body: Mapping[str, object], within: float) -> Answer:
        """POST `body` as JSON to `path`; as `get`."""
        content = json.dumps(body).encode()
        more = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        return self._exchange("POST", path, content, self._headers | more, within)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], within: float
    ) -> Answer:
        request = _prepared(method, self._base + path, headers, body)
        timeout = urllib3.Timeout(connect=_CONNECT_WITHIN, total=within)
        try:
            return _answer(self._transport().send(request, timeout=timeout))
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as e:
            raise NodeUnreachable(reason(e)) from None  # its text may hold what was sent

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

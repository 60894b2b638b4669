"""JSON over HTTP to a node, and what went wrong in words for the node's operator."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l402.errors import NodeUnreachable
from l402.http import client, faults

#: Seconds for a whole exchange; lnd on the same machine takes one millisecond.
CREATE_WITHIN = 5.0
LOOK_UP_WITHIN = 2.0

_ADVICE = {
    faults.UNTRUSTED: f"{faults.UNTRUSTED}: name the node's own with tls_cert_path",
    faults.NO_CA_FILE: "the file of tls_cert_path is missing",
    faults.FORBIDDEN: "permission denied: to connect, or to read the file of tls_cert_path",
}


@dataclass(frozen=True, slots=True)
class Answer(client.Answer):
    """What a node answered, of whatever status but a redirect."""

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
    """Calls to one node, on connections that are kept open; see `l402.http.client.Client`."""

    def __init__(self, base: str, headers: Mapping[str, str], ca_file: Path | None = None) -> None:
        self._client = client.Client(base, headers, _unreachable, ca_file)

    def get(self, path: str, within: float) -> Answer:
        """GET `path`; the exchange takes at most `within` seconds.

        :raises NodeUnreachable: no connection, too late, too large, or not HTTP
        """
        found = self._client.exchange("GET", path, within)
        return Answer(found.status, found.content)

    def post(self, path: str, body: Mapping[str, object], within: float) -> Answer:
        """POST `body` as JSON to `path`; as `get`."""
        content = json.dumps(body).encode()
        more = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        found = self._client.exchange("POST", path, within, content, more)
        return Answer(found.status, found.content)

    def certificate_end(self, within: float) -> int | None:
        """Connect anew, and return when the node's certificate ends; None without TLS.

        :raises NodeUnreachable: no connection, or a certificate that is not to be trusted
        """
        return self._client.certificate_end(within)


def _unreachable(words: str) -> NodeUnreachable:
    return NodeUnreachable(_ADVICE.get(words, words))

"""JSON over HTTP to a node, and what went wrong in words for the node's operator."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from l402.errors import NodeUnreachable
from l402.http import client, faults

#: Seconds for a whole exchange; lnd on the same machine takes one millisecond.
CREATE_WITHIN = 5.0
LOOK_UP_WITHIN = 2.0


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

    def text(self) -> str:
        """Return what it says as text, whatever it holds."""
        return self.content.decode(errors="replace")


class JsonClient:
    """Calls to one node, on connections that are kept open; see `l402.http.client.Client`.

    `ca_parameter` is the name by which the operator knows `ca_file`.
    """

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        ca_file: Path | None = None,
        ca_parameter: str = "tls_cert_path",
    ) -> None:
        file = f"the file of {ca_parameter}"
        advice = {
            faults.UNTRUSTED: f"{faults.UNTRUSTED}: name the node's own with {ca_parameter}",
            faults.NO_CA_FILE: f"{file} is missing",
            faults.FORBIDDEN: f"permission denied: to connect, or to read {file}",
        }

        def unreachable(words: str) -> NodeUnreachable:
            return NodeUnreachable(advice.get(words, words))

        self._client = client.Client(base, headers, unreachable, ca_file)

    def get(self, path: str, within: float) -> Answer:
        """GET `path`; the exchange takes at most `within` seconds.

        :raises NodeUnreachable: no connection, too late, too large, or not HTTP
        """
        found = self._client.exchange("GET", path, within)
        return Answer(found.status, found.content)

    def post(self, path: str, body: Mapping[str, object], within: float) -> Answer:
        """POST `body` as JSON to `path`; as `get`."""
        return self._post(path, json.dumps(body), "application/json", within)

    def post_form(self, path: str, fields: Mapping[str, str], within: float) -> Answer:
        """POST `fields` as an HTML form would send them; as `get`."""
        return self._post(path, urlencode(fields), "application/x-www-form-urlencoded", within)

    def _post(self, path: str, text: str, kind: str, within: float) -> Answer:
        content = text.encode()
        more = {"Content-Type": kind, "Content-Length": str(len(content))}
        found = self._client.exchange("POST", path, within, content, more)
        return Answer(found.status, found.content)


def basic(password: str) -> dict[str, str]:
    """Return the header of HTTP Basic with no user name (RFC 7617)."""
    return {"Authorization": f"Basic {b64encode(f':{password}'.encode()).decode()}"}

"""What the nodes that are spoken to over HTTP with one secret have in common."""

import re
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from l402.errors import NodeMismatch, NodeRefused
from l402.nodes.base import Node
from l402.nodes.http import LOOK_UP_WITHIN, Answer, JsonClient
from l402.nodes.record import Record

_LONGEST_QUOTE = 200  # characters of what a node said


class RemoteNode(Node):
    """A node at `base` (``scheme://host:port/path``) that is shown `secret` with each call.

    `ca_file` is what to verify its certificate against, None for the system's authorities.
    """

    #: what its operator calls it
    kind: ClassVar[str]
    #: what its operator calls the secret
    secret_name: ClassVar[str] = "password"  # noqa: S105
    #: the parameter of the node URL that names `ca_file`
    ca_parameter: ClassVar[str] = "ca_path"

    def __init__(
        self, base: str, secret: str, *, network: str = "mainnet", ca_file: Path | None = None
    ) -> None:
        self.network = self.invoice_network = network
        self._base, self._secret = base, secret
        self._client = JsonClient(base, self._headers(secret), ca_file, self.ca_parameter)

    def __repr__(self) -> str:
        return f"{self.kind} at {self._base} ({self.network})"

    def certificate_end(self) -> int | None:
        """As `Node.certificate_end`: of the certificate that the node shows now."""
        return self._client.certificate_end(LOOK_UP_WITHIN)

    @staticmethod
    @abstractmethod
    def _headers(secret: str) -> dict[str, str]:
        """Return the headers that carry `secret`."""

    def _record(self, answer: Answer) -> Record:
        return Record(self.kind, answer.json())

    def _same(self, asked: bytes, answered: bytes) -> None:
        if asked != answered:
            raise NodeMismatch("payment hash: the answer is about another invoice")

    def _quoted(self, said: object) -> str:
        """Return what a node said as a short line of printable ASCII, without the secret."""
        text = str(said)
        sent = (header.rpartition(" ")[2] for header in self._headers(self._secret).values())
        for form in (self._secret, *sent):  # as itself, and as it travels
            text = text.replace(form, f"({self.secret_name})")
        return re.sub("[^ -~]", "?", text)[:_LONGEST_QUOTE]

    def _refused(self, answer: Answer, said: object) -> NodeRefused:
        """Return the error for a refusal whose meaning is not known."""
        return NodeRefused(f"{self.kind} refused with status {answer.status}: {self._quoted(said)}")

    def _nobody(self) -> NodeRefused:
        return NodeRefused(
            f"no {self.kind} at this address; correct host, port or path in the node URL"
        )

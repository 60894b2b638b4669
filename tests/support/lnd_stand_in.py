"""A server that answers as lnd's REST interface does; its invoices are the simulated node's."""

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from l402.nodes.simulated import SimulatedNode
from support.http_servers import Certificate, Request, Server, http_answer


def baked(*permissions: str) -> bytes:
    """Return a macaroon as lnd bakes them, of permissions such as ``invoices:read``."""
    entities: dict[str, list[bytes]] = {}
    for permission in permissions:
        entity, _, action = permission.partition(":")
        entities.setdefault(entity, []).append(action.encode())
    operations = [
        _field(1, entity.encode()) + b"".join(_field(2, action) for action in actions)
        for entity, actions in entities.items()
    ]
    identifier = b"\x03" + _field(1, b"n" * 16) + _field(2, b"0")
    identifier += b"".join(_field(3, operation) for operation in operations)
    return b"\x02" + b"\x02" + _counted(identifier) + b"\x00\x00\x06" + _counted(b"canary-sig" * 3)


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _counted(value)


def _counted(value: bytes) -> bytes:
    length = len(value)
    prefix = [length] if length < 128 else [length & 127 | 128, length >> 7]
    return bytes(prefix) + value


class LndStandIn:
    """What lnd would do, until a test sets it to something else.

    `refuses` are messages by method and path's beginning; `ahead` are its clock's seconds before
    ours, and `memo` replaces every description.
    """

    def __init__(self, server: Server, certificate: Certificate, folder: Path) -> None:
        self.server, self.certificate = server, certificate
        self.refuses: dict[str, str] = {}
        self.ahead = 0.0
        self.memo: str | None = None
        self.forgets = False
        self.macaroon = folder / "invoices.macaroon"
        self.macaroon.write_bytes(baked("invoices:read", "invoices:write"))
        self._node = SimulatedNode(b"x" * 32, lambda: time.time() + self.ahead)
        self._issued: set[str] = set()

    def url(self, **parameters: object) -> str:
        """Return the URL that names it as a node."""
        given = {
            "macaroon_path": self.macaroon,
            "tls_cert_path": self.certificate.cert,
            "network": "regtest",
        } | parameters
        return f"lnd+{self.server.url}?" + "&".join(f"{k}={v}" for k, v in given.items())

    def answer(self, request: Request) -> bytes:
        """Behave as lnd does to one request."""
        for refused, message in self.refuses.items():
            if f"{request.method} {request.path}".startswith(refused):
                return http_answer(500, {"code": 2, "message": message, "details": []})
        if request.method == "POST" and request.path == "/v1/invoices":
            return self._create(json.loads(request.body))
        if request.path.startswith("/v1/invoice/"):
            return self._look_up(request.path.rpartition("/")[2])
        return http_answer(404, {"code": 5, "message": "Not Found", "details": []})

    def _create(self, order: dict[str, str]) -> bytes:
        memo = order["memo"] if self.memo is None else self.memo
        issued = self._node.create_invoice(int(order["value_msat"]), memo, int(order["expiry"]))
        self._issued.add(issued.payment_hash.hex())
        hashed = b64encode(issued.payment_hash).decode()
        return http_answer(200, {"r_hash": hashed, "payment_request": issued.bolt11})

    def _look_up(self, payment_hash: str) -> bytes:
        if self.forgets or payment_hash not in self._issued:
            return http_answer(404, {"code": 5, "message": "unable to locate invoice"})
        hashed = b64encode(bytes.fromhex(payment_hash)).decode()
        return http_answer(200, {"r_hash": hashed, "state": "OPEN"})


@contextmanager
def lnd_stand_in(folder: Path) -> Iterator[LndStandIn]:
    """Run a stand-in for the length of a block, with its files in `folder`."""
    certificate = Certificate.make(folder / "tls", days=60)
    server = Server(lambda _: None, certificate)
    stand_in = LndStandIn(server, certificate, folder)
    server.behaviour = stand_in.answer
    try:
        yield stand_in
    finally:
        server.close()

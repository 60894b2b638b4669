"""A wallet that is spoken to over Nostr (NIP-47): its keys, and a service that answers for it."""

import json
import secrets
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from nostr_sdk import Event, EventBuilder, Keys, Kind, PublicKey, Tag, Timestamp
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from support.daemons import NotYet
from support.lnd import Lnd

INFO, REQUEST, ANSWER, AUTHENTICATION = 13194, 23194, 23195, 22242
_WITHIN = 60  # seconds
_STATES = {"OPEN": "pending", "ACCEPTED": "accepted", "SETTLED": "settled", "CANCELED": "expired"}
METHODS = "get_info make_invoice lookup_invoice"
BOTH = "nip44_v2 nip04"

#: Answers a method and its parameters with NIP-47's ``result``.
Backend = Callable[[str, dict[str, Any]], object]


class Refusal(Exception):
    """Raised by a backend that refuses: code and message."""


def from_lnd(lnd: Lnd) -> Backend:
    """Return the backend of a wallet whose invoices are an lnd's."""

    def make_invoice(params: dict[str, Any]) -> dict[str, Any]:
        order = {
            "value_msat": str(params["amount"]),
            "memo": params["description"],
            "expiry": str(params["expiry"]),
        }
        issued = lnd.call("POST", "/v1/invoices", order)
        return lookup_invoice({"payment_hash": b64decode(issued["r_hash"]).hex()})

    def lookup_invoice(params: dict[str, Any]) -> dict[str, Any]:
        try:
            invoice = lnd.call("GET", f"/v1/invoice/{params['payment_hash']}")
        except NotYet as error:
            raise Refusal("NOT_FOUND", "no such invoice") from error
        settled = invoice["state"] == "SETTLED"
        created_at = int(invoice["creation_date"])
        return {
            "type": "incoming",
            "state": _STATES[invoice["state"]],
            "invoice": invoice["payment_request"],
            "description": invoice["memo"],
            "payment_hash": params["payment_hash"],
            "amount": int(invoice["amt_paid_msat" if settled else "value_msat"]),
            "fees_paid": 0,
            "created_at": created_at,
            "expires_at": created_at + int(invoice["expiry"]),
            "settled_at": int(invoice["settle_date"]) if settled else None,
            "metadata": {},
        }

    methods = {"make_invoice": make_invoice, "lookup_invoice": lookup_invoice}
    return lambda method, params: methods[method](params)


class Wallet:
    """A wallet's side of a correspondence; all its clients use one relay."""

    def __init__(self, relay: str, methods: str = METHODS, encryption: str | None = BOTH) -> None:
        self.relay, self.methods, self.encryption = relay, methods, encryption
        self._keys = Keys.generate()
        self.key: str = self._keys.public_key().to_hex()
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def uri(self, secret: str | None = None, **parameters: str) -> str:
        """Return a connection URI, with a fresh secret if none is given."""
        given = {"relay": self.relay, "secret": secret or secrets.token_hex(32), **parameters}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in given.items())
        return f"nostr+walletconnect://{self.key}?{query}"

    def info(self, created_at: int | None = None) -> dict[str, Any]:
        """Return its announcement."""
        tags = [["encryption", self.encryption]] if self.encryption is not None else []
        return self.event(INFO, self.methods, tags, created_at=created_at)

    def read(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return a request's method and parameters, decrypted as its tag says."""
        assert Event.from_json(json.dumps(request)).verify()
        modern = ["encryption", "nip44_v2"] in request["tags"]
        decrypt = self._keys.nip44_decrypt if modern else self._keys.nip04_decrypt
        found = json.loads(decrypt(PublicKey.parse(request["pubkey"]), request["content"]))
        self.requests.append((found["method"], found["params"]))
        return self.requests[-1]

    def answer(self, request: dict[str, Any], body: object, by: "Wallet | None" = None) -> Any:
        """Return the event that answers `request` with `body`, perhaps signed by another."""
        modern = ["encryption", "nip44_v2"] in request["tags"]
        encrypt = self._keys.nip44_encrypt if modern else self._keys.nip04_encrypt
        content = encrypt(PublicKey.parse(request["pubkey"]), json.dumps(body))
        tags = [["p", request["pubkey"]], ["e", request["id"]]]
        return (by or self).event(ANSWER, content, tags)

    def event(
        self, kind: int, content: str, tags: list[list[str]], created_at: int | None = None
    ) -> dict[str, Any]:
        """Return an event that it signed."""
        builder = EventBuilder(Kind(kind), content).tags([Tag.parse(tag) for tag in tags])
        if created_at is not None:
            builder = builder.custom_created_at(Timestamp.from_secs(created_at))
        found: dict[str, Any] = json.loads(builder.finalize(self._keys).as_json())
        return found


class WalletService:
    """Answers at a relay for a `Wallet`, and comes back when the relay does."""

    def __init__(self, wallet: Wallet, backend: Backend) -> None:
        self.wallet, self.backend = wallet, backend
        self.clients: set[str] = set()  # public keys
        self._ended, self._listening = threading.Event(), threading.Event()
        self.start()

    def start(self) -> None:
        """Answer, again if it was closed."""
        self._ended.clear()
        self._socket: ClientConnection | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def connection(self, **parameters: str) -> str:
        """Return the URI of a new connection, when the service listens."""
        self.await_listening()
        secret = secrets.token_hex(32)
        self.clients.add(Keys.parse(secret).public_key().to_hex())
        return self.wallet.uri(secret, **parameters)

    def close(self) -> None:
        """Go away."""
        self._ended.set()
        if self._socket:
            self._socket.close()
        self._thread.join(_WITHIN)

    def await_listening(self) -> None:
        """Wait until the relay hands requests on."""
        assert self._listening.wait(_WITHIN)

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            with (
                suppress(OSError, WebSocketException),
                connect(self.wallet.relay, proxy=None, close_timeout=1) as self._socket,
            ):
                self._serve(self._socket)
            self._listening.clear()

    def _serve(self, socket: ClientConnection) -> None:
        self._announce(socket)
        for text in socket:
            match json.loads(text):
                case ["AUTH", challenge]:  # NIP-42
                    tags = [["relay", self.wallet.relay], ["challenge", challenge]]
                    socket.send(json.dumps(["AUTH", self.wallet.event(AUTHENTICATION, "", tags)]))
                    self._announce(socket)
                case ["EOSE", _]:
                    self._listening.set()
                case ["EVENT", _, request]:
                    event = self.wallet.answer(request, self._body(request))
                    socket.send(json.dumps(["EVENT", event]))

    def _announce(self, socket: ClientConnection) -> None:
        socket.send(json.dumps(["EVENT", self.wallet.info()]))
        filters = {"kinds": [REQUEST], "#p": [self.wallet.key], "since": int(time.time())}
        socket.send(json.dumps(["REQ", "requests", filters]))

    def _body(self, request: dict[str, Any]) -> dict[str, Any]:
        method, params = self.wallet.read(request)
        try:
            if request["pubkey"] not in self.clients:
                raise Refusal("UNAUTHORIZED", "no wallet of yours")
            result = self.backend(method, params)
        except Refusal as refusal:
            code, message = refusal.args
            return {"result_type": method, "error": {"code": code, "message": message}}
        return {"result_type": method, "error": None, "result": result}

"""A wallet that is spoken to over Nostr (NIP-47): its keys, and a service that answers for it."""

import json
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from nostr_sdk import Event, EventBuilder, Keys, Kind, PublicKey, Tag, Timestamp
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

INFO, REQUEST, ANSWER, AUTHENTICATION = 13194, 23194, 23195, 22242
_WITHIN = 60  # seconds
METHODS = "get_info make_invoice lookup_invoice"
BOTH = "nip44_v2 nip04"

#: Answers a method and its parameters with NIP-47's ``result``.
Backend = Callable[[str, dict[str, Any]], object]


class Refusal(Exception):
    """Raised by a backend that refuses: code and message."""


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
        self._socket: ClientConnection | None = None
        self._ended = threading.Event()
        self._listening = threading.Event()
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

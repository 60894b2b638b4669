"""Loopback HTTP(S) servers that answer, or misbehave, as a test tells them to."""

import ipaddress
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes


#: What to send: all of it, piece by piece (a dripping node), or nothing before closing.
Reply = bytes | Iterator[bytes] | None
Behaviour = Callable[[Request], Reply]


class ResetConnection(Exception):
    """Raised by a behaviour that wants the connection reset."""


def http_answer(status: int, body: object, *headers: str) -> bytes:
    """Return an HTTP answer; `body` is bytes, text, or something to write as JSON."""
    if not isinstance(body, bytes | str):
        body = json.dumps(body)
    content = body.encode() if isinstance(body, str) else body
    lines = (
        f"HTTP/1.1 {status} Said",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate and its key, as lnd makes one."""

    cert: Path
    key: Path

    @classmethod
    def make(cls, folder: Path, *, host: str = "127.0.0.1", days: int = 30) -> "Certificate":
        """Make one for `host`; with negative `days` it has expired."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a node of the tests")])
        end = datetime.now(UTC) + timedelta(days=days)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=60))
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        made = cls(folder / "tls.cert", folder / "tls.key")
        made.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return made


def _general_name(host: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    return x509.DNSName(host)


class Server:
    """A server on a free port of loopback; `behaviour` may be replaced while it runs."""

    def __init__(self, behaviour: Behaviour, certificate: Certificate | None = None) -> None:
        self.behaviour = behaviour
        self.requests: list[Request] = []
        self.connections = 0
        self.ending = threading.Event()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if certificate is not None:
            self.present(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def present(self, certificate: Certificate) -> None:
        """Show `certificate` to whoever connects from now on."""
        assert self._tls is not None
        self._tls.load_cert_chain(certificate.cert, certificate.key)

    def hang(self, _request: Request) -> Reply:
        """Answer nothing until the server ends: the behaviour of a stopped node."""
        self.ending.wait(60)
        return None

    def drip(self, _request: Request) -> Reply:
        """Answer with a head that never ends, a byte at a time."""
        yield b"HTTP/1.1 200 OK\r\nX-Drip: "
        while not self.ending.wait(0.01):
            yield b"."

    def await_closed(self) -> None:
        """Return once every connection so far is closed."""
        for thread in self._threads[1:]:
            thread.join(10)

    def close(self) -> None:
        """End all connections and wait for the server's threads."""
        self.ending.set()
        _shut(self._listener)
        for connection in tuple(self._open):
            _shut(connection)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with closing(self._listener), suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.add(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                plain = connection
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.add(connection)
                self._open.discard(plain)
            while (request := _read(connection)) is not None and self._reply(connection, request):
                pass
        except ResetConnection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # the client went away, or would not have our certificate
        finally:
            connection.close()
            self._open.discard(connection)

    def _reply(self, connection: socket.socket, request: Request) -> bool:
        self.requests.append(request)
        reply = self.behaviour(request)
        if reply is None:
            return False
        for piece in [reply] if isinstance(reply, bytes) else reply:
            connection.sendall(piece)
        return isinstance(reply, bytes)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _read(connection: socket.socket) -> Request | None:
    """Return the next request of a connection, or None at its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, path, _ = first.split(" ")
    return Request(method, path, headers, body)


@contextmanager
def serving(behaviour: Behaviour, certificate: Certificate | None = None) -> Iterator[Server]:
    """Run a `Server` for the length of a block."""
    server = Server(behaviour, certificate)
    try:
        yield server
    finally:
        server.close()

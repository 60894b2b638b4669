"""Metered streams under gunicorn: whoever hangs up or is killed is charged what was sent.

What is charged may be one chunk ahead of it, never more, and never less.
"""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select
from support.killing import await_
from support.metered_app import CREDIT, LEASE, RESERVE, WORD

from l402.nodes.simulated import SimulatedNode
from l402.protocol.keys import KeyRing
from l402.store import Store, migrate
from l402.store.audit import Audit, Difference
from l402.store.tables import use

_ROOT = Path(__file__).parents[1]
_SERVER = ["support.metered_app:create_app()", "-k", "gthread", "--threads", "4"]
_SERVER += [
    "--pythonpath",
    "tests",
    "--graceful-timeout",
    "1",
    "--timeout",
    "3",
    "--no-control-socket",
]
_CHALLENGE = re.compile(rb'L402 macaroon="([^"]+)", invoice="([^"]+)"')
_WITHIN = 60  # seconds
BOUGHT = CREDIT * 1000


class Server:
    """One worker under a master that replaces it when it dies."""

    def __init__(self, folder: Path) -> None:
        self.database = f"sqlite:///{folder / 'l402.db'}"
        migrate.upgrade(self.database)
        secret = secrets.token_hex(32)
        self.node = SimulatedNode(KeyRing([secret.encode()]).derive("simulated node"))
        self.credential = ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        given = {
            "FLASK_L402_DATABASE_URL": self.database,
            "FLASK_L402_SECRET_KEY": f'"{secret}"',
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "GUNICORN_"))}
        with (folder / "gunicorn.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *_SERVER, "-b", f"fd://{self._listener.fileno()}"],
                cwd=_ROOT,
                env=kept | given,
                pass_fds=[self._listener.fileno()],
                stdout=log,
                stderr=log,
            )  # fmt: skip

    def buy(self) -> str:
        """Pay for credit."""
        head, _ = self.ask("/words/0").whole()
        found = _CHALLENGE.search(head)
        assert found, head
        return f"L402 {found[1].decode()}:{self.node.settle(found[2].decode()).hex()}"

    def ask(self, path: str, credential: str = "") -> "Stream":
        return Stream(self._listener.getsockname(), path, credential)

    def worker(self) -> int:
        """Give the worker's process."""
        master = self.process.pid
        children = Path(f"/proc/{master}/task/{master}/children")
        await_(lambda: children.read_text().split(), "a worker")
        return int(children.read_text().split()[0])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(_WITHIN)
        self._listener.close()


class Stream:
    """One request over a connection of its own, and its answer as it comes in."""

    def __init__(self, address: tuple[str, int], path: str, credential: str) -> None:
        self._socket = socket.create_connection(address, timeout=_WITHIN)
        shown = f"Authorization: {credential}\r\n" if credential else ""
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: shop\r\n{shown}Connection: close\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        self.head = b""

    def chunks(self) -> Iterator[int]:
        """Give how many words each chunk has, until the connection ends."""
        while (line := self._file.readline()) not in (b"\r\n", b""):
            self.head += line
        while size := int(self._file.readline() or b"0", 16):
            data = self._file.read(size + 2)
            yield data.count(b"\n") - data.endswith(b"\r\n")
        self.hang_up()

    def whole(self) -> tuple[bytes, bytes]:
        """Give head and body of an answer that is no stream."""
        head, _, body = self._file.read().partition(b"\r\n\r\n")
        self.hang_up()
        return head, body

    def hang_up(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    try:
        server.credential = server.buy()
        yield server
    finally:
        server.close()


@pytest.fixture
def charged(server: Server) -> Iterator[Callable[[], int]]:
    """Waits until nothing is in flight, audits, and gives the words that were charged."""
    with closing(Store(server.database)) as store:

        def count() -> int:
            await_(lambda: not store.db.fetch(select(use)), "the end of all uses")
            found: list[Difference] = []
            totals = Audit(store.db).run(found.append, lambda _: None)
            assert found == []
            assert totals.balance == BOUGHT - totals.used
            assert totals.used % WORD == 0
            return totals.used // WORD

        yield count


def test_a_whole_stream(server: Server, charged: Callable[[], int]) -> None:
    """Every word arrives, some of them together, and is charged."""
    chunks = list(server.ask("/words/5000", server.credential).chunks())
    assert sum(chunks) == 5000
    assert charged() == 5000


@pytest.mark.parametrize("read", [1, 30])
def test_a_client_that_hangs_up(server: Server, charged: Callable[[], int], read: int) -> None:
    """It is charged what was sent, until the server sees that nobody is there."""
    stream = server.ask("/words/9000?pause=0.05", server.credential)
    chunks = stream.chunks()
    received = sum(next(chunks) for _ in range(read))
    stream.hang_up()
    # What goes to a closed connection first is answered by a reset; the next is refused.
    assert received <= charged() <= received + 3


def test_a_worker_that_is_killed(server: Server, charged: Callable[[], int]) -> None:
    """From outside, in mid-stream: its successor gives back all but what was charged."""
    stream = server.ask("/words/9000?pause=0.001", server.credential)
    chunks = stream.chunks()
    received = [next(chunks) for _ in range(90)]
    os.kill(server.worker(), signal.SIGKILL)
    received += list(chunks)
    server.ask("/words/0", server.credential).whole()  # wakes the successor
    assert sum(received) <= charged() <= sum(received) + max(received) + 1


@pytest.mark.parametrize("moment", ["", "&charged=1"])
@pytest.mark.parametrize("word", [0, 1, 40, 3000])
def test_a_worker_that_dies_at_a_word(
    server: Server, charged: Callable[[], int], word: int, moment: str
) -> None:
    """Before the word is charged or after: words that were held back are not charged."""
    stream = server.ask(f"/words/9000?die={word}{moment}", server.credential)
    received = sum(stream.chunks())
    assert received <= word
    server.ask("/words/0", server.credential).whole()
    assert charged() == received


@pytest.mark.parametrize("word", [1, 10, 3000])
def test_a_worker_that_dies_before_a_chunk(
    server: Server, charged: Callable[[], int], word: int
) -> None:
    """What was written down and did not go out any more is one chunk."""
    stream = server.ask(f"/words/9000?note={word * WORD}", server.credential)
    received = sum(stream.chunks())
    assert received < word
    server.ask("/words/0", server.credential).whole()
    assert received < charged() <= received + RESERVE * 1000 // WORD // 10


def test_a_worker_that_is_told_to_end(server: Server, charged: Callable[[], int]) -> None:
    """Its streams are cut when its patience ends, and charged what was sent."""
    stream = server.ask("/words/9000?pause=0.02", server.credential)
    chunks = stream.chunks()
    received = [next(chunks) for _ in range(5)]
    os.kill(server.worker(), signal.SIGTERM)
    received += list(chunks)
    server.ask("/words/0", server.credential).whole()
    assert sum(received) < 9000
    assert sum(received) <= charged() <= sum(received) + max(received)


def test_a_stream_outlives_its_lease(server: Server, charged: Callable[[], int]) -> None:
    """While it goes on the lease is renewed, so nobody gives back what it holds."""
    pause = 4 * LEASE / 60
    assert sum(server.ask(f"/words/60?pause={pause}", server.credential).chunks()) == 60
    assert charged() == 60

"""Redis for tests and benchmarks: a server of its own, and a cluster of three masters."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.daemons import Process, await_that, free_port

_SLOTS = 16384
_MASTERS = 3
_NODE_TIMEOUT = 1000  # milliseconds until a cluster's others give a silent one up


class Redis:
    """A redis-server that keeps nothing on disk, and can be stopped and started."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", settings: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.host, self.port = folder, host, free_port()
        self.uri = f"redis://{host}:{self.port}"
        self._process: Process | None = None
        own = f'bind {host}\nport {self.port}\ndir {folder}\nsave ""\nprotected-mode no\n'
        (folder / "redis.conf").write_text(own + settings)

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        program = Path(shutil.which("redis-server") or "redis-server")
        self._process = Process(program, self.folder, str(self.folder / "redis.conf"))
        await_that("redis-server", self._answers)

    def call(self, *command: object) -> Any:
        """Send it one command, over a connection of its own."""
        import redis  # an extra

        with redis.Redis(host=self.host, port=self.port, socket_timeout=5) as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.signal(number)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)
            self._process.stop()

    def _answers(self) -> bool:
        import redis

        assert self._process is not None
        self._process.check()
        with suppress(redis.ConnectionError):
            return bool(self.call("PING"))
        return False


class RedisCluster:
    """Three masters, each with a third of the slots, and no replica."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self._bus = [free_port() for _ in range(_MASTERS)]
        self.nodes = [
            Redis(
                folder / str(number),
                host,
                f"cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout {_NODE_TIMEOUT}\n",
            )
            for number, bus in enumerate(self._bus)
        ]
        self.uri = "redis+cluster://" + ",".join(f"{each.host}:{each.port}" for each in self.nodes)

    def start(self) -> None:
        """Start the nodes, have them meet, and wait until all of them serve all slots."""
        bounds = [_SLOTS * number // _MASTERS for number in range(_MASTERS + 1)]
        for number, node in enumerate(self.nodes):
            node.start()
            node.call("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            node.call("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node, bus in zip(self.nodes[1:], self._bus[1:], strict=True):
            self.nodes[0].call("CLUSTER MEET", node.host, node.port, bus)
        self.await_whole()

    def await_whole(self) -> None:
        """Wait until each node knows the others, and that all slots are served."""
        await_that("a Redis Cluster", lambda: all(map(_is_whole, self.nodes)))

    def stop(self) -> None:
        """Kill its nodes."""
        for node in self.nodes:
            node.stop()


def _is_whole(node: Redis) -> bool:
    told = node.call("CLUSTER INFO")
    words = (
        told if isinstance(told, dict) else dict(line.split(":") for line in told.decode().split())
    )
    return words["cluster_state"] == "ok" and words["cluster_size"] == str(_MASTERS)


@contextmanager
def running(server: Redis | RedisCluster) -> Iterator[Any]:
    """Run a server or a cluster for the length of a block."""
    try:
        server.start()
        yield server
    finally:
        server.stop()

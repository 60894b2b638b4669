"""Hosts on one machine: network namespaces on a bridge, with addresses that exist only inside.

Who enters a hub or a host has its network until it leaves, and so has every thread and process
that it starts meanwhile.
"""

import ctypes
import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NETWORK = "10.77"
_CALLERS = f"{_NETWORK}.128.0/17"
_NUMBERS = itertools.count(1)
_NAME = re.compile(r"l402-(?P<maker>\d+)-\d+-(hub|\d+)")
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Host:
    """A network namespace, and its address on the bridge."""

    name: str
    address: str

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread use the host's network for the length of a block."""
        with Path("/proc/thread-self/ns/net").open() as before:
            with Path("/run/netns", self.name).open() as network:
                _set_network(network.fileno())
            try:
                yield
            finally:
                _set_network(before.fileno())


@dataclass(frozen=True)
class Network:
    """A hub, where the servers and the callers are, and the hosts that it connects."""

    hub: Host
    hosts: list[Host]


def callers() -> Iterator[str]:
    """Give addresses of the hub from which a caller may ask: thousands, then again."""
    numbers = range(100 * 250)
    return itertools.cycle(f"{_NETWORK}.{128 + n // 250}.{n % 250 + 1}" for n in numbers)


@contextmanager
def network(number: int) -> Iterator[Network]:
    """Make a hub and so many hosts for the length of a block (needs root)."""
    _sweep()
    prefix = f"l402-{os.getpid()}-{next(_NUMBERS)}"
    hub = Host(f"{prefix}-hub", f"{_NETWORK}.0.1")
    hosts = [Host(f"{prefix}-{each}", f"{_NETWORK}.1.{each}") for each in range(1, number + 1)]
    made: list[Host] = []
    try:
        for each in (hub, *hosts):
            _ip("netns", "add", each.name)
            made.append(each)
            _in(each, "link set lo up")
        _in(hub, "link add bridge type bridge")
        for count, host in enumerate(hosts):
            _in(hub, f"link add port{count} type veth peer name eth0 netns {host.name}")
            _in(hub, f"link set port{count} master bridge up")
            _connect(host, "eth0")
            # By way of the hub: thousands of neighbours would not fit into the kernel's table.
            _in(host, f"route add {_CALLERS} via {hub.address}")
        _connect(hub, "bridge")
        _in(hub, f"route add local {_CALLERS} dev lo")  # all of these are the hub's own
        yield Network(hub, hosts)
    finally:
        for each in made:
            _ip("netns", "delete", each.name)


def _sweep() -> None:
    """Delete the hubs and hosts of runs that were killed: a name says which process made it."""
    for found in Path("/run/netns").glob("l402-*"):
        name = _NAME.fullmatch(found.name)
        if name and not Path("/proc", name["maker"]).exists():
            # Unchecked: another run may have been faster.
            subprocess.run(["ip", "netns", "delete", found.name], capture_output=True, timeout=30)


def _connect(host: Host, interface: str) -> None:
    _in(host, f"address add {host.address}/23 dev {interface}")
    _in(host, f"link set {interface} up")


def _in(host: Host, command: str) -> None:
    _ip("-n", host.name, *command.split())


def _ip(*command: str) -> None:
    done = subprocess.run(["ip", *command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"ip {' '.join(command)}: {done.stderr}"


def _set_network(descriptor: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, _CLONE_NEWNET) != 0:  # os.setns is there from Python 3.12 on
        raise OSError(ctypes.get_errno(), "setns")

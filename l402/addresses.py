"""Callers' addresses: what is counted as one, and which are of this machine."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=1024)
def place(address: str | None) -> str:
    """Return what an address is counted as: itself for IPv4, its /64 for IPv6.

    No address at all, as on a unix socket, is one bucket for all: an empty key would not be
    counted.
    """
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))


def is_loopback(address: str | None) -> bool:
    """Tell whether an address is literally one of this machine's; none at all is not."""
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False

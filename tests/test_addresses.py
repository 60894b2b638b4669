"""Callers' addresses: which of them are one place, and which are this machine."""

import pytest

from l402.addresses import is_loopback, place


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("", "unknown"),
        (None, "unknown"),
        ("unix:", "unknown"),
        ("192.0.2.256", "unknown"),
        ("192.0.2.7, 192.0.2.8", "unknown"),
        ("1", "unknown"),
        ("'; DROP TABLE", "unknown"),
        ("\udcff", "unknown"),
    ],
)
def test_place(address, counted_as):
    """Addresses count as themselves in IPv4 and as their /64 in IPv6; all others share one."""
    assert place(address) == counted_as


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("192.0.2.7", False),
        ("localhost", False),
        ("", False),
        (None, False),
    ],
)
def test_is_loopback(address, local):
    """Only an address that is literally of this machine is; none at all, as on a socket, is not."""
    assert is_loopback(address) is local

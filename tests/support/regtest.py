"""The private Lightning network as fixtures.

Test modules take them in by ``pytest_plugins = ["support.regtest"]``.
"""

from collections.abc import Iterator

import pytest

from support.daemons import NotYet, await_that, free_port
from support.lnd import Lnd
from support.network import Books, Network, network

__all__ = ["Books", "Lnd", "Network", "NotYet", "await_that", "books", "free_port", "regtest"]


@pytest.fixture(scope="session")
def regtest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The network, for the whole session."""
    with network(tmp_path_factory.mktemp("regtest")) as running:
        yield running


@pytest.fixture
def books(regtest: Network) -> Books:
    """Books opened at the beginning of the test."""
    return Books(regtest)

"""The example with a real node, and what a client does at it by hand: ask, read, pay."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from l402.store.models import Payment
from support.example_server import ExampleServer
from support.http_servers import Certificate, Server
from support.lnd import Lnd
from support.network import Network

WITHIN = 60  # seconds
_NODE = re.compile(r"\w+ at https?://")
_CHALLENGE = re.compile(r'L402 macaroon="([^"]+)", invoice="([^"]+)"')


class Shop(ExampleServer):
    """The example under gunicorn, configured as in production."""

    def __init__(self, folder: Path, node_url: str, **settings: str) -> None:
        self.settings = {"APP_CONFIG": "production", "FLASK_L402_NODE": node_url, **settings}
        self.database = f"sqlite:///{folder / 'l402.db'}"
        self._log = folder / "gunicorn.log"
        super().__init__(folder)

    def _environment(self) -> dict[str, str]:
        return super()._environment() | self.settings

    def payments(self) -> list[Payment]:
        """Return the record's payments."""
        engine = create_engine(self.database)
        with Session(engine) as session:
            found = list(session.scalars(select(Payment)))
        engine.dispose()
        return found

    def said_of_node(self) -> list[str]:
        """Return what its log says of the node, without the node's name."""
        lines = self._log.read_text().splitlines()
        return [line.partition("): ")[2] for line in lines if _NODE.match(line)]


@contextmanager
def selling(folder: Path, node_url: str, **settings: str) -> Iterator[Shop]:
    """Run a `Shop` for the length of a block."""
    shop = Shop(folder, node_url, **settings)
    try:
        yield shop
    finally:
        shop.close()


@contextmanager
def selling_for(node: Lnd, folder: Path, **settings: str) -> Iterator[Shop]:
    """Run a `Shop` that may do with `node` what it needs, and no more."""
    macaroon = node.bake(folder, "invoices:read", "invoices:write")
    with selling(folder, node.node_url(macaroon), **settings) as shop:
        yield shop


@contextmanager
def selling_behind(
    proxy: Server, certificate: Certificate, node: Lnd, folder: Path, **settings: str
) -> Iterator[Shop]:
    """As `selling_for`, through a proxy that shows its own certificate."""
    macaroon = node.bake(folder, "invoices:read", "invoices:write")
    url = node.node_url(macaroon, tls_cert_path=certificate.cert).replace(node.url, proxy.url)
    with selling(folder, url, **settings) as shop:
        yield shop


def ask(
    shop: ExampleServer,
    path: str,
    credential: str | None = None,
    method: str = "GET",
    session: Any = requests,
    **options: Any,
) -> requests.Response:
    """Send a request, with a credential if there is one."""
    headers = {} if credential is None else {"Authorization": credential}
    response: requests.Response = session.request(
        method, shop.url + path, headers=headers, timeout=WITHIN, **options
    )
    return response


def challenge(response: requests.Response) -> tuple[str, str]:
    """Return the macaroon and the invoice of a 402."""
    assert response.status_code == 402, response.text
    found = _CHALLENGE.match(response.headers["WWW-Authenticate"])
    assert found, response.headers
    return found[1], found[2]


def buy(regtest: Network, response: requests.Response) -> str:
    """Pay a 402 through alice; return the credential."""
    macaroon, invoice = challenge(response)
    return f"L402 {macaroon}:{regtest.alice.pay(invoice).hex()}"

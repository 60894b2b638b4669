"""Aperture, Lightning Labs' reverse proxy for L402, in front of an app's free view."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from lightning.binaries import binaries
from support.daemons import NotYet, Process, await_that, free_port

if TYPE_CHECKING:
    from support.lnd import Lnd

_CHALLENGE = re.compile(r'macaroon="([^"]+)", invoice="([^"]+)"')
_ANSWER = 10  # seconds


@contextmanager
def aperture(folder: Path, node: "Lnd", app: str, sats: int) -> Iterator[str]:
    """Run it before the app at `app` (``host:port``), every path at `sats`; yield its address."""
    port = free_port()
    folder.mkdir()
    configuration = folder / "aperture.yaml"
    configuration.write_text(json.dumps(_configuration(port, folder, node, app, sats)))  # is YAML
    process = Process(binaries("aperture") / "aperture", folder, "", configfile=configuration)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        process.check()
        return requests.get(f"{address}/bare", timeout=_ANSWER).status_code == 402

    try:
        await_that("aperture", answers)
        yield address
    finally:
        process.stop()


def buy(url: str, payer: "Lnd") -> str:
    """Pay what is asked for at `url` and return the Authorization that opens it."""
    answer = requests.get(url, timeout=_ANSWER)
    found = _CHALLENGE.search(answer.headers.get("WWW-Authenticate", ""))
    if found is None:
        raise NotYet(f"{url} answered {answer.status_code} without a challenge")
    return f"L402 {found[1]}:{payer.pay(found[2]).hex()}"


def _configuration(port: int, folder: Path, node: "Lnd", app: str, sats: int) -> dict[str, object]:
    """Return its settings: as shipped, but quiet and without TLS, as the app is."""
    return {
        "listenaddr": f"127.0.0.1:{port}",
        "insecure": True,
        "debuglevel": "error",
        "basedir": str(folder),
        "dbbackend": "sqlite",
        "sqlite": {"databasefilename": str(folder / "aperture.db")},
        "authenticator": {
            "network": "regtest",
            "lndhost": node.grpc,
            "tlspath": str(node.tls_cert),
            "macdir": str(node.macaroon("invoice").parent),
        },
        "services": [
            {
                "name": "shop",
                "hostregexp": ".*",
                "pathregexp": "^/.*$",
                "address": app,
                "protocol": "http",
                "auth": "on",
                "price": sats,
            }
        ],
    }

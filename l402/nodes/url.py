"""Nodes named by URL, as databases are: ``lnd+https://127.0.0.1:8080?macaroon_path=…``.

A URL may hold secrets, so no error here repeats a value.
"""

import re
import time
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

from l402.errors import ConfigurationError
from l402.nodes import nwc_url
from l402.nodes.address import NodeUrl
from l402.nodes.base import Node

NETWORKS = ("mainnet", "testnet", "signet", "regtest")


def make_node(
    url: str,
    *,
    simulated_secret: bytes | None = None,
    clock: Callable[[], float] = time.time,
) -> Node:
    """Return the node that `url` names; nothing is connected yet, but its files are read.

    ``simulated:`` takes no parameters; its invoices are derived from `simulated_secret` and dated
    by `clock` (unix seconds). Other nodes have secrets and clocks of their own.

    :raises ConfigurationError: naming the fault and an example, never a secret
    """
    scheme = _scheme(url)
    if scheme == "simulated":
        return _simulated(url, simulated_secret, clock)
    maker, example = SCHEMES[scheme]
    return maker(url, example)


class _Scheme(NamedTuple):
    """How to make a node of a URL, which is whole and printable, and what such a URL looks like."""

    maker: Callable[[str, str], Node]
    example: str


def _at_address(maker: Callable[[NodeUrl], Node]) -> Callable[[str, str], Node]:
    """Have `maker` work on a `NodeUrl`, all of whose parts it must take."""

    def make(url: str, example: str) -> Node:
        address = NodeUrl(url, example)
        node = maker(address)
        address.finish()
        return node

    return make


@_at_address
def _lnd(url: NodeUrl) -> Node:
    from l402.nodes.lnd import LndNode, macaroon_in

    macaroon = macaroon_in(url.secret("macaroon"))
    if macaroon is None:
        raise url.fault("the macaroon is none of lnd's: neither its binary file nor hex digits")
    return LndNode(
        url.base,
        macaroon,
        network=url.choice("network", NETWORKS, "mainnet"),
        ca_file=url.certificate("tls_cert_path"),
        private=url.choice("private", ("true", "false"), "false") == "true",
    )


@_at_address
def _cln(url: NodeUrl) -> Node:
    from l402.nodes.cln import ClnNode

    return ClnNode(url.base, url.text_secret("rune"), **_common(url))


@_at_address
def _lnbits(url: NodeUrl) -> Node:
    from l402.nodes.lnbits import LnbitsNode

    return LnbitsNode(url.base, url.text_secret("key"), **_common(url))


@_at_address
def _phoenixd(url: NodeUrl) -> Node:
    from l402.nodes.phoenixd import PhoenixdNode

    return PhoenixdNode(url.base, url.password(), **_common(url))


@_at_address
def _eclair(url: NodeUrl) -> Node:
    from l402.nodes.eclair import EclairNode

    return EclairNode(url.base, url.password(), **_common(url))


def _common(url: NodeUrl) -> dict[str, Any]:
    return {
        "network": url.choice("network", NETWORKS, "mainnet"),
        "ca_file": url.certificate("ca_path"),
    }


_CLN = _Scheme(_cln, "cln+https://127.0.0.1:3010?rune_path=/etc/l402/rune&ca_path=/etc/l402/ca.pem")
_LNBITS = _Scheme(_lnbits, "lnbits+https://lnbits.example?key_path=/etc/l402/invoice-key")
_PHOENIXD = _Scheme(_phoenixd, "phoenixd+http://127.0.0.1:9740?password_path=/etc/l402/phoenixd")
_ECLAIR = _Scheme(_eclair, "eclair+http://127.0.0.1:8080?password_path=/etc/l402/eclair")

#: one row for each scheme but that of the simulated node
SCHEMES: dict[str, _Scheme] = {
    "lnd+https": _Scheme(
        _lnd,
        "lnd+https://127.0.0.1:8080?macaroon_path=/etc/l402/invoices.macaroon"
        "&tls_cert_path=/etc/l402/tls.cert&network=regtest",
    ),
    "cln+https": _CLN,
    "cln+http": _CLN,
    "lnbits+https": _LNBITS,
    "lnbits+http": _LNBITS,
    "phoenixd+https": _PHOENIXD,
    "phoenixd+http": _PHOENIXD,
    "eclair+https": _ECLAIR,
    "eclair+http": _ECLAIR,
    nwc_url.SCHEME: _Scheme(lambda url, _: nwc_url.nwc_node(url), nwc_url.EXAMPLE),
}


def _scheme(url: str) -> str:
    known = [*SCHEMES, "simulated"]
    examples = f"known are {', '.join(known)}; example: {SCHEMES['lnd+https'].example}"
    scheme, colon, _ = url.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,31}", scheme):
        raise ConfigurationError(f"node URL: it begins with no scheme; {examples}")
    if not url.isprintable() or " " in url:
        raise ConfigurationError(f"node URL: it holds a space or an unprintable one; {examples}")
    if (scheme := scheme.lower()) not in known:
        raise ConfigurationError(f"node URL: {_unknown(scheme, known)}; {examples}")
    return scheme


def _unknown(scheme: str, known: list[str]) -> str:
    if f"{scheme}s" in known:
        return f"{scheme} would send the secret unencrypted, write {scheme}s"
    nearest = get_close_matches(scheme, known, 1, cutoff=0.4)
    return f"unknown scheme {scheme!r}" + (f", did you mean {nearest[0]}?" if nearest else "")


def _simulated(url: str, secret: bytes | None, clock: Callable[[], float]) -> Node:
    from l402.nodes.simulated import SimulatedNode

    if url.lower() != "simulated:":
        raise ConfigurationError("node URL: nothing may follow the colon; example: simulated:")
    if secret is None:
        raise ConfigurationError("node URL: simulated: needs the secret that derives its invoices")
    return SimulatedNode(secret, clock)

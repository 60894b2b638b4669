"""Nodes named by URL, as databases are: ``lnd+https://127.0.0.1:8080?macaroon_path=…``.

A URL may hold secrets, so no error here repeats a value; a parameter's name at most, and the path
of a file that cannot be read.
"""

import re
import time
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from l402.errors import ConfigurationError
from l402.nodes.base import Node
from l402.nodes.nwc_url import nwc_node

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
    if scheme == "nostr+walletconnect":
        return nwc_node(url)
    maker, example = SCHEMES[scheme]
    address = NodeUrl(url, example)
    node = maker(address)
    address.finish()
    return node


class NodeUrl:
    """A node's URL in parts; whatever no adapter asked for is an error in the end."""

    def __init__(self, url: str, example: str) -> None:
        self._example = example
        try:
            parts = urlsplit(url)
            self.base = self._base(parts)
            self._unread = self._parameters(parts.query)
        except ValueError:
            raise self.fault("its host, its port or an escape in it cannot be read") from None
        self._known: list[str] = []

    def fault(self, text: str) -> ConfigurationError:
        """Return the error that says `text`, with an example of how to write the URL."""
        return ConfigurationError(f"node URL: {text}; example: {self._example}")

    def take(self, name: str) -> str | None:
        """Return the value of parameter `name`, unescaped, or None."""
        self._known.append(name)
        return self._unread.pop(name, None)

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """Return the value of parameter `name`, one of `choices`."""
        value = self.take(name)
        if value is None:
            return default
        if value not in choices:
            raise self.fault(f"{name} is none of {', '.join(choices)}")
        return value

    def secret(self, name: str) -> bytes:
        """Return the secret given as ``name=…`` or as the content of the file ``name_path=…``."""
        inline, path = self.take(name), self.take(f"{name}_path")
        if inline is not None and path is not None:
            raise self.fault(f"{name} and {name}_path exclude each other, keep one")
        if path is not None:
            return self._read(f"{name}_path", path)
        if inline is None:
            raise self.fault(f"{name}_path is missing (or {name}, with the secret itself)")
        return inline.encode()

    def certificate(self, name: str) -> Path | None:
        """Return the path of a PEM certificate that exists now; it may be replaced later."""
        path = self.take(name)
        if path is None:
            return None
        if b"-----BEGIN CERTIFICATE-----" not in self._read(name, path):
            raise self.fault(f"the file of {name} holds no certificate in PEM")
        return Path(path).expanduser().absolute()

    def finish(self) -> None:
        """Refuse what is left over."""
        for name in self._unread:
            nearest = get_close_matches(name, self._known, 1) or self._known
            raise self.fault(f"unknown parameter {name!r}, did you mean {' or '.join(nearest)}?")

    def _base(self, parts: SplitResult) -> str:
        if not parts.hostname:
            raise self.fault("it names no host")
        if "@" in parts.netloc or parts.fragment:
            raise self.fault("it takes neither a user nor a password nor a '#'")
        if parts.port == 0 or parts.netloc.endswith(":"):
            raise self.fault("its port is none")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme.rpartition('+')[2]}://{host}{port}{parts.path.rstrip('/')}"

    def _parameters(self, query: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for item in query.split("&") if query else ():
            name, _, value = item.partition("=")
            if not value or not re.fullmatch("[a-z_]{1,24}", name):
                raise self.fault("a parameter is not of the form name=value")
            if name in found:
                raise self.fault(f"parameter {name} stands there twice")
            found[name] = unquote(value, errors="strict")  # a '+' stays one, unlike in forms
        return found

    def _read(self, name: str, path: str) -> bytes:
        # A secret put where its path belongs has no slash: such a value is not repeated.
        shown = f" {path}" if "/" in path else ""
        try:
            content = Path(path).expanduser().read_bytes()
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise self.fault(f"cannot read the file{shown} of {name} ({reason})") from None
        if not content.strip():
            raise self.fault(f"the file{shown} of {name} is empty")
        return content


class _Scheme(NamedTuple):
    maker: Callable[[NodeUrl], Node]
    example: str


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


#: one row for each kind of node that has an address
SCHEMES: dict[str, _Scheme] = {
    "lnd+https": _Scheme(
        _lnd,
        "lnd+https://127.0.0.1:8080?macaroon_path=/etc/l402/invoices.macaroon"
        "&tls_cert_path=/etc/l402/tls.cert&network=regtest",
    ),
}


def _scheme(url: str) -> str:
    known = [*SCHEMES, "nostr+walletconnect", "simulated"]
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

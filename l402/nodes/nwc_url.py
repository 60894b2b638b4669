"""A wallet's URI, as NIP-47 has it: ``nostr+walletconnect://WALLET?relay=wss://…&secret=…``.

It is somebody else's form and one secret as a whole, so it is read apart from other nodes' URLs.
No error here repeats a value; a parameter's name at most, and the path of a file.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote, urlsplit

from l402.errors import ConfigurationError, path_shown
from l402.nodes.base import Node
from l402.protocol import bolt11

SCHEME = "nostr+walletconnect"
EXAMPLE = f"{SCHEME}://?secret_path=/etc/l402/wallet.nwc"
_OURS = ("network", "secret_path")
_NETWORKS = tuple(bolt11.NETWORKS.values())


def nwc_node(url: str) -> Node:
    """Return the wallet that `url` names, whole or, but for ``network``, in ``secret_path``'s file.

    That file holds the URI as the wallet shows it, or nothing but the value of ``secret``.

    :raises ConfigurationError: naming the fault, never a value; or the extra is not installed
    """
    wallet, given = _parts(url)
    if paths := given.pop("secret_path", []):
        wallet, given = _with_file(wallet, given, _single("secret_path", paths))
    relays = tuple(_relay(text) for text in given.get("relay", ()))
    if not relays:
        raise _fault("it names no relay")
    network = _single("network", given.get("network", ["mainnet"]))
    if network not in _NETWORKS:
        raise _fault(f"network is none of {', '.join(_NETWORKS)}")
    secret = _single("secret", given.get("secret", [])).strip().lower()
    return _node(wallet.lower(), relays, secret, network)


def _node(wallet: str, relays: tuple[str, ...], secret: str, network: str) -> Node:
    try:
        from l402.nodes.nwc import NwcNode
    except ModuleNotFoundError as error:
        if error.name not in ("nostr_sdk", "websockets"):
            raise
        raise ConfigurationError(
            f"node URL: {SCHEME} needs an extra: pip install 'Flask-L402[nwc]'"
        ) from None
    if not re.fullmatch("[0-9a-f]{64}", wallet) or not re.fullmatch("[0-9a-f]{64}", secret):
        raise _fault("the wallet's key and the secret are 64 hex digits each")
    try:
        return NwcNode(wallet, relays, secret, network=network)
    except ValueError:
        raise _fault("the wallet's key or the secret is none of Nostr's") from None


def _parts(url: str) -> tuple[str, dict[str, list[str]]]:
    """Return the wallet's key and the parameters; wallets may add some that we do not know."""
    read = re.fullmatch(rf"{re.escape(SCHEME)}:(?://)?([^/?#]*)/?(?:\?([^#]*))?", url, re.I)
    if not read:
        raise _fault("it is not of the form that wallets show")
    given: dict[str, list[str]] = {}
    for item in read[2].split("&") if read[2] else ():
        name, _, value = item.partition("=")
        if name not in _OURS and (meant := get_close_matches(name, _OURS, 1, cutoff=0.75)):
            raise _fault(f"unknown parameter {name!r}, did you mean {meant[0]}?")
        try:
            given.setdefault(name, []).append(unquote(value, errors="strict"))
        except UnicodeDecodeError:
            raise _fault("an escape in it cannot be read") from None
    return read[1], given


def _with_file(
    wallet: str, given: dict[str, list[str]], path: str
) -> tuple[str, dict[str, list[str]]]:
    if "secret" in given:
        raise _fault("secret and secret_path exclude each other, keep one")
    content = _file(path)
    if not content.lower().startswith(f"{SCHEME}:"):
        return wallet, {**given, "secret": [content]}
    if wallet or set(given) - {"network"}:
        raise _fault("beside the whole URI in the file of secret_path only network may stand")
    wallet, in_file = _parts(content)
    if "secret_path" in in_file:
        raise _fault("the file of secret_path names another file")
    return wallet, {**in_file, **given}


def _file(path: str) -> str:
    try:
        return Path(path).expanduser().read_text().strip()
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a path, or not text"
        raise _fault(f"cannot read the file{path_shown(path)} of secret_path ({why})") from None


def _single(name: str, values: list[str]) -> str:
    if len(values) != 1:
        raise _fault(f"{name} must stand there once, not {len(values)} times")
    return values[0]


def _relay(text: str) -> str:
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise _fault("relay is not of the form wss://host or wss://host:port/path")
    return text


def _fault(text: str) -> ConfigurationError:
    return ConfigurationError(f"node URL: {text}; example: {EXAMPLE}")

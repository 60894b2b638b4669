"""A node's URL in parts, as ``kind+https://host:port/path?name=value`` has them.

A URL may hold secrets, so no error here repeats a value; a parameter's name at most, and the path
of a file that cannot be read.
"""

import re
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from l402.errors import ConfigurationError, path_shown


class NodeUrl:
    """A node's URL in parts; whatever no adapter asked for is an error in the end."""

    def __init__(self, url: str, example: str) -> None:
        self._example = example
        try:
            parts = urlsplit(url)
            self.base = self._base(parts)
            self._user = parts.username
            self._password = _unescaped(parts.password or "") if "@" in parts.netloc else None
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

    def text_secret(self, name: str) -> str:
        """As `secret`, for one that is a line of printable ASCII and so can stand in a header."""
        return self._word(name, self.secret(name).strip().decode("ascii", "replace"))

    def password(self) -> str:
        """Return the password of ``http://:password@host``, or else the secret ``password``."""
        if self._password is None:
            return self.text_secret("password")
        if self._user or self.take("password") or self.take("password_path"):
            raise self.fault("before its host stands a password alone, and then nowhere else")
        written, self._password = self._password, None
        return self._word("password", written)

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
        if self._password is not None:
            raise self.fault("it takes neither a user nor a password")
        for name in self._unread:
            nearest = get_close_matches(name, self._known, 1) or self._known
            raise self.fault(f"unknown parameter {name!r}, did you mean {' or '.join(nearest)}?")

    def _base(self, parts: SplitResult) -> str:
        if not parts.hostname:
            raise self.fault("it names no host")
        if parts.fragment:
            raise self.fault("it takes no '#'; within a value write %23")
        if parts.port == 0 or parts.netloc.endswith(":"):
            raise self.fault("its port is none")
        scheme = parts.scheme.rpartition("+")[2]
        if scheme == "http" and not _is_loopback(parts.hostname):
            raise self.fault(
                "http to another machine would send the secret unencrypted; write https, or lead"
                " a tunnel to 127.0.0.1"
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = f":{parts.port}" if parts.port else ""
        return f"{scheme}://{host}{port}{parts.path.rstrip('/')}"

    def _parameters(self, query: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for item in query.split("&") if query else ():
            name, _, value = item.partition("=")
            if not value or not re.fullmatch("[a-z_]{1,24}", name):
                raise self.fault("a parameter is not of the form name=value")
            if name in found:
                raise self.fault(f"parameter {name} stands there twice")
            found[name] = _unescaped(value)  # a '+' stays one, unlike in forms
        return found

    def _word(self, name: str, text: str) -> str:
        if not re.fullmatch("[!-~]{1,4096}", text):
            raise self.fault(f"the {name} is no single word of printable ASCII")
        return text

    def _read(self, name: str, path: str) -> bytes:
        shown = path_shown(path)
        try:
            content = Path(path).expanduser().read_bytes()
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise self.fault(f"cannot read the file{shown} of {name} ({reason})") from None
        if not content.strip():
            raise self.fault(f"the file{shown} of {name} is empty")
        return content


def _unescaped(text: str) -> str:
    return unquote(text, errors="strict")


def _is_loopback(host: str) -> bool:
    """Tell whether `host` is this machine whatever a name server says (RFC 6761, section 6.3)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

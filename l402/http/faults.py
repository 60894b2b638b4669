"""What went wrong on the way to a server, in words for the operator."""

import errno
import http.client
import ssl
from collections.abc import Iterator

import urllib3

#: OpenSSL's verification results (x509_vfy.h) that an operator can mend
_CERTIFICATE_FAULTS = {
    9: "its certificate is not valid yet: compare the clocks",
    10: "its certificate has expired: renew it",
    62: "its certificate is not for this host name: use a name that it lists",
    64: "its certificate is not for this IP address: use an address that it lists",
}
UNTRUSTED = "its certificate is not trusted"
NO_CA_FILE = "the file of its certificate is missing"
FORBIDDEN = "permission denied"

_BROKEN = "broke the connection before it answered"
_BROKEN_ERRNO = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ECONNABORTED)

#: The first match counts.
_MEANINGS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "no answer in time"),
    (urllib3.exceptions.TimeoutError, "no answer in time"),
    (http.client.RemoteDisconnected, _BROKEN),
    (ssl.SSLEOFError, _BROKEN),
    (ssl.SSLZeroReturnError, _BROKEN),
    (http.client.IncompleteRead, "broke off in the middle of its answer"),
    (http.client.HTTPException, "answered with something other than HTTP"),
    (FileNotFoundError, NO_CA_FILE),
    (PermissionError, FORBIDDEN),
)


def reason(error: Exception) -> str:
    """Say in words what `error` means, by the first of its causes that tells; never its text."""
    return next(filter(None, map(_meaning, _causes(error))), f"failed with {type(error).__name__}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error` and what it came from, the innermost first."""
    if error is not None:
        hidden = error.__suppress_context__
        yield from _causes(error.__cause__ or (None if hidden else error.__context__))
        yield error


def _meaning(error: BaseException) -> str | None:
    for kind, meaning in _MEANINGS:
        if isinstance(error, kind):
            return meaning
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_FAULTS.get(error.verify_code, UNTRUSTED)
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({error.reason or type(error).__name__})"
    if isinstance(error, OSError):
        broken = error.errno in _BROKEN_ERRNO
        return _BROKEN if broken else f"no connection ({error.strerror or type(error).__name__})"
    return None

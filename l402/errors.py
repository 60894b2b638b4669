"""Every exception that this package raises, in one family.

::

    L402Error
    ├── ConfigurationError      the host's mistake: a key, an argument, the order of decorators
    ├── PriceError              a price callable failed, or a price is beyond the configured highest
    ├── CreditExhausted         a metered call costs more than is left: answered with 402
    ├── RateError               no exchange rate that can be relied on: answered with 503
    ├── ProtocolError           bytes from outside that do not follow the protocol
    │   ├── Malformed           paying could not mend it: answered with 400
    │   ├── Invalid             no paid token of ours: answered with a challenge
    │   └── InvalidInvoice      not a BOLT11 payment request that we can sell with
    ├── NodeError               the Lightning node gave no usable answer: answered with 503
    │   ├── NodeBusy            all slots for calls are taken, or the breaker is open
    │   ├── NodeUnreachable     no connection, a time-out, or a broken answer
    │   ├── NodeRefused         it answered, and said no (credentials, start-up, validation)
    │   └── NodeMismatch        it issued an invoice other than the one asked for
    └── StoreError              the database gave no usable answer: answered with 503
        ├── StoreUnavailable    no connection, a time-out, a full disk
        └── SchemaOutdated      it answers, but its tables are not ours of this version

No message of these holds a secret: no key, preimage, token, credential of a node or URL with a
password.
"""


class L402Error(Exception):
    """Root of all errors of this package."""


class ConfigurationError(L402Error):
    """The host application is set up wrongly; the message says what to write instead."""


class PriceError(L402Error):
    """A price callable failed, or gave no price that can be sold at: the caller gets a 500."""


class CreditExhausted(L402Error):
    """A metered call would cost more than the credit that it draws on has left.

    Let it pass: before the answer has begun it becomes a 402, and afterwards it ends the stream.
    ``reason`` is the 402's, ``msat`` what the call would have cost so far.
    """

    def __init__(self, reason: str, msat: int) -> None:
        super().__init__(f"the credit does not pay for {msat} msat: {reason}")
        self.reason, self.msat = reason, msat


class RateError(L402Error):
    """There is no exchange rate that a price could be reckoned at: answered with 503.

    ``retry_after`` is the number of seconds to name to the caller.
    """

    def __init__(self, message: str, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProtocolError(L402Error):
    """Bytes from outside do not follow the protocol."""


class Malformed(ProtocolError):
    """A credential that paying again could not mend: answered with 400."""


class Invalid(ProtocolError):
    """No token that we signed, or not paid with this preimage: answered with a fresh challenge.

    One error for all of it: who does not hold the right preimage is told no more than that.
    """


class InvalidInvoice(ProtocolError):
    """Not a BOLT11 payment request, or none that can be sold with."""


class NodeError(L402Error):
    """The Lightning node gave no usable answer.

    ``retry_after`` is the number of seconds to name to the caller.
    """

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NodeBusy(NodeError):
    """Every slot for node calls is taken, or the node is known to be dead for the moment."""


class NodeUnreachable(NodeError):
    """No connection, a time-out, or an answer that is not the node's."""


class NodeRefused(NodeError):
    """The node answered and said no; the message tells the operator why."""


class NodeMismatch(NodeError):
    """The node issued an invoice other than the one asked for; the message names the difference."""


class StoreError(L402Error):
    """The database gave no usable answer."""


class StoreUnavailable(StoreError):
    """No connection, a time-out, or a full disk; what was being written is unknown or undone."""


class SchemaOutdated(StoreError):
    """The database's tables are not of this version; the message names the command to run."""


def path_shown(path: str) -> str:
    """Return what an error may repeat of a path to a secret, after a space, or nothing.

    A secret put where its path belongs is not repeated; it may hold a slash, as in Base64.
    """
    return f" {path}" if path.startswith(("/", "~", ".")) else ""

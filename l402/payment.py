"""What this request paid, for the view: ``current_payment``."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from flask import Request, request
from werkzeug.local import LocalProxy

from l402.metering import Tally
from l402.protocol.token import Token

#: Where a request's environment holds its payment: None while it is looked for.
PAYMENT = "l402.payment"


@dataclass(slots=True)
class CurrentPayment:
    """The right that opened this request; falsy on a view that was free this time.

    `service` is what it was sold for. `paid` is what was paid for a pass, or what this request
    costs a credit, in msat: on a metered view what it was charged so far. `balance` is what is left
    of the credit besides, and besides what is set aside; None for a pass. `ends` is the unix second
    from which it opens nothing. `use_id` names what was reserved.
    """

    token: Token | None
    service: str | None = None
    paid: int = 0
    ends: int | None = None
    balance: int | None = None
    use_id: bytes | None = None
    meter: Tally | None = None

    def __bool__(self) -> bool:
        return self.token is not None

    @property
    def token_id(self) -> str | None:
        """The token's id, 64 hex digits: the account, and the key of the credential table."""
        return self.token.token_id.hex() if self.token else None

    @property
    def ends_at(self) -> datetime | None:
        """The moment from which the right no longer opens anything, aware UTC."""
        return None if self.ends is None else datetime.fromtimestamp(self.ends, UTC)

    def charge(self, msat: int) -> None:
        """Charge this request `msat` more, on a view under ``@paywall(credit=…, reserve=…)``.

        It is taken where the view returns, or while its answer streams. Within a generator wrap
        that in ``stream_with_context``, or bind ``charge = current_payment.charge`` in the view.
        Safe to call from several threads; on a view that is free this time it charges nobody.

        :raises ValueError: `msat` is no int of at least 0
        :raises CreditExhausted: the credit does not pay for it; let it pass, and the caller is
            answered 402, or the stream ends
        :raises RuntimeError: the view is not metered, or its answer is complete
        """
        if self.meter is None:
            raise RuntimeError(
                "charge() is for metered views: write @paywall(credit=500, reserve=50), without a"
                " price, above this one"
            )
        self.meter.charge(msat)
        self.paid, self.balance = self.meter.charged, self.meter.balance


def claim(asked: Request) -> None:
    """Note that a paywall sells this request, before its price is asked for.

    :raises RuntimeError: another one does: a view calls a view, or a price or ``validate`` does
    """
    if PAYMENT in asked.environ:
        raise RuntimeError(
            "a view under @paywall calls another one: one request is sold once; let both call a"
            " plain function"
        )
    asked.environ[PAYMENT] = None


def _current() -> CurrentPayment:
    try:  # a stream may come here for every word: nothing is asked twice
        payment = request.environ[PAYMENT]
    except (RuntimeError, KeyError):
        payment = None
    if payment is None:
        raise RuntimeError(
            "current_payment is only there while a view under @paywall runs; in a streaming"
            " response, wrap the generator in flask.stream_with_context, or bind what it needs"
            " before, such as charge = current_payment.charge"
        )
    return cast(CurrentPayment, payment)


#: The payment that opened the current request; a `CurrentPayment`.
current_payment = cast(CurrentPayment, LocalProxy(_current))

"""Metered answers that stream: no chunk goes out before what was charged for it is written down.

Chunks that come faster than they can be written down one by one go out together, so what is
written down is never more than one chunk ahead of what was sent, whoever hangs up or is killed.
"""

import json
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator

from flask import Request, Response

from l402.denials import Denial, Reason
from l402.errors import CreditExhausted, L402Error, StoreError
from l402.gate import Gate
from l402.metering import Meter, Tally
from l402.payment import CurrentPayment
from l402.store.replies import Answer
from l402.terms import Terms

_log = logging.getLogger("l402.streams")

#: Seconds between two writes of one stream, on average over the last `_SLACK` seconds.
_EVERY, _SLACK = 0.02, 1.0
#: A chunk is charged no more than this part of what is set aside at a time, and not much longer.
_SHARES, _LONGEST = 10, 64 * 1024  # bytes


def settle(
    gate: Gate,
    terms: Terms,
    asked: Request,
    payment: CurrentPayment,
    response: Response,
    charged: bool,
    answer: Answer | None,
) -> None:
    """Settle what a view costs: now that it has returned, or while its metered answer goes out.

    :raises StoreError: what is charged could not be taken
    """
    meter, address = payment.meter, asked.remote_addr
    if not isinstance(meter, Meter):
        gate.accounts.settle(payment, charged, answer)
        return
    goes_on = _goes_on(response)
    if not charged or asked.method == "HEAD" or not goes_on:
        meter.close()
        payment.paid = meter.charged
        gate.accounts.settle(payment, charged, answer, meter.charged)
        if goes_on:  # what it charges while it goes out, nobody pays
            payment.meter = Tally()
            response.call_on_close(payment.meter.close)
        return
    _note(meter)

    def end(msat: int, complete: bool) -> None:
        payment.paid = msat
        gate.accounts.settle(payment, complete or msat > 0, answer, msat)

    def farewell(error: CreditExhausted) -> bytes:
        again = CreditExhausted(error.reason, meter.reserve)  # the next request begins anew
        return _last_event(response, lambda: _top_up(gate, terms, payment, again, address))

    response.response = Body(response.response, meter, end, farewell)


def _note(meter: Meter) -> None:
    """Write down what the view charged, before its stream goes out.

    :raises StoreError: it could not be, and what is set aside will be given back
    """
    try:
        if meter.charged:
            meter.note(meter.charged)
    except StoreError:
        meter.abandon()
        raise


def _goes_on(response: Response) -> bool:
    """Tell whether a body is made while it goes out; a file's is not."""
    return response.is_streamed and not response.direct_passthrough


class Body:
    """The body of a metered answer.

    `settle` is called once, with what was charged in msat and whether the stream came to its end;
    `farewell` gives the last chunk of a stream that the credit does not pay for.
    """

    def __init__(
        self,
        chunks: Iterable[str | bytes],
        meter: Meter,
        settle: Callable[[int, bool], None],
        farewell: Callable[[CreditExhausted], bytes],
    ) -> None:
        self._chunks, self._meter = chunks, meter
        self._settle, self._farewell = settle, farewell
        # The view's own charges are for the answer as such.
        self._sent = self._due = meter.charged
        self._held, self._share = bytearray(), meter.reserve // _SHARES
        self._next_write = float("-inf")
        self._settled = False
        self._paid = self._pay()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._paid)

    def close(self) -> None:
        """Charge what was sent, and what the host charges as its generator is closed."""
        unsent = self._meter.charged - self._sent
        try:
            self._paid.close()
            if hasattr(self._chunks, "close"):
                self._chunks.close()
        except CreditExhausted as error:
            _log.debug("charged too late: %s", error)
        finally:
            try:
                self._end(self._meter.charged - unsent, complete=False)
            except StoreError as error:
                _log.warning("a stream is settled when the store answers: %s", error)

    def __del__(self) -> None:
        if not self._settled:  # it was dropped without being closed
            self._meter.abandon()

    def _pay(self) -> Generator[bytes, None, None]:
        fault = None
        try:
            yield from self._blocks()
        except StoreError:
            raise
        except Exception as error:  # what was charged since the last chunk is for none that came
            fault = error
        else:
            self._due = self._meter.charged
        self._sent = self._due
        self._end(self._due, complete=fault is None or isinstance(fault, CreditExhausted))
        if self._held:
            yield bytes(self._held)
        if fault:
            yield from self._last(fault)

    def _blocks(self) -> Iterator[bytes]:
        """Yield chunks as they come, some of them together, each once it is written down."""
        held, meter = self._held, self._meter
        for chunk in self._chunks:
            held += chunk.encode() if isinstance(chunk, str) else chunk
            self._due = due = meter.charged
            if due == self._sent or self._goes_out(due, len(held)):
                yield bytes(held)
                held.clear()

    def _last(self, fault: Exception) -> Iterator[bytes]:
        if not isinstance(fault, CreditExhausted):
            raise fault
        if last := self._farewell(fault):
            yield last

    def _goes_out(self, due: int, size: int) -> bool:
        """Write down what is due, unless that is better done along with the next chunk."""
        now = time.monotonic()
        if now < self._next_write and due - self._sent < self._share and size < _LONGEST:
            return False
        self._next_write = max(self._next_write, now - _SLACK) + _EVERY
        self._meter.note(due)
        self._sent = due
        return True

    def _end(self, charged: int, *, complete: bool) -> None:
        if not self._settled:
            self._settled = True
            self._meter.close()
            self._settle(charged, complete)


def _last_event(response: Response, denial: Callable[[], Denial]) -> bytes:
    """Return the event that tells why server-sent events end; other streams just end."""
    if response.mimetype != "text/event-stream" or "Content-Encoding" in response.headers:
        return b""
    # Blank lines first: the stream may have ended within an event.
    return f"\n\nevent: payment-required\ndata: {json.dumps(denial().body)}\n\n".encode()


def _top_up(
    gate: Gate,
    terms: Terms,
    payment: CurrentPayment,
    error: CreditExhausted,
    address: str | None,
) -> Denial:
    """Return what the 402 would say, without an invoice where none can be had now."""
    try:
        denial = gate.exhausted(terms, payment, error, address)
    except L402Error as failed:
        _log.warning("a stream ends without an offer: %s", failed)
    else:
        if denial.challenge:
            return denial
    return Denial(Reason(error.reason), balance=payment.balance)

"""The issuer of challenges: a fresh invoice, and a token that is good once it is paid."""

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from flask import Flask

from l402 import signals
from l402.accounts import UNRECORDED
from l402.denials import Denial, Reason
from l402.errors import NodeError, PriceError, StoreError
from l402.nodes.desk import NodeDesk
from l402.protocol import token
from l402.protocol.challenge import Challenge
from l402.protocol.keys import KeyRing
from l402.protocol.token import Grant, Token
from l402.store import Store
from l402.sync import Sync
from l402.terms import SAT, Quote, Terms

_DESCRIPTION_BYTES = 600  # of BOLT11's 639; the rest is the handle's
#: Why a token does not suffice that is the key of a living account; any other gets a new account.
_ACCOUNT_LIVES = frozenset({
    Reason.WRONG_SERVICE, Reason.WRONG_KIND, Reason.PRICE_TOO_LOW, Reason.EXPIRED,
    Reason.EXHAUSTED,
})  # fmt: skip
#: A refusal, and the token that met it, if one was shown.
Refused = tuple[Denial, Token | None]


class Issuer:
    """Turns a refusal into an offer."""

    def __init__(
        self,
        *,
        sender: Flask,
        keys: KeyRing,
        desk: NodeDesk,
        store: Store,
        sync: Sync,
        invoice_expiry: int,
        max_sats: int,
        clock: Callable[[], float],
    ) -> None:
        self.sender, self.keys, self.desk = sender, keys, desk
        self.store, self.sync, self.clock = store, sync, clock
        self.invoice_expiry, self.max_sats = invoice_expiry, max_sats

    def offer(self, refused: Sequence[Refused], terms: Terms, quote: Quote) -> Denial:
        """Return a refusal with a challenge that would mend it, or why none can be had now.

        `refused` is at least one refusal, with the token that met it, and `quote` the price of the
        request. The sale is for the account of the first token that is the key of a living one,
        else for a new account.

        :raises PriceError: one payment would cost more than the highest that is configured
        """
        sats = -(-terms.total(quote.msat) // SAT)  # some nodes and clients know nothing smaller
        if sats > self.max_sats:
            raise PriceError(
                f"{terms.endpoint} asks {sats} sat, above L402_MAX_PRICE ({self.max_sats})"
            )
        try:
            self.sync.require_fresh()  # nobody pays for what cannot be booked
            ledger = self.store.ledger.id()
            denial, token_id, key_ends = self._account(refused, ledger)
            invoice = self.desk.create_invoice(
                sats * SAT, self._description(terms, token_id), self.invoice_expiry
            )
        except StoreError:
            return UNRECORDED
        except NodeError as error:
            return Denial(Reason.NODE_UNAVAILABLE, retry_after=error.retry_after)
        ends_at = invoice.expires_at + terms.valid_for
        grant = Grant(
            terms.service, terms.kind, invoice.msat, terms.network, int(self.clock()),
            invoice.expires_at, ends_at, max(ends_at, key_ends), terms.method, terms.endpoint,
            ledger, quote.msat if quote.constant else 0, quote.rate,
        )  # fmt: skip
        raw = token.mint(self.keys, invoice.payment_hash, token_id, grant)
        self.sync.count_challenge(terms.service, terms.endpoint, self.clock())
        signals.challenged.send(
            self.sender,
            reason=denial.reason.value,
            token_id=token_id.hex(),
            msat=invoice.msat,
            endpoint=terms.endpoint,
        )
        challenge = Challenge(raw, invoice.bolt11, invoice.payment_hash, invoice.msat, quote.msat)
        return denial._replace(challenge=challenge)

    def _account(self, refused: Sequence[Refused], ledger: str) -> tuple[Denial, bytes, int]:
        """Choose a refusal, with the token id to sell for and the latest end of its rights."""
        for denial, shown in refused:
            if shown and _opens_account(denial.reason, shown, ledger):
                now = datetime.fromtimestamp(self.clock(), UTC)
                end = self.store.payments.account_end(shown.token_id, now)
                return denial, shown.token_id, end or 0
        return refused[0][0], secrets.token_bytes(32), 0

    def _description(self, terms: Terms, token_id: bytes) -> str:
        text = terms.description or f"{terms.service}: {terms.method} {terms.endpoint}"
        text = text.encode()[:_DESCRIPTION_BYTES].decode(errors="ignore")
        return f"{text} {self.keys.handle(token_id)}"


def _opens_account(reason: Reason, shown: Token, ledger: str) -> bool:
    return (
        reason in _ACCOUNT_LIVES
        and shown.booked
        and not shown.limits  # whoever was given a part of an account buys for himself
        and shown.grant.ledger == ledger
    )

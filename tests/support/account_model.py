"""What an account holds and what it opens, over plain data: no database, signatures or HTTP.

It says how every request is answered, and what is left afterwards. Amounts in msat, times in unix
seconds.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

PASS, CREDIT = "pass", "credit"
HOUR, DAY = 3600, 86400
INVOICE_EXPIRY, CREDIT_VALID_FOR, ANSWER_KEPT_FOR = 600, 3 * DAY, DAY
WAY_BACK = 60


class Status(Enum):
    """How a payment stands in the book."""

    GRANTED = "granted"
    REVOKED = "revoked"
    PURGED = "purged"  # no longer there, and never to be booked again


class State(Enum):
    """What became of a use."""

    HELD = "held"
    TAKEN = "taken"
    GIVEN_BACK = "given back"


@dataclass(frozen=True)
class View:
    """A view on sale at what a request costs now; `fixed` says that no callable names the price.

    What a `metered` call costs its view says, and `msat` is what is set aside for it at a time.
    """

    endpoint: str
    msat: int
    service: str = "shop"
    uses: int = 0
    credit: int = 0
    valid_for: int = HOUR
    charge_on: frozenset[int] | None = None
    fixed: bool = True
    metered: bool = False

    @property
    def kind(self) -> str:
        return CREDIT if self.uses or self.credit else PASS

    @property
    def total(self) -> int:
        """What one payment costs, in whole sats."""
        msat = self.uses * self.msat or max(self.credit, self.msat)
        return -(-msat // 1000) * 1000

    @property
    def lasts(self) -> int:
        return CREDIT_VALID_FOR if self.kind == CREDIT else self.valid_for

    def at(self, msat: int | None) -> "View":
        """The view where this price is set at run time; one that is metered is free or is not."""
        if msat is None or (self.metered and msat):
            return self
        return replace(self, msat=msat, fixed=True)

    def charges(self, status: int) -> bool:
        return status < 400 if self.charge_on is None else status in self.charge_on


@dataclass(eq=False)
class Payment:
    """A paid token as it was signed; it is in the book once it has a status."""

    token_id: bytes
    payment_hash: bytes
    view: View
    issued_at: int
    valid_until: int
    status: Status | None = None

    @property
    def starts_at(self) -> int:
        return self.issued_at + INVOICE_EXPIRY

    @property
    def ends_at(self) -> int:
        return self.starts_at + self.view.lasts

    @property
    def price(self) -> int:
        """What the refused request cost, if that was a constant."""
        return self.view.msat if self.view.fixed else 0

    def cost(self, view: View, now: float) -> int:
        """What a request costs whoever shows this: what he was offered, or today's price."""
        if self.view.endpoint != view.endpoint:
            return view.msat
        returning = now < self.starts_at + WAY_BACK
        if self.price:
            return self.price if returning or view.kind == PASS else view.msat
        asked = self.view.total // (view.uses or 1)  # of one call
        return min(view.msat, asked) if returning and view.fixed else view.msat


@dataclass(frozen=True)
class Key:
    """A token in its holder's hand: what it was sold as, and the caveats that were appended."""

    payment: Payment
    caveats: tuple[str, ...] = ()

    @property
    def most(self) -> float:
        """What a metered call may cost."""
        named = (caveat.partition("=")[::2] for caveat in self.caveats)
        return min((int(value) for name, value in named if name == "paid_msat"), default=math.inf)

    @property
    def authentic(self) -> bool:
        return "preimage=wrong" not in self.caveats

    @property
    def limited(self) -> bool:
        return any(
            caveat.partition("=")[0] not in ("preimage", "colour") for caveat in self.caveats
        )

    def permits(self, view: View, now: float) -> bool:
        allowed: dict[str, Callable[[str], bool]] = {
            "endpoint": lambda value: value == view.endpoint,
            "kind": lambda value: value == view.kind,
            "services": lambda value: value == view.service,
            "paid_msat": lambda value: view.msat <= int(value),
            f"{self.payment.view.service}_valid_until": lambda value: now < int(value),
        }
        pairs = (caveat.partition("=")[::2] for caveat in self.caveats)
        return all(allowed.get(name, bool)(value) for name, value in pairs)


@dataclass(frozen=True)
class Request:
    """A request: the keys that it shows, in their order, and its Idempotency-Key.

    `path` tells it from others under the same Idempotency-Key; `served` is the status with which
    the view would answer it, and `charges` what it charges on the way if it is metered. Of an
    answer that streams, a charge a chunk, the client reads `reads` chunks, or None for all.
    """

    view: View
    path: str
    served: int
    keys: tuple[Key, ...] = ()
    idempotency_key: str | None = None
    charges: tuple[int, ...] = ()
    reads: int | None = None
    head: bool = False

    @property
    def streams(self) -> bool:
        return "stream" in self.path


@dataclass(eq=False)
class Use:
    """A call that draws on a balance; `lapsed` once its process was silent for too long."""

    token_id: bytes
    request: Request
    reserved_at: float
    state: State = State.HELD
    lapsed: bool = False
    more: int = 0  # that was set aside later
    spent: int = 0  # by what a metered call says
    hung_up: bool = False

    @property
    def msat(self) -> int:
        return self.request.view.msat + self.more

    @property
    def cost(self) -> int:
        return self.spent if self.request.view.metered else self.msat

    @property
    def account(self) -> tuple[bytes, str]:
        return self.token_id, self.request.view.service


@dataclass
class Balance:
    """Credit of one token id for one service; `free` may be spent until `ends_at`."""

    free: int = 0
    ends_at: int = 0


@dataclass(frozen=True)
class Verdict:
    """How a request is answered.

    `token_id` is the account for which a 402 sells, None for a new one; `left` the balance that
    is told. `use` is the one reserved, `earlier` the one whose answer is given again.
    """

    status: int
    reason: str | None = None
    token_id: bytes | None = None
    left: int | None = None
    use: Use | None = None
    earlier: Use | None = None


@dataclass
class Accounts:
    """All accounts, their book, and the clock."""

    now: float
    payments: list[Payment] = field(default_factory=list)
    balances: dict[tuple[bytes, str], Balance] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    kept: dict[tuple[bytes, str], Use] = field(default_factory=dict)  # by Idempotency-Key
    entries: list[tuple[bytes, str, str, int]] = field(default_factory=list)
    closed: list[tuple[bytes, str, str, int]] = field(default_factory=list)  # purged entries
    revoked_tokens: set[bytes] = field(default_factory=set)
    revoked_payments: set[bytes] = field(default_factory=set)
    revoked_before: dict[str, float] = field(default_factory=dict)

    def answer(self, request: Request) -> Verdict:
        """Judge a request and reserve what it costs; whoever admits it calls `resolve`."""
        if not request.view.msat:
            return Verdict(request.served)
        shown = [key for key in request.keys if key.authentic]
        living = [key for key in shown if self.now < key.payment.valid_until]
        if not living:
            expired = "expired" if shown else "invalid"
            return Verdict(402, expired if request.keys else "no_credential")
        refusals = []
        for key in living:
            verdict = self._open(key, request)
            if verdict.reason is None or verdict.status != 402:
                return verdict
            refusals.append(verdict)
        return next((refusal for refusal in refusals if refusal.token_id), refusals[0])

    def _open(self, key: Key, request: Request) -> Verdict:
        own = key.payment
        view = replace(request.view, msat=own.cost(request.view, self.now))
        request, lack = replace(request, view=view), self._lack(own, view)
        if not key.permits(view, self.now):
            return Verdict(402, lack or "narrowed")
        self._book(own)
        if own.status is Status.REVOKED or self.revoked(own):
            return Verdict(402, "revoked")
        account = None if key.limited else own.token_id
        if view.kind == CREDIT:
            verdict = self._draw(own.token_id, request, lack)
            if verdict.use and view.metered:
                verdict = self._meter(verdict, key.most)
            lives = verdict.status == 402 and verdict.reason != "revoked"
            return replace(verdict, token_id=account) if lives else verdict
        if any(self._lack(held, view) is None for held in self._held(own.token_id, PASS)):
            return Verdict(request.served)
        return Verdict(402, lack, account)

    def _lack(self, right: Payment, view: View) -> str | None:
        """Why what was bought does not cover a view, if the book says nothing else."""
        if right.view.service != view.service:
            return "wrong_service"
        if right.view.kind != view.kind:
            return "wrong_kind"
        if self.now >= min(right.ends_at, right.starts_at + view.lasts):
            return "expired"
        sold_here = right.price and right.view.endpoint == view.endpoint
        if view.kind == PASS and right.view.total < view.msat and not sold_here:
            return "price_too_low"
        return None

    def _book(self, payment: Payment) -> None:
        """Write a payment down when it is first presented, and add what it brings."""
        if payment.status:
            return
        payment.status = Status.REVOKED if self.revoked(payment) else Status.GRANTED
        if payment.status is Status.GRANTED and payment.view.kind == CREDIT:
            account = payment.token_id, payment.view.service
            balance = self.balances.setdefault(account, Balance())
            if balance.free and balance.ends_at <= self.now:
                self.expire(account)
            self._enter(account, "purchase", payment.view.total)
            balance.free += payment.view.total
            balance.ends_at = max(balance.ends_at, payment.ends_at)

    def _draw(self, token_id: bytes, request: Request, lack: str | None) -> Verdict:
        """Find the answer under the request's key, or reserve its price, in two tries."""
        view, name = request.view, (token_id, request.idempotency_key or "")
        balance = self.balances.get((token_id, view.service))
        if balance and not self._brought((token_id, view.service)):
            return Verdict(402, "revoked")
        known = self.kept.get(name)
        if known and self.now < known.reserved_at + ANSWER_KEPT_FOR:
            verdict = self._known(known, request, balance)
        elif balance and self.now < balance.ends_at and balance.free >= view.msat:
            balance.free -= view.msat
            use = Use(token_id, request, self.now)
            self.uses.append(use)
            if request.idempotency_key:
                self.kept[name] = use
            return Verdict(request.served, left=balance.free, use=use)
        elif balance:
            ended = balance.ends_at <= self.now
            verdict = Verdict(402, "expired" if ended else "exhausted", left=balance.free)
        else:
            verdict = Verdict(402, lack, left=0)
        stuck = verdict.reason == "in_progress" or verdict.status == 402
        return self._draw(token_id, request, lack) if stuck and self.recover(token_id) else verdict

    def _meter(self, verdict: Verdict, most: float) -> Verdict:
        """Charge what a call charges while it is there: all of it, or none if it is no stream."""
        use, left = verdict.use, verdict.left
        assert use
        request, balance = use.request, self.balances[use.account]
        # The client goes, unless it reads up to the end, which comes after the last chunk.
        use.hung_up = request.reads is not None and request.reads <= len(request.charges)
        for msat in request.charges[: request.reads]:
            due = use.spent + msat
            if not self._cover(use, due, most):
                if request.streams:
                    use.hung_up = False
                    break
                self.resolve(use, charged=False)
                reason = "narrowed" if due > most else "exhausted"
                return Verdict(402, reason, use.token_id, balance.free, use)
            use.spent = due
        return replace(verdict, left=left if request.streams else balance.free)

    def _cover(self, use: Use, msat: int, most: float) -> bool:
        """Have as much set aside: another reserve, or as much as it takes, or what is left."""
        balance, lack = self.balances[use.account], msat - use.msat
        if lack <= 0 or msat > most:
            return msat <= most
        if balance.free < lack and not (self.recover(use.token_id) and balance.free >= lack):
            return False
        more = min(balance.free, max(lack, use.request.view.msat))
        balance.free -= more
        use.more += more
        return True

    def _known(self, known: Use, request: Request, balance: Balance | None) -> Verdict:
        if (known.request.path, known.request.head) != (request.path, request.head):
            return Verdict(422, "other_request")
        if known.state is State.HELD:
            return Verdict(409, "in_progress")
        if request.streams:
            return Verdict(409, "not_replayable")
        return Verdict(known.request.served, left=balance.free if balance else 0, earlier=known)

    def resolve(self, use: Use, charged: bool) -> None:
        """Take a use or give it back; one that was given back meanwhile is debited again."""
        account, balance = use.account, self.balances[use.account]
        if use.state is State.HELD and charged:
            balance.free += use.msat - use.cost
            self._enter(account, "use", use.cost)
        elif use.state is State.HELD:
            balance.free += use.msat
            self._enter(account, "release", use.msat)
            self.kept = {name: kept for name, kept in self.kept.items() if kept is not use}
        elif use.state is State.GIVEN_BACK and charged:
            key = use.request.idempotency_key
            kept = self.kept.get((use.token_id, key)) if key else None
            if kept and kept.reserved_at + ANSWER_KEPT_FOR > use.reserved_at:
                return  # its repeat is charged
            if key:
                self.kept[use.token_id, key] = use
            lent = max(0, use.msat - balance.free)
            balance.free -= use.msat - lent
            if lent:
                self._enter(account, "write_off", lent)
            self._enter(account, "use", use.msat)
        else:
            return
        use.state = State.TAKEN if charged else State.GIVEN_BACK

    def recover(self, token_id: bytes | None = None) -> int:
        """Give back what silent processes hold, of one account or of all."""
        lapsed = [use for use in self.held(token_id) if use.lapsed]
        for use in lapsed:
            self.resolve(use, charged=False)
        return len(lapsed)

    def expire(self, account: tuple[bytes, str]) -> None:
        self._enter(account, "expiry", self.balances[account].free)
        self.balances[account].free = 0

    def purge(self, end: float) -> set[bytes]:
        """Forget the accounts of which everything ended by then; give them."""
        known = [paid for paid in self.payments if paid.status in (Status.GRANTED, Status.REVOKED)]
        lasting = {paid.token_id for paid in known if paid.valid_until > end}
        lasting |= {
            token_id for (token_id, _), held in self.balances.items()
            if held.free or held.ends_at > end
        }  # fmt: skip
        lasting |= {use.token_id for use in self.held()}
        lasting |= {
            token_id for (token_id, _), use in self.kept.items()
            if use.reserved_at + ANSWER_KEPT_FOR > end
        }  # fmt: skip
        gone = {paid.token_id for paid in known} - lasting
        for paid in known:
            if paid.token_id in gone:
                paid.status = Status.PURGED
        self.balances = {name: it for name, it in self.balances.items() if name[0] not in gone}
        self.kept = {name: it for name, it in self.kept.items() if name[0] not in gone}
        self.closed += [line for line in self.entries if line[0] in gone]
        self.entries = [line for line in self.entries if line[0] not in gone]
        return gone

    def adjust(self, account: tuple[bytes, str], msat: int) -> bool:
        """Credit or debit by hand; False if it is refused."""
        balance = self.balances.get(account)
        if not balance or balance.ends_at <= self.now or balance.free + msat < 0:
            return False
        if not self._brought(account):
            return False
        balance.free += msat
        self._enter(account, "credit" if msat > 0 else "debit", abs(msat))
        return True

    def sell(self, view: View, token_id: bytes, payment_hash: bytes) -> Payment:
        """Offer what a view sells; the key lasts as long as anything that its account holds."""
        offer = Payment(token_id, payment_hash, view, int(self.now), 0)
        ends = [right.ends_at for right in self._held(token_id, PASS)]
        ends += [
            credit.ends_at for (owner, _), credit in self.balances.items() if owner == token_id
        ]
        offer.valid_until = max([offer.ends_at, *ends])
        self.payments.append(offer)
        return offer

    def revoked(self, payment: Payment) -> bool:
        return (
            payment.token_id in self.revoked_tokens
            or payment.payment_hash in self.revoked_payments
            or payment.issued_at < self.revoked_before.get(payment.view.service, 0)
        )

    def held(self, token_id: bytes | None = None) -> list[Use]:
        uses = (use for use in self.uses if use.state is State.HELD)
        return [use for use in uses if token_id in (None, use.token_id)]

    def ended(self) -> list[tuple[bytes, str]]:
        """The balances of which something was left at their end."""
        items = self.balances.items()
        return [name for name, held in items if held.free and held.ends_at <= self.now]

    def token_ids(self) -> set[bytes]:
        """The accounts that are not revoked."""
        return {payment.token_id for payment in self.payments} - self.revoked_tokens

    def _held(self, token_id: bytes, kind: str) -> Iterator[Payment]:
        """What was bought for an account and still stands."""
        for payment in self.payments:
            granted = payment.status is Status.GRANTED and not self.revoked(payment)
            if payment.token_id == token_id and payment.view.kind == kind and granted:
                yield payment

    def _brought(self, account: tuple[bytes, str]) -> bool:
        token_id, service = account
        return any(bought.view.service == service for bought in self._held(token_id, CREDIT))

    def _enter(self, account: tuple[bytes, str], kind: str, msat: int) -> None:
        self.entries.append((*account, kind, msat))

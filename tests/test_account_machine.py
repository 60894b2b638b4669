"""Accounts driven at random against a model of a few lines: two processes, one database, a clock.

Whatever is bought, topped up, used, repeated, narrowed and revoked, and whoever dies in between:
each answer, each balance and each line of the book are those of `support.account_model`.
``MACHINE_EXAMPLES`` sets how many stories are told.
"""

import os
import secrets
import shutil
import time
from base64 import b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from conftest import SECRET, Clock
from flask import Flask, Response
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pymacaroons import Macaroon
from sqlalchemy import select, update
from support.account_model import (
    CREDIT,
    CREDIT_VALID_FOR,
    DAY,
    HOUR,
    INVOICE_EXPIRY,
    PASS,
    WAY_BACK,
    Accounts,
    Key,
    Payment,
    Request,
    State,
    Status,
    Use,
    Verdict,
    View,
)
from support.postgres import PostgresServer

from l402 import L402, current_payment, paywall
from l402.cache import VerifiedTokens
from l402.protocol import token
from l402.protocol.authorization import Credential
from l402.store import migrate
from l402.store.audit import Audit
from l402.store.purge import SLACK, Purge
from l402.store.tables import credential, credit, entry, lease, payment, use
from l402.store.uses import Uses

pytest_plugins = ["support.databases"]

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "100"))
NO_LIMIT = "1000000/second"
#: What has ended by the database's clock, which is not the model's.
PAST = int(time.time()) - HOUR

VIEWS = (
    View("quote", 10_000),
    View("dear", 20_000),
    View("long", 15_000, valid_for=10 * DAY),
    View("foreign", 10_000, service="other"),
    View("few_rows", 5_000, fixed=False),
    View("many_rows", 15_000, fixed=False),
    View("lookup", 2_000, uses=5),
    View("big", 7_000, credit=20_000),
    View("once", 1_500, uses=1),
    View("picky", 3_000, uses=2, charge_on=frozenset({200, 404})),
    View("elsewhere", 2_000, uses=5, service="other"),
    View("sized", 4_000, uses=2, fixed=False),
    View("metered", 2_000, credit=8_000, metered=True),
)
METERED = next(number for number, view in enumerate(VIEWS) if view.metered)
#: The other process runs a later release, in which everything is dearer.
LATER = tuple(replace(view, msat=view.msat * 3 // 2) for view in VIEWS)
#: What is set at run time, in msat; None goes back to the price in the code.
PRICES = [None, None, 0, 1, 1_500, 2_000, 6_000, 10_000, 12_500, 40_000]
LONG = [view.endpoint for view in VIEWS].index("long")
OUTCOMES = {"200": 200, "201": 201, "404": 404, "500": 500, "raises": 500, "stream": 200}


class Process:
    """An app of its own on the common database; `runs` counts how often a view ran."""

    def __init__(self, database: str, clock: Clock, views: tuple[View, ...]) -> None:
        self.views, self.runs = views, 0
        self.app = Flask("machine")  # its logger is its own
        self.app.config.update(
            TESTING=True,
            PROPAGATE_EXCEPTIONS=False,
            L402_NODE="simulated:",
            L402_SECRET_KEY=SECRET,
            L402_SERVICE="shop",
            L402_DATABASE_URL=database,
            L402_VALID_FOR=HOUR,
            L402_CREDIT_VALID_FOR=CREDIT_VALID_FOR,
            L402_INVOICE_EXPIRY=INVOICE_EXPIRY,
            L402_RATE_LIMIT=NO_LIMIT,
            L402_CHALLENGE_LIMIT=NO_LIMIT,
            L402_CHALLENGE_LIMIT_TOTAL=NO_LIMIT,
        )
        self.app.logger.disabled = True
        L402(self.app, clock=clock)
        for view in views:
            self._sell(view)
        self.gate = self.app.extensions["l402"]
        self.gate.sync._start = lambda: None  # what its thread does, the machine does

    def _sell(self, view: View) -> None:
        price = view.msat if view.fixed else lambda: view.msat
        kind: dict[str, Any] = {"valid_for": view.valid_for} if view.kind == PASS else {}
        kind |= {"uses": view.uses or None, "credit": view.credit // 1000 or None}
        if view.metered:
            kind["reserve"], price = view.msat // 1000, None
        sold = paywall(msat=price, service=view.service, charge_on=view.charge_on, **kind)

        def serve(outcome: str) -> Any:
            self.runs += 1
            outcome, *charges = outcome.split("-")
            charge = current_payment.charge
            if outcome == "stream":
                return Response((charge(int(m)) or "x" for m in charges) if charges else iter("xy"))
            for msat in charges:
                charge(int(msat))
            if outcome == "raises":
                raise KeyError("a fault of the host's")
            told = {"run": self.runs, "paid": current_payment.paid, "left": current_payment.balance}
            return told, OUTCOMES[outcome]

        url = f"/{view.endpoint}/<outcome>"
        self.app.add_url_rule(url, view.endpoint, sold(serve), methods=["GET", "POST"])

    def die(self) -> None:
        """Begin anew, with nothing in memory and a lease of its own."""
        self.gate.holders.verified = VerifiedTokens()
        self.gate.store.uses = Uses(self.gate.store.db)

    def close(self) -> None:
        self.gate.sync.close()
        self.gate.store.close()


class Late:
    """A call whose process does not say how it ended, until it is heard of again."""

    def __init__(self, use: Use, uses: Uses) -> None:
        self.use, self.uses = use, uses
        self.use_id, self.charged, self.answer = b"", False, None

    def settle(self, payment: Any, charged: bool, answer: Any = None, _: int | None = None) -> None:
        """Stand in for the settlement, which does not happen."""
        self.use_id, self.charged, self.answer = payment.use_id, charged, answer


class AccountMachine(RuleBasedStateMachine):
    """Tells one story; the rules are what buyers, hosts, operators and time can do."""

    keys = Bundle("keys")
    shown = st.lists(keys, min_size=1, max_size=3)
    any_view = st.integers(0, len(VIEWS) - 1)
    any_process = st.integers(0, 1)
    any_outcome = st.sampled_from(["200", "200", *OUTCOMES])
    any_price = st.sampled_from(PRICES)
    any_idempotency_key = st.sampled_from([None, "a", "b"])
    any_credit_view = st.sampled_from([i for i, view in enumerate(VIEWS) if view.kind == CREDIT])

    def __init__(self, database: Callable[[], str]) -> None:
        super().__init__()
        self.clock = Clock()
        self.model = Accounts(self.clock.now)
        url = database()
        self.processes = [Process(url, self.clock, views) for views in (VIEWS, LATER)]
        self.shows: dict[Payment, tuple[str, bytes]] = {}  # macaroon and preimage
        self.ran: dict[Use, int] = {}
        self.late: list[Late] = []
        self.keyed: list[tuple[int, Request]] = []  # calls under an Idempotency-Key
        self.steps = self.metered = 0
        self.prices: dict[str, int] = {}  # that are set at run time, by endpoint

    def teardown(self) -> None:
        self.audit()
        for process in self.processes:
            process.close()

    # What buyers do

    @rule(
        target=keys, process=any_process, view=any_view, shown=shown, outcome=any_outcome,
        idempotency_key=any_idempotency_key, head=st.booleans(), rewritten=st.booleans(),
    )  # fmt: skip
    def call(
        self, process: int, view: int, shown: list[Key], outcome: str,
        idempotency_key: str | None, head: bool, rewritten: bool,
    ) -> Any:  # fmt: skip
        """Send a request; what it is offered is paid, and may be shown at any time, or never."""
        asked = self.asked(process, view, tuple(shown), outcome, idempotency_key)
        offer = self.send(process, asked, head=head, rewritten=rewritten)
        return multiple() if offer is None else Key(offer)

    @rule(
        target=keys, process=any_process, view=any_credit_view, key=keys, outcome=any_outcome,
        keyed=st.booleans(), fate=st.sampled_from(["answers", "hangs", "dies"]),
    )  # fmt: skip
    def draw(self, process: int, view: int, key: Key, outcome: str, keyed: bool, fate: str) -> Any:
        """Draw on credit; the view may hang, or its process die, and nobody knows how it ends."""
        name = f"call-{len(self.keyed)}" if keyed else None
        asked = self.asked(process, view, (self.living(key),), outcome, name)
        if keyed:
            self.keyed.append((process, asked))
        offer = self.send(process, asked, hangs=fate != "answers")
        if fate == "dies":
            self.fall_silent(process)
        return multiple() if offer is None else Key(offer)

    @rule(
        target=keys, process=any_process, key=keys,
        outcome=st.sampled_from(["stream", "stream", "200", "404", "raises"]),
        charges=st.lists(st.sampled_from([0, 0, 0, 1, 500, 1_900, 2_000, 2_600]), max_size=3),
        reads=st.none() | st.integers(1, 4), keyed=st.booleans(),
    )  # fmt: skip
    def meter(
        self, process: int, key: Key, outcome: str, charges: list[int], reads: int | None,
        keyed: bool,
    ) -> Any:  # fmt: skip
        """Call what charges as it goes on, and perhaps streams; the client may hang up."""
        self.metered += 1
        name = f"metered-{self.metered}" if keyed else None
        asked = self.asked(process, METERED, (key,), outcome, name)
        path = "-".join([asked.path, *map(str, charges)])
        streams = "stream" in outcome
        asked = replace(
            asked, path=path, charges=tuple(charges), reads=reads if streams and charges else None
        )
        offer = self.send(process, asked)
        if keyed and offer is None:
            offer = self.send(process, asked)
        return multiple() if offer is None else Key(offer)

    @rule(process=any_process, key=keys, outcome=any_outcome)
    def come_again(self, process: int, key: Key, outcome: str) -> None:
        """Ask for what the token was sold for, perhaps of a release with another price."""
        view = VIEWS.index(next(v for v in VIEWS if v.endpoint == key.payment.view.endpoint))
        self.send(process, self.asked(process, view, (key,), outcome))

    @rule(
        target=keys, process=any_process, view=any_view, msat=any_price, late=st.booleans(),
        elsewhere=st.booleans(),
    )  # fmt: skip
    def come_back_after_a_move(
        self, process: int, view: int, msat: int | None, late: bool, elsewhere: bool
    ) -> Any:
        """Have a price move between challenge and retry: nobody who paid is refused."""
        offer = self.send(process, self.asked(process, view, (), "200"))
        if offer is None:
            return multiple()
        self.reprice(view, msat)
        if late:
            self.wait_until(offer.starts_at + WAY_BACK - 1)
        if elsewhere and offer.price:  # a later release's callable may say more
            process = 1 - process
        assert self.send(process, self.asked(process, view, (Key(offer),), "200")) is None
        return Key(offer)

    @rule(process=any_process, key=keys, before=st.booleans())
    def come_at_the_end(self, process: int, key: Key, before: bool) -> None:
        """Ask for it when it ends, or in the last second before."""
        self.wait_until(key.payment.ends_at - before)
        self.come_again(process, key, "200")

    @precondition(lambda self: self.keyed)
    @rule(
        which=st.integers(0, 2), beside=st.lists(keys, max_size=1), head=st.booleans(),
        after=st.sampled_from([0, 0, 0, 0, DAY - 1, DAY]),
    )  # fmt: skip
    def repeat(self, which: int, beside: list[Key], head: bool, after: int) -> None:
        """Send a call again under its Idempotency-Key, perhaps with another token beside."""
        process, asked = self.keyed[-1 - which % len(self.keyed)]
        name = asked.idempotency_key
        begun = [use.reserved_at for use in self.model.uses if use.request.idempotency_key == name]
        self.wait_until(max(begun, default=0) + after)
        again = replace(asked, keys=tuple(dict.fromkeys([*asked.keys, *beside])))
        self.send(process, again, head=head, rewritten=True)

    @initialize(target=keys, process=any_process, view=any_credit_view)
    def begin(self, process: int, view: int) -> Any:
        """Have an account with credit, and a pass that lasts longer; give a part of it away."""
        offer = self.buy(process, view, ())
        part = Key(offer.payment, ("kind=credit",))
        return multiple(offer, self.buy(process, LONG, (offer,)), part)

    @precondition(lambda self: len(self.model.token_ids()) < 4)
    @rule(target=keys, process=any_process, view=any_view)
    def open_account(self, process: int, view: int) -> Any:
        """Pay for a new account."""
        return self.buy(process, view, ())

    @rule(
        target=keys,
        key=keys,
        limit=st.sampled_from([
            "endpoint=lookup", "endpoint=quote", "kind=credit", "services=shop", "services=other",
            "paid_msat=2000", "valid_until", "preimage", "preimage=wrong", "colour=blue",
        ]),
    )  # fmt: skip
    def narrow(self, key: Key, limit: str) -> Key:
        """Append a caveat, as a holder does before handing a token on."""
        if limit == "valid_until":
            limit = f"{key.payment.view.service}_valid_until={int(self.model.now) + HOUR}"
        if limit == "preimage":
            limit = f"preimage={self.shows[key.payment][1].hex()}"
        return Key(key.payment, (*key.caveats, limit))

    @rule(process=any_process, shown=st.lists(keys, min_size=1, max_size=2))
    def look(self, process: int, shown: list[Key]) -> None:
        """Ask for a credential's state; what silent processes held is given back first."""
        response = self.client(process, shown, "/l402/credential")
        first = next((key.payment for key in shown if key.authentic), None)
        if first is None:
            assert response.status_code == 403
            return
        self.model.recover()
        state, balances = response.json, self.model.balances
        assert state["token_id"] == first.token_id.hex()
        assert state["expired"] == (self.model.now >= first.ends_at)
        assert state["key_ends_at"] == first.valid_until
        assert state["revoked"] == self.model.revoked(first)
        assert {service: told["balance_msat"] for service, told in state["balances"].items()} == {
            service: held.free for (owner, service), held in balances.items()
            if owner == first.token_id
        }  # fmt: skip

    # What befalls processes

    @precondition(lambda self: any(not use.lapsed for use in self.model.held()))
    @rule(process=any_process)
    def stop(self, process: int) -> None:
        """A process dies, or is stopped for so long that its lease lapses."""
        self.fall_silent(process)

    def fall_silent(self, process: int) -> None:
        its = self.processes[process]
        names = [late.uses._lease.process for late in self.late if late.uses is its.gate.store.uses]
        with its.gate.store.db.write() as connection:
            for name in names:
                past = datetime.fromtimestamp(PAST, UTC)
                lapse = update(lease).where(lease.c.process == name).values(expires_at=past)
                connection.execute(lapse)
        for late in self.late:
            late.use.lapsed |= late.uses is its.gate.store.uses
        its.die()

    @precondition(lambda self: self.late)
    @rule(which=st.integers(0, 99), overdue=st.booleans())
    def come_back(self, which: int, overdue: bool) -> None:
        """A call ends at last, in time or when its price was given back."""
        given_back = [late for late in self.late if late.use.state is State.GIVEN_BACK]
        some = given_back if overdue and given_back else self.late
        late = some[-1 - which % len(some)]
        if late.charged:
            late.uses.take(late.use_id, late.answer)
        else:
            late.uses.release(late.use_id)
        self.model.resolve(late.use, late.charged)
        if late.use.request.idempotency_key:
            self.late.remove(late)  # the key is known until the end is told, once

    @precondition(lambda self: any(use.lapsed for use in self.model.held()))
    @rule(process=any_process)
    def recover(self, process: int) -> None:
        """A living process gives back what silent ones hold."""
        given_back = self.processes[process].gate.store.uses.recover()
        assert given_back == self.model.recover()

    # Time

    @rule(which=st.sampled_from([0, 0, 1, 2, 5, 99]), before=st.booleans())
    def wait(self, which: int, before: bool) -> None:
        """Let time pass until something ends, or the last second before."""
        ends = sorted(end for end in self.ends() if end - before > self.model.now)
        self.wait_until(ends[which % len(ends)] - before if ends else self.model.now + HOUR)

    def wait_until(self, moment: float) -> None:
        self.clock.now = self.model.now = max(self.model.now, moment)

    @precondition(lambda self: self.model.ended())
    @rule(process=any_process)
    def expire(self, process: int) -> None:
        """Book what is left of balances that have ended, as processes do now and then."""
        store, model = self.processes[process].gate.store, self.model
        now, past = datetime.fromtimestamp(model.now, UTC), datetime.fromtimestamp(PAST, UTC)
        with store.db.write() as connection:
            left = credit.c.ends_at <= now, credit.c.balance > 0
            connection.execute(update(credit).where(*left).values(ends_at=past))
        store.credits.expire()
        for account in model.ended():
            model.balances[account].ends_at = PAST
            if not any(use.account == account for use in model.held()):
                model.expire(account)

    # What operators do

    @rule(process=any_process, later=st.sampled_from([0, 0, DAY, 400 * DAY]))
    def purge(self, process: int, later: int) -> None:
        """Purge what has ended, perhaps much later; what calls of it never said is not asked."""
        self.wait_until(self.model.now + later)
        if self.model.ended():
            self.expire(process)
        store, now = self.processes[process].gate.store, self.model.now
        work = Purge(store.db, datetime.fromtimestamp(now, UTC))
        done = work.run(lambda _: None)
        gone = self.model.purge(now - SLACK.total_seconds())
        assert (done.tokens, work.unfit) == (len(gone), {})
        self.late = [late for late in self.late if late.use.token_id not in gone]

    @precondition(lambda self: len(self.model.payments) > 4)
    @rule(key=keys, kind=st.sampled_from(["token", "payment", "service"]))
    def revoke(self, key: Key, kind: str) -> None:
        """Revoke an account, one of its payments, or all that a service has sold so far."""
        paid, model = key.payment, self.model
        revoke = self.processes[0].gate.store.revocations.revoke
        if kind == "token":
            revoke("token", paid.token_id.hex())
            model.revoked_tokens.add(paid.token_id)
        elif kind == "payment":
            revoke("payment", paid.payment_hash.hex())
            model.revoked_payments.add(paid.payment_hash)
        else:
            now = datetime.fromtimestamp(model.now, UTC)
            revoke("service", paid.view.service, issued_before=now)
            model.revoked_before[paid.view.service] = model.now
        for process in self.processes:
            process.gate.sync._read()

    @rule(view=any_view, msat=any_price)
    def reprice(self, view: int, msat: int | None) -> None:
        """Set a price while the processes serve, or unset it; a second later all of them know."""
        sold, prices = VIEWS[view], self.processes[0].gate.store.prices
        if msat is None:
            was = prices.unset(sold.service, sold.endpoint, "GET")
            assert was == (self.prices.pop(sold.endpoint, None) is not None)
        else:
            prices.set(sold.service, sold.endpoint, "GET", msat)
            self.prices[sold.endpoint] = msat
        for process in self.processes:
            process.gate.sync._read()

    @precondition(lambda self: self.prices)
    @rule(key=keys, msat=any_price, process=any_process)
    def reprice_what_was_bought(self, key: Key, msat: int | None, process: int) -> None:
        """Have the price move of what somebody holds, who comes again with it."""
        self.reprice([view.endpoint for view in VIEWS].index(key.payment.view.endpoint), msat)
        self.come_again(process, key, "200")

    @rule(
        key=keys,
        msat=st.sampled_from([1_000, 3_500, -1_000, -5_000]),
        again=st.booleans(),
    )
    def adjust(self, key: Key, msat: int, again: bool) -> None:
        """Credit or debit by hand; the same id counts once."""
        account = key.payment.token_id, key.payment.view.service
        change = partial(
            self.processes[0].gate.store.credits.adjust,
            account[0].hex(), account[1], msat,
            why="goodwill", operation=secrets.token_hex(8),
            now=datetime.fromtimestamp(self.model.now, UTC),
        )  # fmt: skip
        if not self.model.adjust(account, msat):
            with pytest.raises(ValueError, match=r"token|only"):
                change()
            return
        assert change().first
        assert not again or not change().first

    # What must hold after each step

    @invariant()
    def the_record_is_the_models(self) -> None:
        model = self.model
        known = [paid for paid in model.payments if paid.status not in (None, Status.PURGED)]
        assert self.rows(credential.c.token_id) == Counter(
            (token_id,) for token_id in {paid.token_id.hex() for paid in known}
        )
        paid_for = payment.c
        assert self.rows(
            paid_for.payment_hash, paid_for.status, paid_for.msat, paid_for.price_msat
        ) == Counter(
            (paid.payment_hash.hex(), paid.status.value, paid.view.total, paid.price)
            for paid in known if paid.status
        )  # fmt: skip
        held: Counter[tuple[bytes, str]] = Counter()
        for one in model.held():
            held[one.account] += one.msat
        has = credit.c
        columns = has.token_id, has.service, has.balance, has.reserved, has.ends_at
        assert self.rows(*columns) == Counter(
            (account[0].hex(), account[1], balance.free, held[account],
             datetime.fromtimestamp(balance.ends_at, UTC))
            for account, balance in model.balances.items()
        )  # fmt: skip
        assert self.rows(use.c.token_id, use.c.service, use.c.msat) == Counter(
            (one.token_id.hex(), one.account[1], one.msat) for one in model.held()
        )
        assert self.rows(entry.c.token_id, entry.c.service, entry.c.kind, entry.c.msat) == Counter(
            (token_id.hex(), *line) for token_id, *line in model.entries
        )

    @invariant()
    def the_books_are_clean(self) -> None:
        self.steps += 1
        if self.steps % 8 == 0:
            self.audit()

    def audit(self) -> None:
        found: list[object] = []
        totals = Audit(self.processes[0].gate.store.db).run(found.append, lambda _: None)
        assert found == []
        lines = self.model.entries + self.model.closed
        assert totals.entries == len(lines)
        assert totals.used == sum(msat for *_, kind, msat in lines if kind == "use")
        assert totals.granted - totals.gone == totals.balance + totals.reserved

    # How it is done

    def buy(self, process: int, view: int, keys: tuple[Key, ...]) -> Any:
        offer = self.send(process, self.asked(process, view, keys, "200"))
        if offer is None:
            return multiple()
        assert self.send(process, self.asked(process, view, (Key(offer),), "200")) is None
        return Key(offer)

    def living(self, key: Key) -> Key:
        """Give the key, or in the place of a dead one the newest that is not."""
        model = self.model
        good = [paid for paid in model.payments if paid.valid_until > model.now]
        good = [paid for paid in good if not model.revoked(paid)]
        return key if key.payment in good or not good else Key(good[-1])

    def asked(
        self, process: int, view: int, keys: tuple[Key, ...], outcome: str, key: str | None = None
    ) -> Request:
        sold = self.processes[process].views[view]
        distinct = tuple(dict.fromkeys(keys))
        return Request(sold, f"/{sold.endpoint}/{outcome}", OUTCOMES[outcome], distinct, key)

    def send(
        self, process: int, asked: Request, *,
        head: bool = False, rewritten: bool = False, hangs: bool = False,
    ) -> Payment | None:  # fmt: skip
        """Send a request, compare all of its answer with the model's, return what it offers."""
        its = self.processes[process]
        in_code = next(view for view in its.views if view.endpoint == asked.view.endpoint)
        now = in_code.at(self.prices.get(in_code.endpoint))
        asked = replace(asked, head=head, view=now)
        verdict = self.model.answer(asked)
        runs, served = its.runs, verdict.reason is None and verdict.earlier is None
        hangs = hangs and not asked.view.metered
        hung = Late(verdict.use, its.gate.store.uses) if hangs and verdict.use else None
        served |= verdict.use is not None
        query = [("one", 1), ("also", 1)]
        how: dict[str, Any] = {
            "query_string": query[::-1] if rewritten else query,
            "method": "HEAD" if head else "GET",
        }
        text = asked.idempotency_key
        if text:
            how["headers"] = {"Idempotency-Key": text if rewritten else f'"{text}"'}
        with patch.object(
            its.gate.accounts, "settle", hung.settle if hung else its.gate.accounts.settle
        ):
            response = self.client(process, asked.keys, asked.path, **how)
        if asked.view.metered:
            self.read(asked, response)
        assert response.status_code == verdict.status, response.text
        assert its.runs - runs == served
        if verdict.reason:
            return self.refused(process, asked, verdict, response, head)
        if hung:
            self.late.append(hung)
        elif verdict.use:
            charged = asked.view.charges(verdict.status)
            charged &= verdict.use.spent > 0 or not verdict.use.hung_up
            self.model.resolve(verdict.use, charged)
        self.told(asked, verdict, response, hung is not None)
        if verdict.use:
            self.ran[verdict.use] = its.runs
        if response.is_json and not head:
            self.body(asked, verdict, response.json)
        response.close()
        return None

    def read(self, asked: Request, response: Any) -> None:
        """Read a metered answer, or so many chunks of it, and hang up."""
        if asked.reads is None or response.is_json:
            response.get_data()
            return
        chunks = iter(response.response)
        for _ in range(asked.reads):
            next(chunks, None)
        response.close()

    def told(self, asked: Request, verdict: Verdict, response: Any, hung: bool) -> None:
        left = verdict.left
        streams = asked.view.metered and asked.streams and response.request.method != "HEAD"
        if verdict.use and not hung and not streams:
            left = self.model.balances[verdict.use.account].free
        if "raises" in asked.path:
            left = None
        assert response.headers.get("L402-Balance-Msat", type=int) == left
        assert ("Idempotency-Replayed" in response.headers) == (verdict.earlier is not None)

    def body(self, asked: Request, verdict: Verdict, body: dict[str, Any]) -> None:
        if verdict.earlier:
            assert body["run"] == self.ran[verdict.earlier]
        elif verdict.use:
            assert body["run"] == self.ran[verdict.use]
            assert (body["paid"], body["left"]) == (verdict.use.cost, verdict.left)
        elif not asked.view.msat:
            assert (body["paid"], body["left"]) == (sum(asked.charges), None)

    def refused(
        self, process: int, asked: Request, verdict: Verdict, response: Any, head: bool
    ) -> Payment | None:
        if not head:
            assert response.json["reason"] == verdict.reason
            assert response.json.get("balance_msat") == verdict.left
        if verdict.status != 402:
            assert "WWW-Authenticate" not in response.headers
            return None
        # What a metered call lacks, its view has said, as a callable would.
        view = replace(asked.view, fixed=asked.view.fixed and not verdict.use)
        return self.offered(process, view, verdict.token_id, response)

    def offered(self, process: int, view: View, account: bytes | None, response: Any) -> Payment:
        """Compare what a challenge offers with what the model would sell, and pay."""
        gate = self.processes[process].gate
        _, text, _, invoice, *_ = response.headers["WWW-Authenticate"].split('"')
        preimage = gate.desk.node.settle(invoice)
        raw = token.verify(gate.keys, Credential(b64decode(text), preimage))
        if account is None:
            assert raw.token_id not in {paid.token_id for paid in self.model.payments}
        else:
            assert raw.token_id == account
        offer = self.model.sell(view, raw.token_id, raw.payment_hash)
        assert raw.grant[:8] == (
            offer.view.service, offer.view.kind, offer.view.total, "simulated", offer.issued_at,
            offer.starts_at, offer.ends_at, offer.valid_until,
        )  # fmt: skip
        assert (raw.grant.price, raw.grant.rate) == (offer.price, "")
        self.shows[offer] = text, preimage
        return offer

    def client(self, process: int, keys: Any, path: str, **how: Any) -> Any:
        shown = [self.credential(key) for key in keys]
        if shown:
            how.setdefault("headers", {})["Authorization"] = ", ".join(shown)
        return self.processes[process].app.test_client().open(path, **how)

    def credential(self, key: Key) -> str:
        text, preimage = self.shows[key.payment]
        return f"L402 {narrowed(text, key.caveats)}:{preimage.hex()}"

    def ends(self) -> Iterator[int]:
        for paid in self.model.payments:
            yield from (paid.starts_at + HOUR, paid.ends_at, paid.valid_until)
        for kept in self.model.kept.values():
            yield int(kept.reserved_at) + DAY

    def rows(self, *columns: Any) -> Counter[tuple[Any, ...]]:
        return Counter(
            tuple(row) for row in self.processes[0].gate.store.db.fetch(select(*columns))
        )


@cache
def narrowed(text: str, caveats: tuple[str, ...]) -> str:
    """Append caveats as a holder does, who knows no key."""
    if not caveats:
        return text
    held = Macaroon.deserialize(urlsafe_b64encode(b64decode(text)).decode().rstrip("="))
    for caveat in caveats:
        held.add_first_party_caveat(caveat)
    serialized: str = held.serialize()
    return serialized


def tell(database: Callable[[], str], examples: int) -> None:
    """Tell so many stories, each on a database of its own."""
    how = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    begin: Any = partial(AccountMachine, database)
    run_state_machine_as_test(begin, settings=how)


def test_accounts_on_sqlite(migrated: Path, tmp_path: Path) -> None:
    """Whatever happens to accounts, the answers and the book are the model's."""

    def database() -> str:
        path = tmp_path / f"{secrets.token_hex(8)}.db"
        shutil.copy(migrated, path)
        return f"sqlite:///{path}"

    tell(database, EXAMPLES)


@pytest.mark.postgres
def test_accounts_on_postgres(postgres_server: PostgresServer, postgres_url: str) -> None:
    """As on SQLite."""
    migrate.upgrade(postgres_url)
    template = postgres_url.rpartition("/")[2]

    def database() -> str:
        name = f"machine_{secrets.token_hex(8)}"
        postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return postgres_server.url(name)

    tell(database, max(1, EXAMPLES // 5))

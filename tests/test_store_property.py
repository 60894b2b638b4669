"""Any sequence of presentations and revocations, against a model of a few lines."""

from datetime import UTC, datetime

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support import sales

from l402.store import Store
from l402.store.payments import Sale

SMALL = st.integers(0, 3)
SECONDS = st.integers(0, 6)
SERVICES = st.sampled_from(["quotes", "other"])


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(sales.ISSUED + seconds, UTC)


class Record(RuleBasedStateMachine):
    """Sales of four payments and four tokens in two services, over seven seconds."""

    @initialize()
    def begin(self) -> None:
        self.store = Store("sqlite:///:memory:")
        self.booked: dict[bytes, tuple[Sale, str]] = {}
        self.revoked: set[tuple[str, str]] = set()
        self.before: dict[str, int] = {}
        self.uses: dict[bytes, int] = {}

    def is_revoked(self, sale: Sale) -> bool:
        token = sale.token_id.hex()
        names = {("token", token), ("payment", sale.payment_hash.hex()), ("handle", token[:16])}
        issued = sale.issued_at - sales.ISSUED
        return bool(names & self.revoked) or issued < self.before.get(sale.service, -1)

    @rule(payment=SMALL, token=SMALL, service=SERVICES, issued=SECONDS, end=SECONDS, now=SECONDS)
    def present(
        self, payment: int, token: int, service: str, issued: int, end: int, now: int
    ) -> None:
        sale = sales.sale(
            payment,
            token_id=sales.token_id(token),
            service=service,
            issued_at=sales.ISSUED + issued,
            valid_until=sales.ISSUED + end,
        )
        standing = self.store.payments.admit(sale, moment(now))
        dead = self.is_revoked(sale)
        first = False
        if sale.payment_hash not in self.booked:
            status = "revoked" if dead else "late" if now >= end else "granted"
            self.booked[sale.payment_hash] = (sale, status)
            first = status == "granted"
        owner, status = self.booked[sale.payment_hash]
        assert standing.first == first
        assert standing.late == (status == "late")
        assert standing.revoked == (dead or status == "revoked" or owner.token_id != sale.token_id)

    @rule(number=SMALL, kind=st.sampled_from(["token", "payment", "handle"]))
    def revoke(self, number: int, kind) -> None:
        digits = (sales.payment_hash if kind == "payment" else sales.token_id)(number).hex()
        subject = digits[:16] if kind == "handle" else digits
        news = (kind, subject) not in self.revoked
        assert self.store.revocations.revoke(kind, subject) == news
        self.revoked.add((kind, subject))

    @rule(service=SERVICES, before=SECONDS)
    def revoke_service(self, service: str, before: int) -> None:
        news = before > self.before.get(service, -1)
        revoke = self.store.revocations.revoke
        assert revoke("service", service, issued_before=moment(before)) == news
        self.before[service] = max(before, self.before.get(service, -1))

    @rule(token=SMALL, uses=st.integers(1, 5))
    def use(self, token: int, uses: int) -> None:
        token_id = sales.token_id(token)
        self.store.counts.count_uses({token_id: (uses, moment(0))})
        if any(sale.token_id == token_id for sale, _ in self.booked.values()):
            self.uses[token_id] = self.uses.get(token_id, 0) + uses

    @invariant()
    def agrees(self) -> None:
        page = self.store.credentials.page(now=moment(0))
        found = {
            bytes.fromhex(payment.payment_hash): (
                state.token_id,
                payment.status,
                payment.msat,
                payment.revoked,
            )
            for state in page
            for payment in state.payments
        }
        assert found == {
            key: (
                sale.token_id.hex(),
                status,
                sale.msat,
                status == "revoked" or self.is_revoked(sale),
            )
            for key, (sale, status) in self.booked.items()
        }
        assert {state.token_id: state.uses for state in page} == {
            sale.token_id.hex(): self.uses.get(sale.token_id, 0) for sale, _ in self.booked.values()
        }
        _, changes = self.store.revocations.changes(self.store.revocations.changes(None)[0])
        assert len(changes) == len(self.revoked) + len(self.before)

    def teardown(self) -> None:
        self.store.close()


TestRecord = Record.TestCase
TestRecord.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

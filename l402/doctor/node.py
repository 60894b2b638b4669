"""Checks of the Lightning node, through the desk as a sale goes."""

import secrets
import time

from l402.doctor.database import difference
from l402.doctor.patient import DESCRIPTION, Order, Patient
from l402.doctor.verdict import Severity, Verdict, error, ok, told, unknown, warning
from l402.errors import NodeError, NodeMismatch, NodeUnreachable
from l402.nodes.base import Settlement
from l402.protocol import bolt11, token
from l402.protocol.challenge import Challenge
from l402.protocol.token import PASS, Grant

#: Days before its end at which a certificate is to be renewed.
_RENEW_WITHIN = 14
_DAY = 86400
_PERMIT = "see what the node's own log says"
_LARGEST_HEADER = 8190  # bytes; what gunicorn and many proxies allow a header


def node(patient: Patient) -> Verdict:
    """See that something answers at the node's address.

    :raises NodeUnreachable: nothing does
    """
    desk = patient.gate.desk
    try:
        desk.node.certificate_end()
        if desk.node.can_look_up:
            desk.look_up(secrets.token_bytes(32))
    except NodeUnreachable as fault:
        if not _of_certificate(fault):
            raise
    except NodeError:
        pass  # it answers; why it refuses is for other checks to tell
    return ok(f"{desk.node!r} is there")


def certificate(patient: Patient) -> Verdict:
    """See that the node's certificate is trusted, and for how long.

    :raises NodeUnreachable: it is not
    """
    end = patient.gate.desk.node.certificate_end()
    if end is None:
        return ok("the node shows none, or needs none")
    days = int(end - time.time()) // _DAY
    until = f"{time.strftime('%Y-%m-%d', time.gmtime(end))}, in {days} days"
    if days < _RENEW_WITHIN:
        return warning(
            f"the node's certificate ends on {until}",
            "have the node make a new one, and name that in the node URL (tls_cert_path for lnd,"
            " else ca_path); lnd makes one when it starts without tls.cert and tls.key",
        )
    return ok(f"good until {until}")


def permissions(patient: Patient) -> Verdict:
    """See that the node's credential can do no more than is needed."""
    excess = patient.gate.desk.node.excess()
    if excess is None:
        return unknown("the node's credential does not tell what it permits")
    if excess:
        return warning(
            f"the node's credential permits more than is needed: {', '.join(excess)}",
            "use one that does not; of lnd: lncli bakemacaroon invoices:read invoices:write",
        )
    return ok("the node's credential permits what is needed, and no more")


def invoice(patient: Patient) -> Verdict:
    """Have an invoice issued over 1 sat, and read it.

    :raises NodeError: there is none
    """
    if not patient.invoicing:
        return unknown("left out by --no-invoice")
    order = patient.order
    if isinstance(order, Order):
        request = bolt11.decode(order.invoice.bolt11)
        if request.description != DESCRIPTION:
            return warning(
                "the node does not write our description into its invoices, so that flask l402"
                " show cannot find a sale by it",
                "see whether the node, or what is in front of it, replaces descriptions",
            )
        return ok("the node issued an invoice over 1 sat, which is what was ordered")
    if _subject(order) in ("network", "clock"):
        return ok("the node issued an invoice")
    return told(order, _PERMIT)


def network(patient: Patient) -> Verdict:
    """Compare the node's network with the one that is named."""
    name = patient.gate.defaults.network
    if isinstance(patient.order, NodeError) and _subject(patient.order) == "network":
        found = str(patient.order).rpartition(" ")[2]
        return error(
            f"the node is on {found}, and L402_NODE names {name}",
            f"name a node on {name}, or write network={found} in L402_NODE",
        )
    if name == "simulated":
        return warning(
            "the node is simulated: what is sold earns no money",
            "name a real node in L402_NODE, and take L402_SIMULATED out",
        )
    return ok(name if name == "mainnet" else f"{name}, whose money is worth nothing")


def node_clock(patient: Patient) -> Verdict:
    """Compare the node's clock, which dates its invoices, with this machine's.

    :raises NodeMismatch: nothing can be sold for the difference
    """
    if isinstance(patient.order, NodeError):
        return told(patient.order, "have both machines' clocks set by NTP")
    written, before, after = patient.order
    created = bolt11.decode(written.bolt11).created_at
    return difference("the node's clock", created, before - 1, after)  # it is in whole seconds


def look_up(patient: Patient) -> Verdict:
    """See that the node tells what became of an invoice."""
    gate = patient.gate
    if not gate.desk.node.can_look_up:
        return ok("this node keeps no record of payments, and is not asked")
    payment_hash, expected = secrets.token_bytes(32), Settlement.GONE
    if patient.invoicing and isinstance(patient.order, Order):
        payment_hash, expected = patient.order.invoice.payment_hash, Settlement.OPEN
    try:
        found = gate.desk.look_up(payment_hash)
    except NodeError as fault:
        verdict = told(fault, _PERMIT)
        if gate.defaults.strict:
            return verdict
        detail = f"{verdict.detail}; nothing is looked up while L402_STRICT is off"
        return verdict._replace(severity=Severity.WARNING, detail=detail)
    if found is not expected:
        return error(f"the node says {found.value} of an invoice that is {expected.value}", _PERMIT)
    return ok(f"the node tells that an invoice is {expected.value}")


def challenge(patient: Patient) -> Verdict:
    """Make the challenge that would go with the invoice; nobody is shown it.

    :raises StoreError: the ledger cannot be read
    """
    gate = patient.gate
    assert isinstance(patient.order, Order)  # or this check is not done
    paid = patient.order.invoice
    now, end = int(gate.clock()), paid.expires_at + gate.defaults.valid_for
    grant = Grant(
        gate.defaults.service, PASS, paid.msat, gate.defaults.network, now, paid.expires_at, end,
        end, "GET", "doctor", gate.store.ledger.id(), paid.msat, "",
    )  # fmt: skip
    raw = token.mint(gate.keys, paid.payment_hash, secrets.token_bytes(32), grant)
    header = Challenge(raw, paid.bolt11, paid.payment_hash, paid.msat, paid.msat).header
    if len(header) > _LARGEST_HEADER:
        return warning(
            f"a challenge has {len(header)} bytes, which some proxies cut off",
            "leave private=true out of L402_NODE, if the node can be paid without",
        )
    return ok(f"a challenge was made, of {len(header)} bytes")


def _subject(fault: NodeError) -> str | None:
    """Tell in what an invoice is another than the one ordered."""
    return str(fault).partition(":")[0] if isinstance(fault, NodeMismatch) else None


def _of_certificate(fault: NodeUnreachable) -> bool:
    return str(fault).startswith("its certificate")

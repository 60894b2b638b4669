"""Our own routes: a credential's state and, for the simulated node, its stand-in wallet."""

import hmac
from typing import Any

from flask import Blueprint, Request, Response, jsonify, request

from l402.accounts import UNRECORDED
from l402.addresses import is_loopback
from l402.bookings import sale
from l402.denials import Denial, Reason
from l402.errors import Invalid, Malformed, NodeError, StoreError
from l402.gate import Gate
from l402.nodes.simulated import SimulatedNode
from l402.protocol import bolt11
from l402.protocol.keys import KeyRing
from l402.protocol.token import Token
from l402.terms import duration

_FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


def make_blueprint(gate: Gate) -> Blueprint:
    """Return the routes of one app's gate."""
    blueprint = Blueprint("l402", __name__)

    @blueprint.get("/credential")
    def credential() -> Response:
        """Tell the holder of a paid token its state, expired or revoked too."""
        response = _credential(gate)
        response.headers["Cache-Control"] = "no-store"
        return gate.mark(response)

    if isinstance(gate.desk.node, SimulatedNode):
        _add_wallet(blueprint, gate, gate.desk.node)
    return blueprint


def _credential(gate: Gate) -> Response:
    if wait := gate.limits.admit_inquiry(request.remote_addr):
        return Denial(Reason.RATE_LIMITED, retry_after=wait).response()
    try:
        tokens = gate.holders.authentic(request.headers.get("Authorization"))
        if tokens:
            return jsonify(_state(gate, tokens[0]))
    except Malformed as error:
        return Denial(Reason.MALFORMED, detail=str(error)).response()
    except Invalid:
        pass
    except StoreError:
        return UNRECORDED.response()
    return Denial(Reason.NOT_FOUND, detail="no paid token of ours was shown").response()


def wallet_macaroon(keys: KeyRing) -> str:
    """Return the credential of the stand-in wallet, in hex; ``flask l402 wallet`` prints it."""
    return keys.derive("simulated wallet").hex()


def _state(gate: Gate, token: Token) -> dict[str, Any]:
    gate.sync.flush()
    gate.store.uses.recover()  # a dead process's calls go back to their buyers
    grant, now = token.grant, gate.clock()
    revoked = gate.store.payments.revoked(sale(token))
    ends_at = min(grant.ends_at, grant.valid_until)
    return {
        "token_id": token.token_id.hex(),
        "service": grant.service,
        "kind": grant.kind,
        "network": grant.network,
        "paid_msat": grant.msat,
        "issued_at": grant.issued_at,
        "ends_at": ends_at,
        "ends_in": duration(int(ends_at - now)) if ends_at > now else None,
        "expired": now >= ends_at,
        "revoked": revoked,
        "uses": gate.store.counts.uses(token.token_id),
        "key_ends_at": grant.valid_until,
        "balances": {
            credit.service: {
                "balance_msat": credit.balance,
                "reserved_msat": credit.reserved,
                "ends_at": int(credit.ends_at.timestamp()),
            }
            for credit in gate.store.credits.of(token.token_id)
        },
    }


def _add_wallet(blueprint: Blueprint, gate: Gate, node: SimulatedNode) -> None:
    @blueprint.post("/simulated/v2/router/send")
    def pay() -> tuple[Response, int] | Response:
        """Pay a simulated invoice, in the shape of lnd's ``/v2/router/send``."""
        shown = request.headers.get("Grpc-Metadata-macaroon", "")
        right = wallet_macaroon(gate.keys)
        if not _from_this_machine(request) or not hmac.compare_digest(
            shown.encode(), right.encode()
        ):
            return jsonify(code=7, message="permission denied"), 403
        body = request.get_json(silent=True)
        invoice = body.get("payment_request") if isinstance(body, dict) else None
        if not isinstance(invoice, str):
            return jsonify(code=3, message="payment_request is missing"), 400
        return jsonify(result=_payment(node, invoice))


def _payment(node: SimulatedNode, invoice: str) -> dict[str, str]:
    """Return lnd's Payment object; a failed one has a preimage of zeros, as lnd's has."""
    try:
        preimage = node.settle(invoice)
    except NodeError as error:
        return {
            "status": "FAILED",
            "payment_preimage": "0" * 64,
            "failure_reason": "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS",
            "message": str(error),
        }
    asked = bolt11.decode(invoice)
    return {
        "status": "SUCCEEDED",
        "payment_preimage": preimage.hex(),
        "payment_hash": asked.payment_hash.hex(),
        "value_msat": str(asked.msat),
        "fee_msat": "0",
        "failure_reason": "FAILURE_REASON_NONE",
    }


def _from_this_machine(asked: Request) -> bool:
    """Tell whether a request came from loopback, without any sign of a proxy between.

    Behind a proxy everybody is 127.0.0.1; on a unix socket nobody has an address.
    """
    host = asked.host.rpartition(":")[0] or asked.host
    proxied = any(name in asked.headers for name in _FORWARDING) or any(
        name.lower().startswith("x-forwarded-")
        for name in asked.headers.keys()  # noqa: SIM118
    )
    return (
        not proxied
        and is_loopback(asked.remote_addr)
        and (host == "localhost" or is_loopback(host.strip("[]")))
    )

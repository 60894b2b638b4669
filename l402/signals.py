"""Blinker signals; the sender is the Flask app, and no argument holds a secret.

A receiver runs within the request, before its answer: keep it short. ``token_id`` is 64 hex digits.
"""

from blinker import Namespace

_signals = Namespace()

#: A challenge was issued: ``reason``, ``token_id`` (of the new token), ``msat``, ``endpoint``.
challenged = _signals.signal("l402-challenged")
#: A payment was seen for the first time, by any process: ``token_id``, ``payment_hash``, ``msat``.
first_paid = _signals.signal("l402-first-paid")
#: A paid request is let through to its view: ``token_id``, ``endpoint``.
admitted = _signals.signal("l402-admitted")
#: A request was refused, with or without a challenge: ``reason``, ``endpoint``.
refused = _signals.signal("l402-refused")
#: A request was refused for its rate: ``reason``, ``retry_after`` (seconds), ``endpoint``.
rate_limited = _signals.signal("l402-rate-limited")
#: Somebody revoked by hand: ``kind`` and ``subject``, as in the revocation table.
revoked = _signals.signal("l402-revoked")

"""Sell an API to machines: L402 for Flask.

The public names are these; see `l402.errors` for what is raised, `l402.signals` for what can be
listened to and `l402.testing` for a host's own tests.
"""

from l402.errors import ConfigurationError, L402Error
from l402.extension import L402
from l402.payment import CurrentPayment, current_payment
from l402.paywall import paywall
from l402.routes import Route, sold

__all__ = [
    "L402",
    "ConfigurationError",
    "CurrentPayment",
    "L402Error",
    "Route",
    "current_payment",
    "paywall",
    "sold",
]

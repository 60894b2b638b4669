"""The extension: the only place that knows all parts and puts them together."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask
from sqlalchemy.engine import make_url

from l402 import routes
from l402.blueprint import make_blueprint
from l402.errors import ConfigurationError
from l402.gate import Defaults, Gate
from l402.limits import Limits
from l402.nodes.base import Node
from l402.nodes.desk import NodeDesk
from l402.nodes.url import make_node
from l402.prices import Prices
from l402.protocol.keys import KeyRing
from l402.rates import make_rates
from l402.settings import Settings
from l402.storages import host_limiter, private_limiter
from l402.store import Store
from l402.terms import SAT

if TYPE_CHECKING:
    from flask_limiter import Limiter

_log = logging.getLogger("l402")
#: Most clients refuse by default to pay more than this for one request, satoshis.
_CLIENTS_CAP = 1000


class L402:
    """Sells the views of a Flask app that are under ``@paywall``.

    ``L402(app)``, or ``l402 = L402()`` and ``l402.init_app(app)`` in a factory; any number of
    apps. It reads the ``L402_…`` keys of ``app.config``, opens no connection and starts no
    thread.

    :param limiter: the host's own Flask-Limiter, whose storage is then used for our limits too
    :param clock: unix seconds; for tests
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        limiter: "Limiter | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limiter, self._clock = limiter, clock
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up an app for selling.

        :raises ConfigurationError: a setting is missing or wrong, or the app was set up already
        """
        if "l402" in app.extensions:
            raise ConfigurationError("this app has an L402 already; call init_app once")
        settings = Settings.from_config(app.config)
        keys = KeyRing(settings.secrets)
        node = make_node(
            settings.node, simulated_secret=keys.derive("simulated node"), clock=self._clock
        )
        gate = Gate(
            sender=app,
            defaults=_defaults(app, settings, node),
            keys=keys,
            desk=NodeDesk(node, settings.node_concurrency, self._clock),
            store=Store(_database_url(app, settings), settings.sqlite_synchronous),
            limits=self._limits(app, settings),
            prices=_prices(settings, self._clock),
            grace=settings.store_grace,
            clock=self._clock,
        )
        app.extensions["l402"] = gate
        if settings.url_prefix is not None:
            app.register_blueprint(make_blueprint(gate), url_prefix=settings.url_prefix)
        _check_at_first_request(app, gate)

    def _limits(self, app: Flask, settings: Settings) -> Limits:
        private = private_limiter(app.config, settings.ratelimit_storage_uri)
        return Limits(
            token=settings.rate_limit,
            challenge=settings.challenge_limit,
            challenge_total=settings.challenge_limit_total,
            limiter=host_limiter(self._limiter) if self._limiter else private,
        )


def _defaults(app: Flask, settings: Settings, node: Node) -> Defaults:
    simulated = node.network == "simulated"
    if simulated and not (settings.simulated or app.testing):
        raise ConfigurationError(
            "L402_NODE is simulated: and sells for no money; set L402_SIMULATED=True to allow it,"
            " or name a real node, such as lnd+https://127.0.0.1:8080?macaroon_path=…"
        )
    if simulated:
        _log.warning("the Lightning node is simulated: what is sold here earns no money")
    if settings.service is None and not simulated:
        raise ConfigurationError(
            "L402_SERVICE is not set; name what is sold, for example 'weather': it is signed into"
            " every token"
        )
    strict = node.custodial if settings.strict is None else settings.strict
    if strict and not node.can_look_up:
        raise ConfigurationError("L402_STRICT needs a node that can look up payments; set it False")
    return Defaults(
        service=settings.service or "app",
        network=node.network,
        valid_for=settings.valid_for,
        credit_valid_for=settings.credit_valid_for,
        invoice_expiry=settings.invoice_expiry,
        max_sats=settings.max_price,
        strict=strict,
    )


def _prices(settings: Settings, clock: Callable[[], float]) -> Prices:
    rates = make_rates(
        settings.rates, max_age=settings.rate_max_age, spread=settings.rate_spread, clock=clock
    )
    return Prices(settings.prices, rates)


def _database_url(app: Flask, settings: Settings) -> str:
    if settings.database_url is None:
        Path(app.instance_path).mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{Path(app.instance_path) / 'l402.db'}"
    try:
        make_url(settings.database_url)
    except Exception as error:  # the driver's message may quote the password
        raise ConfigurationError(
            "L402_DATABASE_URL is no database URL; write for example 'postgresql://user@host/name'"
        ) from error
    return settings.database_url


def _check_at_first_request(app: Flask, gate: Gate) -> None:
    """Look at all routes once they are known, before the first response.

    Flask has no event for the end of the set-up. While the check fails no request is served;
    once it passes, nothing of it is left on the host.
    """

    def check() -> None:
        routes.check(app)
        _warn(app, gate)
        hooks: Any = app.before_request_funcs
        # A new list: Flask may be walking the old one, and would skip the hook after ours.
        hooks[None] = [hook for hook in hooks.get(None, ()) if hook is not check]

    app.before_request_funcs.setdefault(None, []).insert(0, check)


def _warn(app: Flask, gate: Gate) -> None:
    for rule, method, written in routes.marked(app):
        terms = gate.terms(written, rule.endpoint, method)
        if (price := terms.constant) is not None:
            _check_sum(rule.rule, -(-terms.total(price) // SAT), gate.defaults.max_sats)
        if rule.rule.endswith("/") and rule.rule != "/":
            _log.warning("%s redirects callers without its '/': some never pay then", rule.rule)


def _check_sum(rule: str, sats: int, most: int) -> None:
    if sats > most:
        raise ConfigurationError(f"{rule} costs {sats} sat, above L402_MAX_PRICE ({most})")
    if sats > _CLIENTS_CAP:
        _log.warning("%s costs %d sat: most clients refuse above 1000", rule, sats)

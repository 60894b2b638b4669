"""Checks of the rate limits: where they are counted, and whom."""

from werkzeug.middleware.proxy_fix import ProxyFix

from l402.doctor.patient import Patient
from l402.doctor.verdict import Verdict, error, ok, unknown, warning
from l402.errors import ConfigurationError


def rate_limits(patient: Patient) -> Verdict:
    """See that the limits' storage counts, and for whom."""
    try:
        storage = patient.gate.limits.probe()
    except ConfigurationError:
        raise
    except Exception as fault:  # each storage has errors of its own, which may quote its URL
        return error(
            f"the limits' storage failed with {type(fault).__name__}: each process counts for"
            " itself, and sells less",
            "start it, or correct L402_RATELIMIT_STORAGE_URI",
        )
    if storage is not None:
        return ok(f"{storage} counts for all processes")
    if patient.workers is None:
        return unknown("counted in memory: right for one process; name their number by --workers")
    if patient.workers > 1:
        return warning(
            f"counted in memory, by each of {patient.workers} processes for itself: together they"
            f" allow {patient.workers} times as much",
            "set L402_RATELIMIT_STORAGE_URI, for example redis://127.0.0.1:6379",
        )
    return ok("counted in memory, by the one process")


def proxy(patient: Patient) -> Verdict:
    """Tell what is wrapped around the app; what is in front of it shows in requests alone."""
    layers = list(_layers(patient.app.wsgi_app))
    fix = next((layer for layer in layers if isinstance(layer, ProxyFix)), None)
    if fix is not None and not fix.x_for:
        return warning(
            "ProxyFix believes no X-Forwarded-For: all callers share one limit on challenges",
            "write ProxyFix(app.wsgi_app, x_for=1), with the number of your proxies",
        )
    if fix is not None:
        return ok(
            f"ProxyFix believes {fix.x_for} of X-Forwarded-For; whether there are as many proxies"
            " shows in requests alone"
        )
    others = ", ".join(type(layer).__name__ for layer in layers)
    wrapped = f", though {others} may do its work" if others else ""
    return unknown(
        f"no ProxyFix was found{wrapped}: right only if callers reach this server directly"
    )


def _layers(wsgi_app: object) -> list[object]:
    """Return the middleware around an app, the outermost first, as far as it can be seen."""
    layers: list[object] = []
    while wsgi_app is not None and not hasattr(wsgi_app, "__func__") and wsgi_app not in layers:
        layers.append(wsgi_app)
        inner = (getattr(wsgi_app, name, None) for name in ("app", "wsgi_app", "_app"))
        wsgi_app = next((found for found in inner if callable(found)), None)
    return layers

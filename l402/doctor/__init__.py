"""What can be wrong with a set-up, looked at one thing after another; `examine` does it all.

A check is a function that looks at one thing of the patient and gives a verdict.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from flask import Flask

from l402.doctor import configuration, database, limits, node, sales
from l402.doctor.loading import load
from l402.doctor.patient import Patient
from l402.doctor.verdict import Severity, Verdict, error, told, unknown
from l402.errors import L402Error

__all__ = ["CHECKS", "Severity", "Verdict", "examine"]


class Check(NamedTuple):
    """A check by its name; those that it `needs` must have found no error before it is done.

    `fix` goes with an error that names none itself.
    """

    name: str
    look: Callable[[Patient], Verdict]
    needs: tuple[str, ...] = ()
    fix: str = "see docs/configuration.md"


_DATABASE = "start the database, or correct L402_DATABASE_URL"
_WRITE = "end what holds the database, and let the app's user write to all tables that begin l402_"
_NODE = "start the node, or correct host and port in L402_NODE"
_ANSWERING = ("node", "certificate")

CHECKS = (
    Check("configuration", configuration.settings),
    Check("secret", configuration.secret),
    Check("secret_file", configuration.secret_file),
    Check("service", configuration.service),
    Check("routes", sales.routes),
    Check("rates", sales.rates, ("routes",)),
    Check("proxy", limits.proxy),
    Check("database", database.database),
    Check("database_version", database.database_version, ("database",), _DATABASE),
    Check("database_clock", database.database_clock, ("database",), _DATABASE),
    Check("file_system", database.file_system, ("database",)),
    Check("schema", database.schema, ("database", "database_version"), _DATABASE),
    Check("writable", database.writable, ("schema",), _WRITE),
    Check("rate_limits", limits.rate_limits),
    Check("node", node.node, fix=_NODE),
    Check("certificate", node.certificate, ("node",), _NODE),
    Check("permissions", node.permissions),
    Check("invoice", node.invoice, _ANSWERING, _NODE),
    Check("network", node.network, ("invoice",)),
    Check("node_clock", node.node_clock, ("network",)),
    Check("look_up", node.look_up, _ANSWERING, _NODE),
    Check("challenge", node.challenge, ("schema", "node_clock"), _DATABASE),
)


def examine(
    app: Callable[[], Flask], *, workers: int | None = None, invoicing: bool = True
) -> Iterator[tuple[str, Verdict]]:
    """Yield the name and the verdict of each check, in the order in which they are done.

    `app` loads the app; what keeps it from that is the verdict on the configuration. `workers` is
    how many processes serve it, if that is known; without `invoicing` the node issues no invoice.
    """
    loaded = load(app)
    if isinstance(loaded, Verdict):
        yield CHECKS[0].name, loaded
        for check in CHECKS[1:]:
            yield check.name, _not_done(CHECKS[0].name)
        return
    with loaded[0].app_context():
        yield from _done(Patient(*loaded, workers, invoicing))


def _done(patient: Patient) -> Iterator[tuple[str, Verdict]]:
    stuck: set[str] = set()
    for check in CHECKS:
        cause = next((name for name in check.needs if name in stuck), None)
        verdict = _not_done(cause) if cause else _verdict(check, patient)
        if verdict.passed is None or verdict.severity is Severity.ERROR:
            stuck.add(check.name)
        yield check.name, verdict


def _verdict(check: Check, patient: Patient) -> Verdict:
    try:
        return check.look(patient)
    except L402Error as fault:
        return told(fault, check.fix)
    except Exception as fault:  # its text may hold a secret
        return error(f"the check failed with {type(fault).__name__}", check.fix)


def _not_done(cause: str) -> Verdict:
    return unknown(f"not done: see {cause}")

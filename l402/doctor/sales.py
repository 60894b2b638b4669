"""Checks of what is sold: the routes, and what their prices are reckoned with."""

from collections.abc import Iterator

from l402 import routes as sold_routes
from l402.doctor.patient import Patient
from l402.doctor.verdict import Verdict, error, ok, warning
from l402.errors import RateError
from l402.rates import Money
from l402.terms import SAT, Terms

#: Most clients refuse by default to pay more than this for one request, satoshis.
_CLIENTS_CAP = 1000


def routes(patient: Patient) -> Verdict:
    """See that paywalls protect their routes, and that what they ask can be sold.

    :raises ConfigurationError: a route is open, or a price is configured for what is not sold
    """
    sold_routes.check(patient.app)
    sold = list(_sold(patient))
    if not sold:
        return warning("nothing is sold", "write @paywall(sats=10) below a route")
    sums = {rule: -(-terms.total(terms.constant or 0) // SAT) for rule, terms in sold}
    dearest = max(sums, key=lambda rule: sums[rule])
    costs, most = f"{dearest} costs {sums[dearest]} sat", patient.gate.defaults.max_sats
    if sums[dearest] > most:
        return error(
            f"{costs}, above L402_MAX_PRICE ({most}): the app will serve nothing",
            "raise the one or lower the other",
        )
    if sums[dearest] > _CLIENTS_CAP:
        return warning(
            f"{costs}, and most clients refuse above {_CLIENTS_CAP}",
            "sell less at a time, or tell your buyers",
        )
    for rule in sums:
        if rule.endswith("/") and rule != "/":
            return warning(
                f"{rule} redirects callers without its '/': some never pay then",
                f"write {rule.rstrip('/')}",
            )
    return ok(f"{len(sums)} sold, all of them under their paywalls")


def rates(patient: Patient) -> Verdict:
    """Have a price reckoned in each currency that prices are in."""
    priced = {
        terms.amount.currency: terms
        for _, terms in _sold(patient)
        if isinstance(terms.amount, Money)
    }
    found = []
    for currency, terms in priced.items():
        try:
            found.append(patient.gate.prices.quote(terms).rate)
        except RateError:
            return error(
                f"there is no rate of {currency}: what is priced in it is not sold",
                "see the log l402.rates, and correct L402_RATES",
            )
    return ok(f"one bitcoin is {', '.join(found)}" if found else "no price is in a currency")


def _sold(patient: Patient) -> Iterator[tuple[str, Terms]]:
    for rule, method, terms in sold_routes.marked(patient.app):
        yield rule.rule, patient.gate.terms(terms, rule.endpoint, method)

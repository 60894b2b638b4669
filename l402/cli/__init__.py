"""The command line ``flask l402``."""

from l402.cli.audit import audit
from l402.cli.catalogue import routes
from l402.cli.doctor import doctor
from l402.cli.export import export
from l402.cli.group import Group
from l402.cli.hand import credit, debit
from l402.cli.keys import keygen
from l402.cli.price import price
from l402.cli.purge import purge
from l402.cli.reconcile import reconcile
from l402.cli.revocation import revoke
from l402.cli.sales import list_, show
from l402.cli.schema import current, upgrade
from l402.cli.stats import stats
from l402.cli.wallet import wallet

_HELP = """Sell the views of a Flask app for Lightning payments (L402).

Name the app as for any other command of Flask: flask --app shop l402 routes. Begin with keygen
and upgrade; then routes says what is for sale, and list what was sold.

Times are in UTC; with --json, amounts are in msat and times ISO 8601.

\b
Exit codes:
  0  it worked
  1  it failed or was refused: the configuration, the database, a file, what an account has left;
     one line on stderr says why. Of audit, reconcile and purge: the books do not agree
  2  it was called wrongly, or what was named may mean several things
  3  what was named is not in the record
"""

cli = Group("l402", help=_HELP)
for _command in (
    keygen, upgrade, current, doctor, routes, price, list_, show, revoke, credit, debit, stats,
    audit, reconcile, export, purge, wallet,
):  # fmt: skip
    cli.add_command(_command)

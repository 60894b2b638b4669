"""A shop that sells the words of a stream, whose process may be told to kill itself at one of them.

Leases are short, as in `support.killed_app`, so that the uses of the dead are given back soon.
"""

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta

from flask import Flask, request

from l402 import L402, accounts, current_payment, paywall, sync
from l402.metering import Meter
from l402.store import leases

WORD = 100  # msat
CREDIT, RESERVE = 1_000, 20  # sat
LEASE, RENEW = 1.5, 0.3


#: What a process dies of having written down, before the chunk goes out; msat.
_last_note: list[int] = []


class _DyingMeter(Meter):
    def note(self, msat: int) -> None:
        super().note(msat)
        if _last_note and msat >= _last_note[0]:
            os.kill(os.getpid(), signal.SIGKILL)


def create_app() -> Flask:
    """Make the app from ``FLASK_L402_…``."""
    accounts.Meter = _DyingMeter
    leases.LEASE, leases.RENEW = timedelta(seconds=LEASE), RENEW
    sync._INTERVAL, sync._CHORES_EVERY = 0.1, 0.2
    app = Flask("metered")
    app.config.from_prefixed_env()
    app.config.update(L402_NODE="simulated:", L402_SIMULATED=True, L402_SERVICE="metered")
    L402(app)
    app.add_url_rule("/free", "free", lambda: "free")

    @app.get("/words/<int:count>")
    @paywall(credit=CREDIT, reserve=RESERVE)
    def words(count: int) -> Iterator[str]:
        charge, pause = current_payment.charge, request.args.get("pause", 0, float)
        die, charged = request.args.get("die", -1, int), "charged" in request.args
        _last_note[:] = request.args.getlist("note", int)

        def flow() -> Iterator[str]:
            for number in range(count):
                if number == die and not charged:
                    os.kill(os.getpid(), signal.SIGKILL)
                charge(msat=WORD)
                if number == die:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield f"word{number}\n"
                time.sleep(pause)

        return flow()

    return app

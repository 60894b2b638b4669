"""The app that is looked at, and what the checks order for it once and share."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from flask import Flask

from l402.errors import NodeError
from l402.gate import Gate
from l402.nodes.desk import Invoice
from l402.settings import Settings
from l402.terms import SAT

#: What the payer of the test's invoice would read; it holds no handle, so that no sale is found.
DESCRIPTION = "flask l402 doctor: a test, not to be paid"


class Order(NamedTuple):
    """An invoice as the desk handed it out, ordered and received at these unix seconds."""

    invoice: Invoice
    before: float
    after: float


@dataclass
class Patient:
    """One app with its gate; `workers` processes serve it, if that is known.

    `invoicing` tells whether an invoice may be ordered.
    """

    app: Flask
    gate: Gate
    workers: int | None = None
    invoicing: bool = True

    @cached_property
    def settings(self) -> Settings:
        """The configuration, read once more for what the gate does not keep.

        :raises ConfigurationError: it was changed since, and is wrong now
        """
        return Settings.from_config(self.app.config)

    @cached_property
    def order(self) -> Order | NodeError:
        """An invoice over 1 sat, or why there is none."""
        clock = self.gate.clock
        before = clock()
        try:
            invoice = self.gate.desk.create_invoice(
                SAT, DESCRIPTION, self.gate.defaults.invoice_expiry
            )
        except NodeError as fault:
            return fault
        return Order(invoice, before, clock())

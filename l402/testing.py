"""For a host's own tests: a client that pays, and a way past the paywall without paying.

::

    app.config.update(TESTING=True, L402_NODE="simulated:", …)
    app.test_client_class = PayingClient
    assert app.test_client().get("/quote").status_code == 200

    with without_payment(app):
        assert app.test_client().get("/quote").status_code == 200
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

from l402.nodes.simulated import SimulatedNode
from l402.payment import CurrentPayment

_CHALLENGE = re.compile(r'L402 macaroon="([^"]+)", invoice="([^"]+)"')


class PayingClient(FlaskClient):
    """A test client that answers a 402 by paying at the app's simulated node, and asks again.

    It keeps its latest token and shows it with every request that brings no Authorization of its
    own. `payments` counts what it paid.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.payments = 0
        self.authorization: str | None = None

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """Send a request; pay at most once for it."""
        response = self._send(*args, **kwargs)
        challenge = _CHALLENGE.match(response.headers.get("WWW-Authenticate", ""))
        if response.status_code != 402 or not challenge:
            return response
        node = self.application.extensions["l402"].desk.node
        if not isinstance(node, SimulatedNode):
            raise RuntimeError(
                "PayingClient pays at the simulated node: set L402_NODE='simulated:'"
            )
        preimage = node.settle(challenge[2])
        self.payments += 1
        self.authorization = f"L402 {challenge[1]}:{preimage.hex()}"
        return self._send(*args, **kwargs)

    def _send(self, *args: Any, **kwargs: Any) -> TestResponse:
        headers = Headers(kwargs.pop("headers", None))
        if self.authorization:
            headers.setdefault("Authorization", self.authorization)
        return super().open(*args, headers=headers, **kwargs)


@contextmanager
def without_payment(app: Flask) -> Iterator[None]:
    """Serve every view under a paywall for free while the block runs; only for an app under test.

    :raises RuntimeError: ``app.testing`` is not set
    """
    if not app.testing:
        raise RuntimeError("without_payment is for tests: set TESTING=True")
    gate = app.extensions["l402"]
    with patch.object(gate, "admit", lambda *_: CurrentPayment(None)):
        yield

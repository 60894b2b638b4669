"""What every client must be able to do; a test file names the client and inherits the tests."""

import time
from typing import ClassVar

from support.buyers import Answer, Buyer
from support.example_server import ExampleServer

_REVOKED_WITHIN = 30  # seconds; a running server takes up to one


class Purchases:
    """Tests of one client, whose module has the fixtures `server` and `buyer`."""

    #: The client shows one token at every view of the host.
    one_token_per_host: ClassVar[bool]
    #: Where a kept token is refused, the client buys another by itself.
    buys_again: ClassVar[bool]

    def test_first_purchase(self, buyer: Buyer) -> None:
        """The first request is paid for once and answered."""
        assert buyer.fetch("/quote").status == 200
        assert len(buyer.wallet.paid) == 1
        assert buyer.wallet.msat == 10_000

    def test_repeat(self, buyer: Buyer) -> None:
        """The same request again costs nothing."""
        statuses = [buyer.fetch("/quote").status for _ in range(3)]
        assert statuses == [200, 200, 200]
        assert len(buyer.wallet.paid) == 1

    def test_other_view(self, buyer: Buyer) -> None:
        """Another view of the price takes the same token, if the client shows it there."""
        views = ["/quote", "/fact", "/quote", "/fact"]
        assert [buyer.fetch(view).status for view in views] == [200] * 4
        assert len(buyer.wallet.paid) == (1 if self.one_token_per_host else 2)

    def test_post(self, buyer: Buyer) -> None:
        """A POST arrives with its body after the payment, and again with the kept token."""
        for body in ({"say": "grüezi"}, {"rows": list(range(500))}):
            answer = buyer.fetch("/echo", body)
            assert (answer.status, answer.json) == (200, body)
        assert len(buyer.wallet.paid) == 1

    def test_query(self, buyer: Buyer) -> None:
        """The query stands in the paid request too, and sets its price."""
        answer = buyer.fetch("/report?rows=3")
        assert answer.status == 200
        assert len(answer.json["rows"]) == 3
        assert (len(buyer.wallet.paid), buyer.wallet.msat) == (1, 3_000)

    def test_revoked(self, buyer: Buyer, server: ExampleServer) -> None:
        """Once its token is revoked, the client buys anew with one payment."""
        assert buyer.fetch("/quote").status == 200
        server.revoke(buyer.wallet.paid[0])
        end = time.monotonic() + _REVOKED_WITHIN
        answer = buyer.fetch("/quote")
        while answer.status == 200 and len(buyer.wallet.paid) == 1 and time.monotonic() < end:
            answer = buyer.fetch("/quote")
        self._bought_anew(buyer, answer)

    def test_key_removed(self, buyer: Buyer, server: ExampleServer) -> None:
        """Once the key that signed its token is removed, the client buys anew with one payment."""
        assert buyer.fetch("/quote").status == 200
        server.remove_key()
        self._bought_anew(buyer, buyer.fetch("/quote"))

    def _bought_anew(self, buyer: Buyer, answer: Answer) -> None:
        if not self.buys_again:
            assert (answer.status, len(buyer.wallet.paid)) == (402, 1)
            answer = buyer.fetch("/quote", afresh=True)
        assert (answer.status, len(buyer.wallet.paid)) == (200, 2)
        assert buyer.fetch("/quote").status == 200
        assert len(buyer.wallet.paid) == 2

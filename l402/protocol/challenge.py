"""The challenge: ``WWW-Authenticate`` and body of a 402, as deployed clients read them."""

from base64 import b64encode
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Challenge:
    """A token and the invoice that, once paid, makes it good.

    `token` is the macaroon's bytes, `invoice` a BOLT11 text, `msat` the invoice's amount and
    `price_msat` the price of the request that was refused.
    """

    token: bytes = field(repr=False)  # once paid, it opens the view
    invoice: str
    payment_hash: bytes
    msat: int
    price_msat: int

    @property
    def macaroon(self) -> str:
        """The token's text: standard base64, padded."""
        return b64encode(self.token).decode()

    @property
    def header(self) -> str:
        """The value of ``WWW-Authenticate``.

        The specification puts ``version`` and ``token`` first; most deployed clients match
        ``L402 macaroon="…", invoice="…"`` to the byte, so what it adds comes behind. Werkzeug's
        own ``WWWAuthenticate`` leaves values unquoted and changes the scheme's case.
        """
        macaroon = self.macaroon
        return (
            f'L402 macaroon="{macaroon}", invoice="{self.invoice}", version="0", token="{macaroon}"'
        )

    @property
    def body(self) -> dict[str, str | int]:
        """The JSON fields for clients that read the body alone; amounts in whole satoshis."""
        return {
            "macaroon": self.macaroon,
            "token": self.macaroon,
            "invoice": self.invoice,
            "paymentRequest": self.invoice,
            "amountSats": self.msat // 1000,
            "priceSats": -(-self.price_msat // 1000),
            "payment_hash": self.payment_hash.hex(),
        }

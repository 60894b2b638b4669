"""The buyer's wallet, on lnd's REST interface."""

import ssl
from pathlib import Path

import httpx
from l402_requests.wallets import WalletBase
from narration import expect, show, step

_PAYMENT = 30  # seconds


class Wallet(WalletBase):
    """The buyer's wallet: an lnd, or the example's stand-in for one, which answers alike."""

    def __init__(self, rest: str, macaroon_hex: str, tls_cert: Path | None = None) -> None:
        self._url, self._macaroon = f"{rest}/v2/router/send", macaroon_hex
        self._verify = ssl.create_default_context(cafile=tls_cert) if tls_cert else True
        self.preimages: list[str] = []

    async def pay_invoice(self, bolt11: str) -> str:
        """Pay and return the preimage in hex."""
        order = {"payment_request": bolt11, "timeout_seconds": _PAYMENT, "fee_limit_sat": "10"}
        async with httpx.AsyncClient(
            trust_env=False, verify=self._verify, timeout=_PAYMENT + 5
        ) as http:
            answer = await http.post(
                self._url,
                json=order | {"no_inflight_updates": True},
                headers={"Grpc-Metadata-macaroon": self._macaroon},
            )
        payment = answer.raise_for_status().json()["result"]
        expect(payment["status"] == "SUCCEEDED", f"the wallet could pay: {payment}")
        self.preimages.append(payment["payment_preimage"])
        step(f"the client pays the invoice ({int(payment['value_msat']) // 1000} sat)")
        show("invoice", bolt11)
        show("preimage", payment["payment_preimage"])
        return self.preimages[-1]

"""lnd as a node of a private network, spoken to over REST as its administrator."""

from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from support.daemons import Chain, NotYet, Process, free_port

_ANSWER = 60  # seconds


class Lnd:
    """One lnd; its wallet is made and opened at the start, unless a test wants to do that."""

    def __init__(
        self,
        name: str,
        program: Path,
        folder: Path,
        chain: Chain,
        flags: str = "--noseedbackup",
    ) -> None:
        self.name, self.folder, self.tls_cert = name, folder, folder / "tls.cert"
        self.peer, self.grpc, self.rest = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.process = Process(
            program,
            folder,
            f"--bitcoin.regtest --nobootstrap {flags}",
            lnddir=folder,
            alias=name,
            listen=self.peer,
            rpclisten=self.grpc,
            restlisten=self.rest,
            trickledelay=50,
            **{
                "bitcoin.node": "btcd",
                "bitcoin.defaultchanconfs": 1,
                "btcd.rpchost": chain.address,
                "btcd.rpcuser": "user",
                "btcd.rpcpass": "password",
                "btcd.rpccert": chain.cert,
                "gossip.sub-batch-delay": "5ms",
                "db.batch-commit-interval": "10ms",
            },
        )

    @property
    def url(self) -> str:
        """Where its REST interface is."""
        return f"https://{self.rest}"

    def macaroon(self, name: str = "admin") -> Path:
        """Return the file of a macaroon that lnd made at its first start."""
        return self.folder / "data/chain/bitcoin/regtest" / f"{name}.macaroon"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call lnd as its administrator; anything but a 200 is `NotYet`."""
        self.process.check()
        admin = self.macaroon()  # there is none before there is a wallet
        answer = requests.request(
            method,
            self.url + path,
            json=body,
            headers={"Grpc-Metadata-macaroon": admin.read_bytes().hex()} if admin.exists() else {},
            verify=str(self.tls_cert),
            timeout=_ANSWER,
        )
        if answer.status_code != 200:
            raise NotYet(f"{self.name}: {method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def bake(self, folder: Path, *permissions: str) -> Path:
        """Have a macaroon made of permissions such as ``invoices:read``; return its file."""
        pairs = [permission.split(":") for permission in permissions]
        order = {"permissions": [{"entity": entity, "action": what} for entity, what in pairs]}
        path = folder / f"{self.name}.macaroon"
        path.write_bytes(bytes.fromhex(self.call("POST", "/v1/macaroon", order)["macaroon"]))
        return path

    def node_url(self, macaroon: Path, **parameters: object) -> str:
        """Return the URL by which the project is told of this node."""
        given = {"macaroon_path": macaroon, "tls_cert_path": self.tls_cert, "network": "regtest"}
        query = "&".join(f"{k}={quote(str(v), safe='/')}" for k, v in (given | parameters).items())
        return f"lnd+{self.url}?{query}"

    def send(self, invoice: str) -> dict[str, Any]:
        """Try to pay a BOLT11 invoice; return lnd's Payment."""
        order = {"payment_request": invoice, "timeout_seconds": 30, "fee_limit_sat": "10"}
        order["no_inflight_updates"] = True
        payment: dict[str, Any] = self.call("POST", "/v2/router/send", order)["result"]
        return payment

    def pay(self, invoice: str) -> bytes:
        """Pay a BOLT11 invoice and return the preimage."""
        payment = self.send(invoice)
        if payment["status"] != "SUCCEEDED":
            raise NotYet(f"{self.name} could not pay: {payment['failure_reason']}")
        return bytes.fromhex(payment["payment_preimage"])

    @property
    def state(self) -> str:
        """How far it has come: NON_EXISTING, LOCKED, UNLOCKED, RPC_ACTIVE or SERVER_ACTIVE."""
        said: str = self.call("GET", "/v1/state")["state"]
        return said

    def create_wallet(self, password: str) -> None:
        """Make its wallet, as ``lncli create`` does."""
        seed = self.call("GET", "/v1/genseed")["cipher_seed_mnemonic"]
        order = {"wallet_password": _encoded(password), "cipher_seed_mnemonic": seed}
        self.call("POST", "/v1/initwallet", order)

    def unlock(self, password: str) -> None:
        """Open its wallet, as ``lncli unlock`` does."""
        self.call("POST", "/v1/unlockwallet", {"wallet_password": _encoded(password)})

    def synced(self, height: int) -> bool:
        """Tell whether it knows the chain up to `height`."""
        info = self.call("GET", "/v1/getinfo")
        return bool(info["synced_to_chain"]) and info["block_height"] >= height


def _encoded(password: str) -> str:
    return b64encode(password.encode()).decode()

"""LNbits with its FakeWallet, which settles among the wallets of one LNbits and nowhere else."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from clients.environments import environment, run

from support.daemons import NotYet, await_that, free_port

_REQUIREMENTS = Path(__file__).parents[1] / "lightning" / "lnbits-requirements.txt"
_ANSWER = 60  # seconds
_END = 20


def lnbits_python() -> Path:
    """Return the interpreter that has LNbits; make its environment if there is none yet.

    :raises RuntimeError: no interpreter is old enough, or its packages cannot be had
    """
    return environment("lnbits", _REQUIREMENTS, _install) / "bin" / "python"


def _install(folder: Path) -> None:
    run(_interpreter(), "-m", "venv", str(folder))
    pip = str(folder / "bin" / "pip")
    run(pip, "install", "--quiet", "--no-deps", "-r", str(_REQUIREMENTS))


def _interpreter() -> str:
    """Return a Python that LNbits runs on, this one if it can be."""
    if sys.version_info < (3, 13):
        return sys.executable
    found = shutil.which("python3.12") or shutil.which("python3.11")
    if found is None:
        raise RuntimeError("LNbits needs Python 3.11 or 3.12, and neither is on PATH")
    return found


class Wallet:
    """One wallet, by its administrator's key."""

    def __init__(self, lnbits: "Lnbits", name: str) -> None:
        self._lnbits = lnbits
        made = lnbits.call("POST", "/api/v1/account", {"name": name})
        self.id: str = made["id"]
        self.invoice_key: str = made["inkey"]
        self._admin_key: str = made["adminkey"]

    def pay(self, invoice: str) -> bytes:
        """Pay a BOLT11 invoice of another wallet and return the preimage."""
        paid = self.call("POST", "/api/v1/payments", {"out": True, "bolt11": invoice})
        assert paid["status"] == "success"
        return bytes.fromhex(paid["preimage"])

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call LNbits as the wallet's owner."""
        return self._lnbits.call(method, path, body, {"X-Api-Key": self._admin_key})

    @property
    def sats(self) -> int:
        """Its balance."""
        balance: int = self.call("GET", "/api/v1/wallet")["balance"]
        assert balance % 1000 == 0
        return balance // 1000


class Lnbits:
    """One LNbits, whose data are in `folder`; it is installed, and its superuser signed in."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        python = lnbits_python()
        self._command = [str(python), "-m", "uvicorn", "lnbits.__main__:app"]
        self._command += ["--host", "127.0.0.1", "--port", str(self._port)]
        for name in ("data/logs", "extensions/extensions"):
            (folder / name).mkdir(parents=True)
        # It looks for its pages where it is started.
        (package,) = python.parents[1].glob("lib/python3.*/site-packages/lnbits")
        (folder / "lnbits").symlink_to(package)
        self.start()
        password = {"password": (word := secrets.token_hex(16)), "password_repeat": word}
        self._token = self.call(
            "PUT", "/api/v1/auth/first_install", {"username": "operator", **password}
        )["access_token"]

    def start(self) -> None:
        """Start it, again if it was stopped, and wait for its first answer."""
        nowhere = "http://127.0.0.1:9"  # it would fetch prices and lists of extensions
        ours = {
            "HTTP_PROXY": nowhere,
            "HTTPS_PROXY": nowhere,
            "NO_PROXY": "127.0.0.1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LNBITS_BACKEND_WALLET_CLASS": "FakeWallet",
            "LNBITS_ADMIN_UI": "true",
            "LNBITS_DATA_FOLDER": str(self._folder / "data"),
            "LNBITS_EXTENSIONS_PATH": str(self._folder / "extensions"),
            "LNBITS_RATE_LIMIT_NO": "100000",
        }
        with (self._folder / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder), **ours},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await_that("LNbits", self._answers)

    def stop(self) -> None:
        """End it, gently at first."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END)

    def wallet(self, name: str, sats: int = 0) -> Wallet:
        """Make a wallet with a balance."""
        made = Wallet(self, name)
        if sats:
            bearer = {"Authorization": f"Bearer {self._token}"}
            self.call("PUT", "/users/api/v1/balance", {"id": made.id, "amount": sats}, bearer)
        return made

    def node_url(self, key: str) -> str:
        """Return the URL by which the project is told of the wallet of an invoice key."""
        return f"lnbits+{self.url}?key={key}"

    def call(self, method: str, path: str, body: object, headers: Any = None) -> Any:
        """Call it; anything but a success is `NotYet`."""
        answer = requests.request(
            method, self.url + path, json=body, headers=headers, timeout=_ANSWER
        )
        if not answer.ok:
            raise NotYet(f"LNbits: {method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            said = (self._folder / "output.log").read_text(errors="replace")[-2000:]
            raise AssertionError(f"LNbits ended:\n{said}")
        return requests.get(self.url, allow_redirects=False, timeout=_ANSWER).status_code < 500

"""Buy from the example API with a real client, step by step, then go on serving it.

``PORT`` is where it listens (5402); with ``ONCE=1`` it ends after the last step, with a code other
than zero if any step went otherwise than it should.
"""
# ruff: noqa: S603, T201

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from l402_requests import L402Client
from l402_requests.wallets import WalletBase
from sqlalchemy import create_engine, text

ROOT = Path(__file__).resolve().parents[1]
PORT = int(os.environ.get("PORT") or 5402)
BASE = f"http://127.0.0.1:{PORT}"
DEADLINE = 30.0  # seconds for the server to answer at all
NUMBERS = count(1)
LOGGING = ("--log-level", "warning")
ENDING = (signal.SIGINT, signal.SIGTERM)
PROPAGATION = 3.0  # seconds; a revocation reaches every process within one

ENVIRONMENT = os.environ | {
    "APP_CONFIG": os.environ.get("APP_CONFIG", "development"),
    "PORT": str(PORT),  # for `flask l402 wallet`
}


class DemoFailed(Exception):
    """A step went otherwise than it should."""


class SimulatedWallet(WalletBase):
    """The buyer's wallet: it pays at the example's simulated node as it would at an lnd."""

    def __init__(self, rest: str, macaroon_hex: str) -> None:
        self._url, self._macaroon = f"{rest}/v2/router/send", macaroon_hex
        self.preimages: list[str] = []

    async def pay_invoice(self, bolt11: str) -> str:
        """Pay and return the preimage in hex."""
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(
                self._url,
                json={"payment_request": bolt11, "timeout_seconds": 10},
                headers={"Grpc-Metadata-macaroon": self._macaroon},
            )
        payment = answer.raise_for_status().json()["result"]
        expect(payment["status"] == "SUCCEEDED", f"the wallet could not pay: {payment}")
        self.preimages.append(payment["payment_preimage"])
        step(f"the client pays the invoice ({int(payment['value_msat']) // 1000} sat)")
        show("invoice", bolt11)
        show("preimage", payment["payment_preimage"])
        return self.preimages[-1]


def main() -> int:
    """Run the demonstration; return the exit code."""
    for number in ENDING:
        signal.signal(number, interrupt)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        with serving() as server:
            try:
                purchase()
            except (DemoFailed, httpx.HTTPError) as error:
                print(f"\nThis step went wrong: {error}", file=sys.stderr)
                return 1
            if os.environ.get("ONCE"):
                print("\nEvery step went as it should.")
                return 0
            with suppress(KeyboardInterrupt):
                print(f"\nServing on {BASE} until Ctrl-C. Try: curl -i {BASE}/quote")
                return server.wait()
            return 0
    except DemoFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def interrupt(number: int, frame: FrameType | None) -> None:
    """End the demonstration at the first signal; make passes Ctrl-C on by another."""
    for ending in ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def purchase() -> None:
    """Walk through one sale, from the price list to the revocation."""
    step("GET /  (free: what is for sale)")
    for item in expect_status(ask(f"{BASE}/"), 200).json()["for_sale"]:
        print(f"   {item['method']:4} {item['path']:8} {item['price']}")

    step("GET /quote without payment")
    challenge = expect_status(ask(f"{BASE}/quote"), 402)
    show("WWW-Authenticate", challenge.headers["WWW-Authenticate"])

    wallet = SimulatedWallet(**json.loads(flask("l402", "wallet", "--json")))
    client = L402Client(wallet=wallet, trust_env=False)
    print("\nNow the same with l402-requests, a client that pays when it meets a 402.")
    bought = expect_status(client.get(f"{BASE}/quote"), 200, "GET /quote, paid")
    expect(len(wallet.preimages) == 1, "the first purchase is one payment")
    print(f"   {bought.text.strip()}")
    authorization = bought.request.headers["Authorization"]
    show("sent with Authorization", authorization)

    again = expect_status(client.get(f"{BASE}/quote"), 200, "GET /quote once more")
    expect(len(wallet.preimages) == 1, "the repeat pays nothing")
    print(f"   {again.text.strip()}\n   no payment: the token is good for any number of calls")

    step("the sale in the database")
    token_id = record(wallet.preimages[0])
    step(f"flask --app app l402 revoke {token_id[:16]}…")
    print(textwrap.indent(flask("l402", "revoke", token_id).strip(), "   "))

    refused = until_refused(authorization)
    expect_status(refused, 402, "GET /quote with the revoked token")
    expect(refused.json()["reason"] == "revoked", "the reason is that it was revoked")
    print(f"   reason: {refused.json()['reason']}, and a fresh invoice")


@contextmanager
def serving() -> Iterator[subprocess.Popen[bytes]]:
    """Migrate, start the example under gunicorn, and stop it at the end."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            raise DemoFailed(f"port {PORT} is taken; write make demo PORT=…") from error
    flask("l402", "upgrade")
    options = f"--bind 127.0.0.1:{PORT} --worker-class gthread --threads 4 --graceful-timeout 5"
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options.split(), *LOGGING, "app:create_app()"],
        cwd=ROOT,
        env=ENVIRONMENT,
        start_new_session=True,  # Ctrl-C is for us; the server is told once, in the end
    )
    try:
        wait_until_ready(server)
        print(f"The example API answers on {BASE}.")
        yield server
    finally:
        server.terminate()
        server.wait(timeout=DEADLINE)


def wait_until_ready(server: subprocess.Popen[bytes]) -> None:
    """Return once the server answers."""
    deadline = time.monotonic() + DEADLINE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            ask(f"{BASE}/")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise DemoFailed("the server did not start")


def record(preimage: str) -> str:
    """Print the row of a payment; return the token's id."""
    database = ENVIRONMENT.get("FLASK_L402_DATABASE_URL") or f"sqlite:///{ROOT}/instance/l402.db"
    payment_hash = sha256(bytes.fromhex(preimage)).hexdigest()
    query = text(
        "SELECT token_id, payment_hash, service, endpoint, msat, presented_at, ends_at, status"
        " FROM l402_payment WHERE payment_hash = :payment_hash"
    )
    engine = create_engine(database)
    with engine.connect() as connection:
        rows = connection.execute(query, {"payment_hash": payment_hash}).mappings().all()
    engine.dispose()
    expect(len(rows) == 1, f"one row stands for the payment, not {len(rows)}")
    for column, value in rows[0].items():
        print(f"   {column:13} {value}")
    return str(rows[0]["token_id"])


def until_refused(authorization: str) -> httpx.Response:
    """Show a revoked token until it is refused: it takes up to a second to reach a process."""
    deadline = time.monotonic() + PROPAGATION
    while True:
        response = ask(f"{BASE}/quote", Authorization=authorization)
        if response.status_code != 200 or time.monotonic() > deadline:
            return response
        time.sleep(0.1)


def ask(url: str, **headers: str) -> httpx.Response:
    """Send a GET to this machine, past any proxy that the environment names."""
    return httpx.get(url, headers=headers, trust_env=False)


def flask(*arguments: str) -> str:
    """Run the flask command on the example; return what it printed."""
    command = [sys.executable, "-m", "flask", "--app", "app", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    expect(done.returncode == 0, f"flask {' '.join(arguments)} succeeds:\n{done.stderr}")
    return done.stdout


def step(title: str) -> None:
    """Print a step's headline, numbered."""
    print(f"\n{next(NUMBERS)}. {title}")


def show(name: str, value: Any) -> None:
    """Print a value with what is too long to read cut short."""
    short = re.sub(r"[A-Za-z0-9+/=_-]{60,}", lambda long: f"{long[0][:32]}…{long[0][-8:]}", value)
    print(f"   {name}: {short}")


def expect(right: bool, sentence: str) -> None:
    """Raise unless a step went as it should."""
    if not right:
        raise DemoFailed(f"expected that {sentence}")


def expect_status(response: httpx.Response, status: int, title: str = "") -> httpx.Response:
    """Print an answer's status line, under a headline if given one, and check it."""
    if title:
        step(title)
    print(f"   HTTP {response.status_code} {response.reason_phrase}")
    expect(response.status_code == status, f"{response.request.url} answers {status}")
    return response


if __name__ == "__main__":
    sys.exit(main())

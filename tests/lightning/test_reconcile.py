"""Reconciling with a real lnd: to the satoshi, whatever else its invoices are for."""

import json
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256

import pytest
import requests
from support.http_servers import Certificate, serving
from support.relays import relay
from support.shops import ask, challenge, selling_behind, selling_for
from test_strict import Between, Held

pytest_plugins = ["support.regtest"]
pytestmark = pytest.mark.lightning

PURCHASES, UNUSED, AT_A_TIME, SATS = 200, 23, 4, 10
WITHIN = 120  # seconds


class Shop:
    """A running shop, and what was bought there; its books are compared by the command."""

    def __init__(self, running, regtest, folder):
        self.running, self.regtest, self.folder = running, regtest, folder
        self.shown, self.unused = set(), set()  # payment hashes in hex
        latest = regtest.bob.call("GET", "/v1/invoices?reversed=true&num_max_invoices=1")
        self.before = int(latest["last_index_offset"])  # of the first invoice here

    def buy(self, *, show=True, session=requests):
        """Buy a quotation, and use it unless told otherwise."""
        macaroon, invoice = challenge(ask(self.running, "/quote", session=session))
        preimage = self.regtest.alice.pay(invoice)
        if show:
            credential = f"L402 {macaroon}:{preimage.hex()}"
            assert ask(self.running, "/quote", credential, session=session).status_code == 200
        (self.shown if show else self.unused).add(sha256(preimage).hexdigest())

    def description(self):
        """What an invoice of the shop says, handle and all."""
        _, invoice = challenge(ask(self.running, "/quote"))
        said = self.regtest.alice.call("GET", f"/v1/payreq/{invoice}")["description"]
        assert " l402:" in said
        return said

    def record(self):
        """Return the URL of a copy of the record as it is now."""
        path = self.folder / f"{secrets.token_hex(4)}.db"
        original = self.running.database.removeprefix("sqlite:///")
        with closing(sqlite3.connect(original)) as source, closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
        return f"sqlite:///{path}"

    def command(self, *options, record, node=None):
        """Begin to reconcile a copy of the record; return the process."""
        environment = self.running._environment() | {"FLASK_L402_DATABASE_URL": record}
        if node is not None:
            environment["FLASK_L402_NODE"] = node
        return subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "app", "l402", "reconcile", *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def reconcile(self, *options, record, node=None):
        """Reconcile a copy of the record; return the exit code and the document, or the error."""
        process = self.command("--json", *options, record=record, node=node)
        told, said = process.communicate(timeout=WITHIN)
        return process.returncode, json.loads(told) if told else said

    def received(self, payment_hashes):
        """What lnd itself says that it received for these, in msat."""
        found = self.regtest.bob.call("GET", "/v1/invoices?num_max_invoices=100000")["invoices"]
        paid = {b64decode(each["r_hash"]).hex(): int(each["amt_paid_msat"]) for each in found}
        return sum(paid[each] for each in payment_hashes)


def unused(document):
    return {each["payment_hash"] for each in document["never_presented"]}


@pytest.fixture(scope="module")
def shop(regtest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    with selling_for(regtest.bob, folder) as running:
        sold = Shop(running, regtest, folder)
        purchase_all(sold)
        write_foreign_invoices(sold)
        sold.buy()
        yield sold


def purchase_all(shop):
    def purchase(numbers):
        with requests.Session() as session:
            for number in numbers:
                shop.buy(show=number >= UNUSED, session=session)

    shares = [range(buyer, PURCHASES, AT_A_TIME) for buyer in range(AT_A_TIME)]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(purchase, shares))


def write_foreign_invoices(shop):
    """Have bob paid for other things too, some of which pass themselves off as the shop's."""
    genuine = shop.description()
    forged = f"{genuine[:-8]}{int(genuine[-8:], 16) ^ 1:08x}"
    alice, bob = shop.regtest.alice, shop.regtest.bob
    for memo in ["", "a coffee", forged, f"{genuine} again", genuine.upper()] * 3:
        order = {"memo": memo, "value": "7"}
        alice.pay(bob.call("POST", "/v1/invoices", order)["payment_request"])
    bob.call("POST", "/v1/invoices", {"memo": "open for long", "value": "7", "expiry": "864000"})
    many_times = bob.call("POST", "/v1/invoices", {"value": "5", "is_amp": True})
    for _ in range(2):
        order = {"payment_request": many_times["payment_request"], "timeout_seconds": 30}
        order |= {"fee_limit_sat": "10", "no_inflight_updates": True, "amp": True}
        assert alice.call("POST", "/v2/router/send", order)["result"]["status"] == "SUCCEEDED"
    send_spontaneously(shop.regtest)


def send_spontaneously(regtest):
    """Have alice send bob what no invoice was written for."""
    public = bytes.fromhex(regtest.bob.call("GET", "/v1/getinfo")["identity_pubkey"])
    order = {"dest": b64encode(public).decode(), "amt": "5", "amp": True, "timeout_seconds": 30}
    order |= {"fee_limit_sat": "10", "no_inflight_updates": True, "dest_features": [9, 15, 17, 31]}
    sent = regtest.alice.call("POST", "/v2/router/send", order)["result"]
    assert sent["status"] == "SUCCEEDED", sent


def agrees(shop, code, document):
    """See that everything bought was found, and nothing else, as lnd's records have it."""
    sums = {name: (each["count"], each["msat"]) for name, each in document["totals"].items()}
    shown, left = len(shop.shown), len(shop.unused)
    assert (code, document["ok"]) == (0, True)
    assert unused(document) == shop.unused
    assert sums == {
        "settled": (shown + left, shop.received(shop.shown | shop.unused)),
        "presented": (shown, shop.received(shop.shown)),
        "unused": (left, shop.received(shop.unused)),
        "recorded": (shown, shown * SATS * 1000),
        "unread": (0, 0),
    }
    wrong = ("never_settled", "underpaid", "overpaid")
    return [document[name] for name in wrong] == [[], [], []]


def test_agrees_with_lnd(shop):
    """After 200 purchases among other invoices every satoshi is accounted for, also the next time.

    A macaroon that may read invoices and do nothing else is enough.
    """
    record = shop.record()
    assert len(shop.unused) == UNUSED
    assert len(shop.shown) == PURCHASES - UNUSED + 1
    reader = shop.regtest.bob.node_url(shop.regtest.bob.bake(shop.folder, "invoices:read"))
    code, document = shop.reconcile(record=record, node=reader)
    assert agrees(shop, code, document)
    assert document["read"]["new"] == PURCHASES + 1
    code, again = shop.reconcile(record=record)
    assert agrees(shop, code, again)
    assert again["read"]["new"] == 0
    assert again["read"]["invoices"] < 30  # what came after an invoice that is still open
    code, anew = shop.reconcile("--from-start", record=record)
    assert agrees(shop, code, anew)
    assert anew["read"] == {"invoices": document["read"]["invoices"], "new": 0}


@pytest.mark.parametrize("at_page", [1, 2])
def test_killed(shop, tmp_path, at_page):
    """A run that is killed while it reads is gone on with, and finds the same."""
    record, certificate = shop.record(), Certificate.make(tmp_path)
    bob = shop.regtest.bob
    pass_on, pages, processes = relay(bob.url, bob.tls_cert), [], []

    def kill(request):
        if int(re.search(r"index_offset=(\d+)", request.path)[1]) > shop.before:
            pages.append(request.path)  # one of the shop's was on the page before
        if len(pages) == at_page:
            processes[0].kill()
        return pass_on(request)

    with serving(kill, certificate) as proxy:
        url = bob.node_url(bob.macaroon("invoice"), tls_cert_path=certificate.cert)
        url = url.replace(bob.url, proxy.url)
        processes.append(shop.command(record=record, node=url))
        told, _ = processes[0].communicate(timeout=WITHIN)
    assert (processes[0].returncode, told) == (-signal.SIGKILL, "")
    with closing(sqlite3.connect(record.removeprefix("sqlite:///"))) as connection:
        (before,) = connection.execute("SELECT count(*) FROM l402_settlement").fetchone()
    assert 0 < before < PURCHASES + 1
    code, document = shop.reconcile(record=record)
    assert agrees(shop, code, document)
    assert document["read"]["new"] == PURCHASES + 1 - before


def test_never_settled(shop):
    """A payment on record that lnd never saw, or that nobody paid, is found; the code is 1."""
    record = shop.record()
    _, invoice = challenge(ask(shop.running, "/quote"))
    unpaid = shop.regtest.alice.call("GET", f"/v1/payreq/{invoice}")["payment_hash"]
    invented = secrets.token_hex(32)
    columns = "token_id, service, kind, msat, network, endpoint, method, issued_at, starts_at,"
    columns += " ends_at, valid_until, presented_at, status"
    with closing(sqlite3.connect(record.removeprefix("sqlite:///"))) as connection, connection:
        for payment_hash in (unpaid, invented):
            connection.execute(
                f"INSERT INTO l402_payment (payment_hash, {columns})"
                f" SELECT ?, {columns} FROM l402_payment LIMIT 1",
                [payment_hash],
            )
    code, document = shop.reconcile(record=record)
    assert (code, document["ok"]) == (1, False)
    found = {each["payment_hash"]: each["state"] for each in document["never_settled"]}
    assert found == {unpaid: "open", invented: "gone"}
    assert document["totals"]["unread"] == {"count": 2, "msat": 2 * SATS * 1000}
    assert unused(document) == shop.unused


def test_resolved(shop):
    """What was never presented is so only until it is."""
    macaroon, invoice = challenge(ask(shop.running, "/quote"))
    preimage = shop.regtest.alice.pay(invoice)
    record = shop.running.database
    code, document = shop.reconcile(record=record)
    assert code == 0
    assert unused(document) == shop.unused | {sha256(preimage).hexdigest()}
    assert ask(shop.running, "/quote", f"L402 {macaroon}:{preimage.hex()}").status_code == 200
    shop.shown.add(sha256(preimage).hexdigest())
    assert agrees(shop, *shop.reconcile(record=record))


def test_another_lnd(shop):
    """A node that is not the one read before is found out, and nothing is changed."""
    record, alice = shop.record(), shop.regtest.alice
    shop.reconcile(record=record)
    code, said = shop.reconcile(record=record, node=alice.node_url(alice.macaroon("invoice")))
    assert code == 1
    assert "it is another node" in said
    assert agrees(shop, *shop.reconcile(record=record))


def overpay(regtest, invoice, sats):
    """Have alice send more than an invoice asks for, as payers may."""
    read = regtest.alice.call("GET", f"/v1/payreq/{invoice}")
    order = {
        "dest": b64encode(bytes.fromhex(read["destination"])).decode(),
        "payment_hash": b64encode(bytes.fromhex(read["payment_hash"])).decode(),
        "payment_addr": read["payment_addr"],
        "final_cltv_delta": int(read["cltv_expiry"]),
        "dest_features": [9, 15, 17],
        "amt": str(sats),
        "timeout_seconds": 30,
        "fee_limit_sat": "10",
        "no_inflight_updates": True,
    }
    payment = regtest.alice.call("POST", "/v2/router/send", order)["result"]
    assert payment["status"] == "SUCCEEDED", payment
    return read["payment_hash"]


def test_overpaid(regtest, tmp_path):
    """What a payer gave too much is told, and is nothing wrong."""
    with selling_for(regtest.bob, tmp_path) as running:
        _, invoice = challenge(ask(running, "/quote"))
        paid = overpay(regtest, invoice, SATS + 3)
        code, document = Shop(running, regtest, tmp_path).reconcile(record=running.database)
    assert code == 0
    ((found,), (left,)) = document["overpaid"], document["never_presented"]
    assert (found["payment_hash"], found["expected"], found["received"]) == (paid, 10_000, 13_000)
    assert (left["payment_hash"], left["received"]) == (paid, 13_000)
    assert document["totals"]["settled"] == {"count": 1, "msat": 13_000}


def test_settled_late(regtest, tmp_path):
    """A payment that was held when the list was read is found once it is settled."""
    between, certificate = Between(regtest.bob), Certificate.make(tmp_path)
    settings = {"FLASK_L402_SECRET_KEY": secrets.token_hex(32)}
    with (
        serving(between, certificate) as proxy,
        selling_behind(proxy, certificate, regtest.bob, tmp_path, **settings) as running,
        ThreadPoolExecutor(1) as alice,
    ):
        shop = Shop(running, regtest, tmp_path)
        shop.buy()
        held = Held(regtest, between, running, alice)
        shop.buy()
        shop.buy(show=False)
        assert agrees(shop, *shop.reconcile(record=running.database))
        held.settle()
        assert held.payment.result()["status"] == "SUCCEEDED"
        shop.unused.add(held.payment_hash.hex())
        assert agrees(shop, *shop.reconcile(record=running.database))
        assert ask(running, "/quote", held.credential).status_code == 200
        shop.unused.remove(held.payment_hash.hex())
        shop.shown.add(held.payment_hash.hex())
        code, document = shop.reconcile(record=running.database)
        assert agrees(shop, code, document)
        assert document["read"]["invoices"] == 0

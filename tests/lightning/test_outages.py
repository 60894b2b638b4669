"""A real lnd that stops, dies, or is spoken to over a bad line: no sale, and no harm to holders."""

import json
import signal
import statistics
import time
from pathlib import Path

import pytest
from support.http_servers import Certificate, ResetConnection, http_answer, serving
from support.outages import Crowd, besieged, calling, holders_p99
from support.regtest import await_that
from support.relays import relay
from support.shops import ask, buy, challenge, selling, selling_for
from support.wires import Wire
from test_gate import ask as ask_app
from test_node_faults import refuses

pytest_plugins = ["support.regtest"]
pytestmark = pytest.mark.lightning

HUNDRED = 100
PAID = 4000  # requests from which a holder's 99th percentile is taken
BACK_WITHIN = 5  # seconds
FAST = 0.1  # seconds, where five would be waited for an answer
ROUNDS = 3  # a machine that is shared may spoil one


@pytest.fixture(scope="module")
def shop(regtest, tmp_path_factory):
    """The example on one worker of four threads."""
    with selling_for(regtest.bob, tmp_path_factory.mktemp("outages")) as running:
        yield running


@pytest.fixture
def credential(regtest, shop):
    bought = buy(regtest, ask(shop, "/quote"))
    assert ask(shop, "/quote", bought).status_code == 200
    return bought


@pytest.fixture
def stop(regtest):
    """Stops bob, who accepts connections then and answers nothing, and lets him go on."""
    process = regtest.bob.process

    def halt():
        process.signal(signal.SIGSTOP)
        await_that("bob's last thread to stop", lambda: thread_states(process) == {"T"})

    yield halt
    process.signal(signal.SIGCONT)


def thread_states(process):
    """Return the letters of proc(5) that a program's threads are in."""
    stats = Path(f"/proc/{process._process.pid}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats}


def unavailable(answer):
    """Tell whether an unpaid request was turned away as it should be."""
    return (
        answer.status == 503
        and json.loads(answer.body)["reason"] == "node_unavailable"
        and int(answer.headers["Retry-After"]) >= 1
        and "WWW-Authenticate" not in answer.headers
    )


def await_sale(shop):
    """Ask until a challenge comes, and fail if that takes too long."""
    end = time.monotonic() + BACK_WITHIN
    with calling(shop.url) as caller:
        while (answer := caller.ask()).status != 402:
            assert unavailable(answer), answer
            assert time.monotonic() < end, "the node is back, and nothing is sold"


def test_holders_of_a_stopped_node(regtest, shop, credential, stop):
    """Who paid hardly notices that the node hangs, while a hundred come who have not paid."""
    ratios = []
    while not ratios or (min(ratios) > 2 and len(ratios) < ROUNDS):
        await_sale(shop)
        usual = holders_p99(shop.url, credential, PAID)
        crowd = Crowd(shop.url)

        def arrive(index, crowd=crowd):
            if index % (PAID // 2 // HUNDRED) == 0:
                crowd.send()

        stop()
        ratios.append(holders_p99(shop.url, credential, PAID, arrive) / usual)
        answers = crowd.answers()
        regtest.bob.process.signal(signal.SIGCONT)
        assert len(answers) == HUNDRED
        assert all(map(unavailable, answers)), answers
    assert min(ratios) <= 2, ratios


def test_stopped_node(regtest, tmp_path, stop):
    """Once it is known, callers are told at once; it is found when it is back; two lines say so."""
    with selling_for(regtest.bob, tmp_path) as shop:
        stop()
        with besieged(shop.url) as first:
            await_that("the outage", shop.said_of_node)
        assert all(map(unavailable, first)), first
        crowd = Crowd(shop.url)
        crowd.send(HUNDRED)
        answers = crowd.answers()
        assert all(map(unavailable, answers)), answers
        assert statistics.median(answer.seconds for answer in answers) < FAST
        regtest.bob.process.signal(signal.SIGCONT)
        await_sale(shop)
        assert shop.said_of_node() == ["no answer in time", "answers again"]


def test_swallowed_packets(regtest, tmp_path):
    """The same for a network that delivers nothing, and then does."""
    macaroon = regtest.bob.bake(tmp_path, "invoices:read", "invoices:write")
    port = regtest.bob.rest.rpartition(":")[2]
    with Wire(int(port)) as wire:
        url = regtest.bob.node_url(macaroon).replace(f":{port}?", f":{wire.port}?")
        with selling(tmp_path, url) as shop:
            held = buy(regtest, ask(shop, "/quote"))
            assert ask(shop, "/quote", held).status_code == 200
            wire.swallow()
            with besieged(shop.url) as answers:
                await_that("the outage", shop.said_of_node)
            assert all(map(unavailable, answers)), answers
            assert ask(shop, "/quote", held).status_code == 200
            wire.mend()
            await_sale(shop)
            assert shop.said_of_node() == ["no answer in time", "answers again"]


def test_killed_node(regtest, tmp_path):
    """An lnd killed in mid-challenge sells again after its restart, and what it issued counts."""
    with selling_for(regtest.bob, tmp_path) as shop:
        held = buy(regtest, ask(shop, "/quote"))
        macaroon, invoice = challenge(ask(shop, "/quote"))
        with besieged(shop.url) as answers:
            await_that("a challenge", lambda: any(answer.status == 402 for answer in list(answers)))
            regtest.bob.process.signal(signal.SIGKILL)
            await_that("the outage", shop.said_of_node)
        regtest.bob.process.stop()
        assert {answer.status for answer in answers} == {402, 503}
        assert all(unavailable(answer) for answer in answers if answer.status != 402)
        assert ask(shop, "/quote", held).status_code == 200
        regtest.bob.process.start()
        await_that("bob", lambda: regtest.bob.state == "SERVER_ACTIVE")
        await_sale(shop)
        preimage = await_that("a payment", lambda: regtest.alice.pay(invoice)).hex()
        assert ask(shop, "/quote", f"L402 {macaroon}:{preimage}").status_code == 200
        assert ask(shop, "/quote", buy(regtest, ask(shop, "/quote"))).status_code == 200
        said = shop.said_of_node()
        assert said[-1] == "answers again"
        assert len(set(said)) == len(said)


def reset_at_once(_answer):
    raise ResetConnection


def reset_in_the_head(answer):
    yield answer[:30]
    raise ResetConnection


def reset_in_the_body(answer):
    yield answer[:-30]
    raise ResetConnection


def half(answer):
    yield answer[:-30]


def unfinished(answer):
    body = answer.partition(b"\r\n\r\n")[2]
    return http_answer(200, body[:-30])


def drip(answer):
    for place in range(len(answer)):
        yield answer[place : place + 1]
        time.sleep(0.02)


def hundred_megabytes(answer):
    body = answer.partition(b"\r\n\r\n")[2]
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n" + body[:-1]
    for _ in range(1600):
        yield b" " * 65536


BAD_LINES = {
    reset_at_once: "broke the connection before it answered",
    reset_in_the_head: "broke the connection before it answered",
    reset_in_the_body: "broke the connection before it answered",
    half: "broke off in the middle of its answer",
    unfinished: "answered 200 with something that is no JSON object",
    drip: "no answer in time",
    hundred_megabytes: "its answer is larger than 1 MiB",
}


@pytest.fixture(scope="module")
def macaroon(regtest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("macaroon")
    return regtest.bob.bake(folder, "invoices:read", "invoices:write")


@pytest.fixture
def line(regtest, tmp_path):
    """A server between the shop and bob, with a certificate of its own."""
    certificate = Certificate.make(tmp_path / "tls")
    with serving(relay(regtest.bob.url, regtest.bob.tls_cert), certificate) as server:
        server.cert = certificate.cert
        yield server


@pytest.fixture
def app(make_app, clock, regtest, macaroon, line):
    """A shop in this process, at the other end of the line."""
    clock.now = time.time()
    url = regtest.bob.node_url(macaroon, tls_cert_path=line.cert)
    return make_app(L402_NODE=url.replace(regtest.bob.url, line.url))


@pytest.mark.parametrize("bad", BAD_LINES)
def test_bad_line(app, clock, line, caplog, monkeypatch, bad):
    """An answer cut, stretched or blown up on its way sells nothing; the next whole one does."""
    monkeypatch.setattr("l402.nodes.lnd.CREATE_WITHIN", 1.0)
    good = line.behaviour
    line.behaviour = lambda request: bad(good(request))
    before = reset_peak()
    refuses(app, clock, caplog, BAD_LINES[bad])
    assert peak() - before < 30_000_000  # bytes, of the hundred million that were offered
    line.behaviour = good
    assert ask_app(app).status_code == 402


def test_redirect(app, clock, line, caplog):
    """Nobody but the node that is configured is shown the macaroon."""
    with serving(lambda _: http_answer(200, {})) as elsewhere:
        location = f"Location: {elsewhere.url}/v1/invoices"
        line.behaviour = lambda _: http_answer(307, {}, location)
        refuses(app, clock, caplog, "answered with a redirect (307)")
    assert elsewhere.requests == []


@pytest.mark.parametrize(("hours", "side"), [(-1, "ahead of"), (1, "behind")])
def test_clock_off(app, clock, caplog, hours, side):
    """An lnd whose clock is an hour off sells nothing: its invoices would end at another time."""
    clock.now += hours * 3600
    refuses(app, clock, caplog, f"dated 60 min {side} this machine's clock")


def reset_peak():
    """Forget this process's largest memory so far, and return what it has now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak():
    for said in Path("/proc/self/status").read_text().splitlines():
        if said.startswith("VmHWM"):
            return int(said.split()[1]) * 1024
    raise AssertionError("no VmHWM")

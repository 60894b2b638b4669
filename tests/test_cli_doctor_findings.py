"""``flask l402 doctor``: each thing that can be wrong is found, and its fix is named."""

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.http_servers import Certificate, http_answer
from support.lnd_stand_in import baked
from support.patients import PASSWORD, SetUp
from support.postgres import PostgresServer, free_port
from support.redis_servers import Redis, running
from werkzeug.middleware.proxy_fix import ProxyFix

from l402 import paywall
from l402.doctor import CHECKS
from l402.store import health, migrate

pytest_plugins = ["support.databases", "support.patients"]

ERROR, WARNING = "error", "warning"
Break = Callable[[SetUp], object]
BAKE = "lncli bakemacaroon invoices:read invoices:write"
KEYGEN = "flask l402 keygen"


def found(
    set_up: SetUp, check: str, severity: str, detail: str, fix: str, *options: str
) -> dict[str, dict[str, Any]]:
    """See that one check failed, with these words in its detail and its fix."""
    findings = set_up.findings(*options)
    finding = findings[check]
    assert (finding["passed"], finding["severity"]) == (False, severity), finding
    assert detail in finding["detail"]
    assert fix in finding["fix"]
    assert list(findings) == [each.name for each in CHECKS]
    return findings


def failed(findings: dict[str, dict[str, Any]]) -> set[str]:
    """The checks that did not pass."""
    return {name for name, finding in findings.items() if finding["passed"] is False}


def configured(**config: object) -> Break:
    """Set keys; None takes one away."""

    def change(set_up: SetUp) -> None:
        set_up.config.update(config)
        for key in [key for key, value in config.items() if value is None]:
            del set_up.config[key]

    return change


def keyed(secret: str) -> Break:
    return lambda set_up: set_up.use_secret(secret)


def selling(rule: str, **offer: Any) -> Break:
    """Sell one more view."""

    def change(set_up: SetUp) -> None:
        def sell(app: Flask) -> None:
            app.get(rule)(paywall(**offer)(lambda: "sold"))

        set_up.sell = sell

    return change


def node(**parameters: object) -> Break:
    """Name the node with other parameters."""
    return lambda set_up: set_up.config.update(L402_NODE=set_up.lnd.url(**parameters))


class TestConfiguration:
    @pytest.mark.parametrize(
        ("change", "detail", "fix"),
        [
            (configured(L402_NODE=None), "L402_NODE is not set", "lnd+https://"),
            (configured(L402_NODE="ldn:x"), "unknown scheme 'ldn'", "known are"),
            (configured(L402_NODE="lnd+http://h:1"), "unencrypted", "lnd+https"),
            (node(macaroon_path="/nowhere/m"), "cannot read the file /nowhere/m", "example"),
            (node(tls_cert_path="/nowhere/c"), "cannot read the file /nowhere/c", "example"),
            (node(netwrok="regtest"), "unknown parameter 'netwrok', did you mean", "example"),
            (configured(L402_SECRET_KEY_PATH=None), "L402_SECRET_KEY is not set", KEYGEN),
            (configured(L402_SECRET_KEY_PATH="/nowhere/k"), "cannot read the file", KEYGEN),
            (keyed("sh0rt-canary"), "has not 32 random bytes", KEYGEN),
            (configured(L402_SERVICE=None), "L402_SERVICE is not set", "for example 'weather'"),
            (configured(L402_VALIDFOR=5), "L402_VALIDFOR is no setting", "L402_VALID_FOR"),
            (configured(L402_RATE_LIMIT="often"), "is no rate limit", "60/minute"),
            (configured(L402_DATABASE_URL="no"), "L402_DATABASE_URL is no", "postgresql://"),
            (configured(L402_DATABASE_URL="mysql://h/d"), "not a database we can use", "sqlite:"),
            (configured(L402_RATELIMIT_STORAGE_URI="rdeis://h"), "names no storage", "redis://"),
            (configured(L402_NODE="simulated:"), "sells for no money", "L402_SIMULATED=True"),
        ],
    )
    def test_the_app_cannot_be_made(
        self, set_up: SetUp, change: Break, detail: str, fix: str
    ) -> None:
        """What keeps the app from being made is the finding; nothing else is looked at."""
        change(set_up)
        findings = found(set_up, "configuration", ERROR, detail, fix)
        for name, finding in findings.items():
            if name != "configuration":
                assert finding["passed"] is None
                assert finding["detail"] == "not done: see configuration"

    def test_flasks_own_secret(self, set_up: SetUp) -> None:
        """A secret that signs Flask's sessions is none for tokens."""
        set_up.config["SECRET_KEY"] = set_up.secret
        found(set_up, "configuration", ERROR, "Flask's own SECRET_KEY", KEYGEN)

    @pytest.mark.parametrize(
        ("secret", "detail"),
        [
            ("change-me-" + "q8Zr1kX0vN" * 3, "guessers"),
            ("0123456789abcdef" * 2, "guessers"),
            ("correct horse battery staple, 2 x 16 bytes", "a phrase"),
            ("aXbYcZdW1" * 4, "repeats itself"),
        ],
    )
    def test_a_weak_secret(self, set_up: SetUp, secret: str, detail: str) -> None:
        """A secret that was typed, not drawn, is refused as soon as it is looked at."""
        set_up.use_secret(secret)
        assert failed(found(set_up, "secret", ERROR, detail, KEYGEN)) == {"secret"}

    def test_a_weak_older_secret(self, set_up: SetUp) -> None:
        """An older one that is still accepted opens as much."""
        set_up.config["L402_SECRET_KEY_FALLBACKS"] = ["password-of-2019" * 2]
        detail = "L402_SECRET_KEY_FALLBACKS holds a word"
        found(set_up, "secret", ERROR, detail, "take it out of L402_SECRET_KEY_FALLBACKS")

    def test_a_secret_for_all_to_read(self, set_up: SetUp) -> None:
        """A key file that everybody can read is pointed out."""
        set_up.secret_file.chmod(0o644)
        fix = f"chmod 600 {set_up.secret_file}"
        assert failed(found(set_up, "secret_file", WARNING, "everybody", fix)) == {"secret_file"}


class TestSales:
    @pytest.mark.parametrize(
        ("change", "severity", "detail", "fix"),
        [
            (selling("/dear", sats=200_000), ERROR, "above L402_MAX_PRICE (100000)", "lower"),
            (selling("/much", sats=20, uses=100), WARNING, "/much costs 2000 sat", "sell less"),
            (selling("/slash/", sats=1), WARNING, "redirects callers", "write /slash"),
            (configured(L402_PRICES={"qoute": 1}), ERROR, "'qoute' is not for sale", "quote"),
            (lambda set_up: setattr(set_up, "sell", id), WARNING, "nothing is sold", "@paywall"),
        ],
    )
    def test_routes(
        self, set_up: SetUp, change: Break, severity: str, detail: str, fix: str
    ) -> None:
        """What cannot be sold, or will not be bought, is named."""
        change(set_up)
        findings = found(set_up, "routes", severity, detail, fix)
        assert failed(findings) == {"routes"}

    def test_an_open_route(self, set_up: SetUp) -> None:
        """A paywall above its route, which sells nothing, is named with what to write."""

        def sell(app: Flask) -> None:
            paywall(sats=10)(app.get("/open")(lambda: "open"))

        set_up.sell = sell
        findings = found(set_up, "routes", ERROR, "is open, though", "write @app.get(…) first")
        assert findings["rates"]["detail"] == "not done: see routes"

    def test_no_rate(self, set_up: SetUp) -> None:
        """A rate's source that fails is found before a caller meets it."""

        def fail(currency: str) -> str:
            raise RuntimeError(PASSWORD)

        set_up.config["L402_RATES"] = fail
        selling("/dollar", price="0.01 USD")(set_up)
        found(set_up, "rates", ERROR, "no rate of USD", "L402_RATES")

    def test_a_proxy_that_is_not_believed(self, set_up: SetUp) -> None:
        """A ProxyFix that takes no address from the proxy leaves all callers at one."""
        set_up.wrap = lambda app: ProxyFix(app, x_for=0)
        found(set_up, "proxy", WARNING, "one limit", "x_for=1")


class TestSQLite:
    def test_no_file(self, set_up: SetUp) -> None:
        """A record that was never made is not made by looking, and what needs it is not done."""
        set_up.database.unlink()
        findings = found(set_up, "database", ERROR, "is not there", "flask l402 upgrade")
        assert not set_up.database.exists()
        for name in ("database_version", "database_clock", "file_system", "schema"):
            assert findings[name]["detail"] == "not done: see database"
        assert findings["writable"]["detail"] == "not done: see schema"
        assert findings["challenge"]["detail"] == "not done: see schema"
        assert findings["invoice"]["passed"] is True

    def test_in_memory(self, set_up: SetUp) -> None:
        """A record in memory is forgotten with its process."""
        set_up.config["L402_DATABASE_URL"] = "sqlite://"
        found(set_up, "database", ERROR, "in memory", "set L402_DATABASE_URL")

    def test_no_database(self, set_up: SetUp) -> None:
        """A file of something else is told from a database."""
        set_up.database.write_text("This is a letter, and not a short one. " * 99)
        found(set_up, "database", ERROR, "file is not a database", "correct L402_DATABASE_URL")

    @pytest.mark.parametrize(
        ("statement", "detail", "fix"),
        [
            ("DROP TABLE l402_alembic_version", "no such table", "flask l402 upgrade"),
            ("UPDATE l402_alembic_version SET version_num = '0001'", "0001", "flask l402 upgrade"),
            ("UPDATE l402_alembic_version SET version_num = '9999'", "later", "install that one"),
        ],
    )
    def test_schema(self, set_up: SetUp, statement: str, detail: str, fix: str) -> None:
        """Tables that are missing, older or newer are told apart."""
        with closing(sqlite3.connect(set_up.database)) as connection:
            connection.execute(statement)
            connection.commit()
        findings = found(set_up, "schema", ERROR, detail, fix)
        assert failed(findings) == {"schema"}

    def test_locked(self, set_up: SetUp) -> None:
        """Another program that writes and does not end keeps us from writing."""
        with closing(sqlite3.connect(set_up.database)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            findings = found(set_up, "writable", ERROR, "locked by another", "end what holds")
        assert failed(findings) == {"writable"}

    @pytest.mark.parametrize(("folder", "check"), [(0o555, "database"), (0o777, "writable")])
    def test_another_users(self, set_up: SetUp, nobodys: Path, folder: int, check: str) -> None:
        """A file that belongs to another user, as after an upgrade by root, is found."""
        set_up.config["L402_DATABASE_URL"] = f"sqlite:///{nobodys}"
        app = set_up.make_app()
        set_up.make_app = lambda: app  # type: ignore[method-assign]
        nobodys.parent.chmod(folder)
        with as_nobody():
            found(set_up, check, ERROR, "database", "let the app's user write")

    def test_a_network_file_system(self, set_up: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file on a network file system is named with its type."""
        mounts = set_up.folder / "mountinfo"
        mounts.write_text(
            "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
            f"40 27 0:50 / {set_up.folder} rw shared:1 - nfs4 nas:/shops rw,vers=4.2\n"
        )
        monkeypatch.setattr(health, "MOUNTS", mounts)
        found(set_up, "file_system", ERROR, "network file system (nfs4)", "use PostgreSQL")

    def test_too_old(self, set_up: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
        """An SQLite without RETURNING is too old, and the oldest that will do is named."""
        monkeypatch.setattr(sqlite3.dbapi2, "sqlite_version_info", (3, 34, 1))
        findings = found(set_up, "database_version", ERROR, "SQLite 3.34.1", "SQLite 3.35")
        assert findings["schema"]["detail"] == "not done: see database_version"


@pytest.mark.postgres
class TestPostgres:
    @pytest.fixture
    def set_up(self, set_up: SetUp, postgres_url: str) -> SetUp:
        """The same, with a database on Postgres."""
        migrate.upgrade(postgres_url)
        set_up.config["L402_DATABASE_URL"] = postgres_url
        set_up.kept.append(postgres_url.split("@")[0].rpartition(":")[2])
        return set_up

    def test_well(self, set_up: SetUp) -> None:
        """On Postgres too, a set-up without fault passes every check."""
        assert {each["passed"] for each in set_up.findings("--workers", "1").values()} == {True}

    def test_down(self, set_up: SetUp) -> None:
        """A server that is not there is named without the password."""
        url = f"postgresql://shop:{PASSWORD}@127.0.0.1:{free_port()}/shop"
        set_up.config["L402_DATABASE_URL"] = url
        found(set_up, "database", ERROR, "refused", "start the database")

    def test_wrong_password(self, set_up: SetUp) -> None:
        """A password that the server refuses is not told."""
        url = set_up.config["L402_DATABASE_URL"]
        own = url.split("@")[0].rpartition(":")[2]
        set_up.config["L402_DATABASE_URL"] = url.replace(own, PASSWORD)
        found(set_up, "database", ERROR, "authentication failed", "correct L402_DATABASE_URL")

    def test_no_tables(self, set_up: SetUp, postgres_server: PostgresServer) -> None:
        """An empty database is told which command makes the tables."""
        empty = postgres_server.fresh()
        set_up.config["L402_DATABASE_URL"] = empty
        found(set_up, "schema", ERROR, "l402_alembic_version", "flask l402 upgrade")
        set_up.close()
        postgres_server.drop(empty)

    def test_read_only(self, set_up: SetUp, postgres_server: PostgresServer) -> None:
        """A server that takes no writes, as a standby, is found by writing."""
        name = set_up.config["L402_DATABASE_URL"].rpartition("/")[2]
        postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        found(set_up, "writable", ERROR, "read-only transaction", "let the app's user write")

    def test_locked(self, set_up: SetUp) -> None:
        """A table that another session has locked keeps us from writing."""
        import psycopg

        with psycopg.connect(set_up.config["L402_DATABASE_URL"]) as other:
            other.execute("LOCK TABLE l402_lease IN ACCESS EXCLUSIVE MODE")
            found(set_up, "writable", ERROR, "timeout", "end what holds the database")

    @pytest.mark.parametrize(
        ("ahead", "severity", "detail"),
        [(3600, ERROR, "s behind this machine's"), (-3600, ERROR, "s ahead of this machine's"),
         (30, WARNING, "s behind this machine's")],
    )  # fmt: skip
    def test_clock(self, set_up: SetUp, ahead: int, severity: str, detail: str) -> None:
        """A database whose clock is not this machine's is found."""
        set_up.clock = lambda: time.time() + ahead
        set_up.lnd.ahead = ahead
        findings = found(set_up, "database_clock", severity, detail, "NTP")
        assert failed(findings) == {"database_clock"}


class TestLimits:
    def test_memory_of_several_workers(self, set_up: SetUp) -> None:
        """Counting in memory is right for one process alone."""
        fix = "L402_RATELIMIT_STORAGE_URI"
        findings = found(set_up, "rate_limits", WARNING, "4 times", fix, "--workers", "4")
        assert failed(findings) == {"rate_limits"}

    def test_redis_is_down(self, set_up: SetUp) -> None:
        """A storage that does not answer is found; its URL, with its password, is not told."""
        uri = f"redis://:{PASSWORD}@127.0.0.1:{free_port()}"
        set_up.config["L402_RATELIMIT_STORAGE_URI"] = uri
        found(set_up, "rate_limits", ERROR, "ConnectionError", "start it, or correct")

    def test_no_driver(self, set_up: SetUp) -> None:
        """A storage whose driver is not installed is told from one that is down."""
        set_up.config["L402_RATELIMIT_STORAGE_URI"] = "memcached://127.0.0.1:11211"
        found(set_up, "rate_limits", ERROR, "driver", "pip install")

    @pytest.mark.redis
    def test_redis(self, set_up: SetUp, tmp_path: Path) -> None:
        """A Redis counts for all processes; one that takes no writes is found by counting."""
        with running(Redis(tmp_path)) as server:
            set_up.config["L402_RATELIMIT_STORAGE_URI"] = server.uri
            assert set_up.findings("--workers", "4")["rate_limits"]["passed"] is True
            server.call("REPLICAOF", "127.0.0.1", free_port())
            found(set_up, "rate_limits", ERROR, "ReadOnlyError", "L402_RATELIMIT_STORAGE_URI")


class TestNode:
    def test_nobody_there(self, set_up: SetUp) -> None:
        """A node that is not there is one error; what would ask it is not done."""
        set_up.lnd.server.close()
        findings = found(set_up, "node", ERROR, "no connection", "start the node")
        assert failed(findings) == {"node"}
        assert findings["certificate"]["detail"] == "not done: see node"
        assert findings["challenge"]["detail"] == "not done: see node_clock"

    def test_hangs(self, set_up: SetUp) -> None:
        """A node that accepts and never answers is given up in time."""
        set_up.lnd.server.behaviour = set_up.lnd.server.hang
        found(set_up, "node", ERROR, "no answer in time", "start the node")

    def test_something_else_is_there(self, set_up: SetUp) -> None:
        """What answers in HTML is no node."""
        set_up.lnd.server.behaviour = lambda _: http_answer(200, "<h1>It works!</h1>")
        found(set_up, "node", ERROR, "no JSON object", "host and port")

    def test_another_certificate(self, set_up: SetUp) -> None:
        """A node that shows another certificate than its file says is not trusted."""
        set_up.lnd.server.present(Certificate.make(set_up.folder / "renewed"))
        findings = found(set_up, "certificate", ERROR, "not trusted", "tls_cert_path")
        assert findings["node"]["passed"] is True
        assert findings["invoice"]["detail"] == "not done: see certificate"

    @pytest.mark.parametrize(
        ("days", "severity", "detail", "fix"),
        [(-1, ERROR, "has expired", "renew it"), (5, WARNING, "in 4 days", "a new one")],
    )
    def test_the_certificates_end(
        self, set_up: SetUp, days: int, severity: str, detail: str, fix: str
    ) -> None:
        """A certificate is pointed out before it ends, and when it has."""
        certificate = Certificate.make(set_up.folder / "tls", days=days)
        set_up.lnd.server.present(certificate)
        found(set_up, "certificate", severity, detail, fix)

    def test_another_host(self, set_up: SetUp) -> None:
        """A certificate that does not list the host in the URL is told from an untrusted one."""
        certificate = Certificate.make(set_up.folder / "tls", host="lnd.example")
        set_up.lnd.server.present(certificate)
        found(set_up, "certificate", ERROR, "not for this IP address", "an address that it lists")

    def test_a_macaroon_that_may_too_much(self, set_up: SetUp) -> None:
        """An administrator's macaroon works, and is too much."""
        given = baked("invoices:read", "invoices:write", "offchain:write", "macaroon:generate")
        set_up.lnd.macaroon.write_bytes(given)
        set_up.kept.append(given)
        detail = "macaroon:generate, offchain:write"
        assert failed(found(set_up, "permissions", WARNING, detail, BAKE)) == {"permissions"}

    @pytest.mark.parametrize(
        ("message", "detail", "fix"),
        [
            ("permission denied", "lacks a permission", BAKE),
            ("verification failed: signature mismatch", "not of this lnd", BAKE),
            ("macaroon has expired", "has expired", BAKE),
            ("wallet locked, unlock it", "wallet is locked", "lncli unlock"),
            ("wallet not created", "no wallet yet", "lncli create"),
            ("expected 1 macaroon, got 0", "no macaroon reached lnd", "proxy"),
            ("canary of an unknown fault", "lnd refused with status 500", "node's own log"),
        ],
    )
    def test_refuses(self, set_up: SetUp, message: str, detail: str, fix: str) -> None:
        """A node that answers and says no is there, and why it will not sell is told."""
        set_up.lnd.refuses = {"POST": message, "GET": message}
        findings = found(set_up, "invoice", ERROR, detail, fix)
        assert findings["node"]["passed"] is True
        assert findings["network"]["detail"] == "not done: see invoice"

    @pytest.mark.parametrize(("strict", "severity"), [(True, ERROR), (False, WARNING)])
    def test_may_not_look_up(self, set_up: SetUp, strict: bool, severity: str) -> None:
        """Whether a look-up that is refused is an error depends on whether any will be made."""
        set_up.config["L402_STRICT"] = strict
        set_up.lnd.refuses = {"GET": "permission denied"}
        findings = found(set_up, "look_up", severity, "lacks a permission", BAKE)
        assert failed(findings) == {"look_up"}

    def test_forgets(self, set_up: SetUp) -> None:
        """A node that does not know the invoice that it just issued would refuse every sale."""
        set_up.lnd.forgets = True
        found(set_up, "look_up", ERROR, "says gone of an invoice that is open", "log")

    def test_another_network(self, set_up: SetUp) -> None:
        """A node on another network than the one named is told from one that refuses."""
        node(network="mainnet")(set_up)
        findings = found(set_up, "network", ERROR, "is on regtest", "network=regtest")
        assert failed(findings) == {"network"}
        assert findings["node_clock"]["detail"] == "not done: see network"

    @pytest.mark.parametrize(
        ("ahead", "severity", "detail"),
        [(300, ERROR, "5 min ahead"), (-300, ERROR, "5 min behind"), (30, WARNING, "s ahead of")],
    )
    def test_clock(self, set_up: SetUp, ahead: int, severity: str, detail: str) -> None:
        """A node's clock that is off is found before it stops the sales."""
        set_up.lnd.ahead = ahead
        assert failed(found(set_up, "node_clock", severity, detail, "NTP")) == {"node_clock"}

    def test_writes_no_description(self, set_up: SetUp) -> None:
        """A node that drops our description keeps a sale from being found by its invoice."""
        set_up.lnd.memo = ""
        findings = found(set_up, "invoice", WARNING, "our description", "replaces descriptions")
        assert findings["challenge"]["passed"] is True

    def test_simulated(self, set_up: SetUp) -> None:
        """Play money that was allowed is still pointed out, and a missing service with it."""
        configured(L402_NODE="simulated:", L402_SIMULATED=True, L402_SERVICE=None)(set_up)
        findings = found(set_up, "network", WARNING, "no money", "take L402_SIMULATED out")
        assert failed(findings) == {"network", "service"}


@pytest.fixture
def nobodys(set_up: SetUp) -> Iterator[Path]:
    """A copy of the database that everybody can read, and its owner alone write."""
    folder = Path(tempfile.mkdtemp(prefix="l402-doctor-"))  # pytest's are for their owner alone
    path = folder / "l402.db"
    shutil.copy(set_up.database, path)
    path.chmod(0o444)
    yield path
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to write everything, for the length of a block."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)

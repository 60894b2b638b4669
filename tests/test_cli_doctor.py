"""``flask l402 doctor``: what it writes, how it ends, and apps that cannot be loaded."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from support.patients import SetUp
from test_cli import flask
from werkzeug.middleware.proxy_fix import ProxyFix

from l402.cli import cli
from l402.doctor import CHECKS

pytest_plugins = ["support.patients"]

CANARY = "canary-of-a-host-7f3a"
HEAD = "from flask import Flask\nfrom l402 import L402, paywall\napp = Flask(__name__)\n"


def test_all_is_well(set_up: SetUp) -> None:
    """A set-up without fault passes every check, one line each, and ends with 0."""
    done = set_up.examine("--workers", "1", "--fail-on-warning")
    assert (done.exit_code, done.stderr) == (0, "")
    *lines, empty, verdict = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", check.name] for check in CHECKS]
    assert (empty, verdict) == ("", "no errors, no warnings")


def test_in_json(set_up: SetUp) -> None:
    """The document has each check with the same five keys, and the sums."""
    document = json.loads(set_up.examine("--json").stdout)
    assert (document["ok"], document["errors"], document["warnings"]) == (True, 0, 0)
    keys = ["check", "passed", "severity", "detail", "fix"]
    assert all(list(finding) == keys for finding in document["checks"])
    findings = {finding.pop("check"): finding for finding in document["checks"]}
    assert findings["service"] == {
        "passed": True, "severity": "info", "detail": "weather", "fix": None,
    }  # fmt: skip


def test_an_error(set_up: SetUp) -> None:
    """An error is a line that ends in its fix; the exit code is 1."""
    set_up.database.unlink()
    done = set_up.examine("--workers", "1")
    assert done.exit_code == 1
    assert f"\nerror    database         {set_up.database} is not there; run flask" in done.stdout
    assert "\nunknown  writable         not done: see schema\n" in done.stdout
    assert done.stdout.endswith("\n1 error, no warnings\n")


def test_a_warning(set_up: SetUp) -> None:
    """A warning ends with 0, unless it is to count."""
    set_up.secret_file.chmod(0o644)
    done = set_up.examine()
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "no errors, 1 warning")
    assert json.loads(set_up.examine("--json").stdout)["ok"] is True
    assert set_up.examine("--fail-on-warning").exit_code == 1


def test_what_cannot_be_told(set_up: SetUp) -> None:
    """Without a ProxyFix, and without the number of processes, nothing is claimed."""
    set_up.wrap = None
    findings = set_up.findings("--fail-on-warning")
    assert findings["proxy"]["passed"] is None
    assert "right only if callers reach this server directly" in findings["proxy"]["detail"]
    assert findings["rate_limits"]["passed"] is None
    assert "right for one process" in findings["rate_limits"]["detail"]
    assert set_up.examine("--fail-on-warning").exit_code == 0


def test_middleware_is_looked_through(set_up: SetUp) -> None:
    """A ProxyFix is found below other middleware; without one that middleware is named."""

    class Tracing:
        def __init__(self, app: object) -> None:
            self.app = app

        def __call__(self, environ: object, start_response: object) -> object: ...

    set_up.wrap = lambda app: Tracing(ProxyFix(app, x_for=2))
    finding = set_up.findings()["proxy"]
    assert finding["passed"] is True
    assert "believes 2 of X-Forwarded-For" in finding["detail"]
    set_up.wrap = Tracing
    finding = set_up.findings()["proxy"]
    assert finding["passed"] is None
    assert "though Tracing may do its work" in finding["detail"]


def test_workers_from_the_environment(set_up: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of processes is that of WEB_CONCURRENCY, as gunicorn reads it."""
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert "each of 3 processes" in set_up.findings()["rate_limits"]["detail"]


def test_the_one_invoice(set_up: SetUp) -> None:
    """One invoice of one satoshi is ordered, and its description says what it is for."""
    set_up.findings()
    (order,) = [each for each in set_up.lnd.server.requests if each.method == "POST"]
    asked = json.loads(order.body)
    assert asked["value_msat"] == "1000"
    assert asked["memo"] == "flask l402 doctor: a test, not to be paid"


def test_no_invoice(set_up: SetUp) -> None:
    """With --no-invoice none is ordered; what needs one is not done, and a look-up is."""
    findings = set_up.findings("--no-invoice")
    assert not [each for each in set_up.lnd.server.requests if each.method == "POST"]
    assert findings["invoice"]["detail"] == "left out by --no-invoice"
    assert findings["network"]["detail"] == "not done: see invoice"
    assert findings["challenge"]["passed"] is None
    assert findings["look_up"]["passed"] is True
    assert set_up.examine("--no-invoice").exit_code == 0


def test_nothing_is_left_behind(set_up: SetUp) -> None:
    """The record is as it was: no lease, no count of a challenge, no payment."""
    before = set_up.database.read_bytes()
    set_up.findings()
    set_up.close()
    assert set_up.database.read_bytes() == before


def test_the_node_is_told_of_once(set_up: SetUp, caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong with the node stands in the verdicts, and not in the log as well."""
    set_up.lnd.refuses = {"POST": "permission denied"}
    assert set_up.findings()["invoice"]["passed"] is False
    assert not caplog.messages
    assert logging.getLogger("l402.node").disabled is False


def test_a_fault_of_a_check(set_up: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is a finding by its name alone, and the rest goes on."""

    def fail() -> None:
        raise RuntimeError(CANARY)

    app = set_up.make_app()
    monkeypatch.setattr(app.extensions["l402"].desk.node, "excess", fail)
    set_up.make_app = lambda: app  # type: ignore[method-assign]
    set_up.kept.append(CANARY)
    findings = set_up.findings()
    assert findings["permissions"]["detail"] == "the check failed with RuntimeError"
    assert findings["challenge"]["passed"] is True


def test_an_app_without_l402() -> None:
    """An app that was never set up is told what to write."""
    done = FlaskCliRunner(Flask("shop")).invoke(cli, ["doctor", "--json"])
    assert done.exit_code == 1
    first, *others = json.loads(done.stdout)["checks"]
    assert first["detail"] == "this app has no L402"
    assert first["fix"].startswith("write L402(app)")
    assert {other["passed"] for other in others} == {None}


@pytest.mark.parametrize(
    ("source", "detail", "fix"),
    [
        (None, "Could not import 'shop'", "flask --app shop l402 doctor"),
        (f"raise ImportError('{CANARY}')", "While importing 'shop', an ImportError was raised",
         "can be imported"),
        ("import nosuchmodule", "No module named 'nosuchmodule'", "can be imported"),
        (HEAD + "L402(app)", "L402_NODE is not set", "lnd+https://"),
        (HEAD + "import os\nos.environ['SHOP_DATABASE']", "KeyError SHOP_DATABASE at shop.py:5",
         "mend the app"),
        (HEAD + f"{{}}['{CANARY}']", "KeyError at shop.py:4", "flask routes shows"),
        (HEAD + f"raise ValueError('{CANARY}')", "ValueError at shop.py:4", "flask routes shows"),
        (HEAD + f"import sys\nsys.exit('{CANARY}')", "SystemExit at shop.py:5", "mend the app"),
        (HEAD + f"secret = '{CANARY}' if", "SyntaxError at shop.py:4", "mend the app"),
        (HEAD + "@paywall(sats=-1)\ndef view(): ...", "sats=-1", "an int >= 0"),
        (HEAD + "app.config['L402_SERVCE'] = 'x'\nL402(app)", "L402_SERVCE is no setting",
         "did you mean L402_SERVICE?"),
        ("def create_app():\n    from l402 import L402\n    from flask import Flask\n"
         "    L402(Flask('shop'))", "L402_NODE is not set", "write for example"),
        ("def create_app(name): ...", "could not call it without arguments", "flask --app"),
    ],
)  # fmt: skip
def test_an_app_that_cannot_be_loaded(
    tmp_path: Path, source: str | None, detail: str, fix: str
) -> None:
    """Typed at a shell, also what keeps the app from being loaded is a finding, without secrets."""
    if source is not None:
        (tmp_path / "shop.py").write_text(source)
    done = flask("--app", "shop", "l402", "doctor", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert CANARY not in done.stdout
    first, *others, _, verdict = done.stdout.splitlines()
    assert first.startswith("error    configuration")
    assert detail in first
    assert fix in first
    assert {line.split(maxsplit=2)[2] for line in others} == {"not done: see configuration"}
    assert verdict == "1 error, no warnings"


def test_a_set_up_at_a_shell(tmp_path: Path) -> None:
    """The first day: a key is made, the tables are, and the doctor sees what is left to do."""
    (tmp_path / "app.py").write_text(
        HEAD + "app.config.from_prefixed_env()\nL402(app)\n"
        "@app.get('/quote')\n@paywall(sats=10)\ndef quote(): return 'x'\n"
    )
    key = flask("l402", "keygen", cwd=tmp_path).stdout.strip()
    settings = {
        "FLASK_L402_NODE": "simulated:",
        "FLASK_L402_SIMULATED": "true",
        "FLASK_L402_SECRET_KEY": key,
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flask", "l402", *arguments],
            cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    assert "run flask l402 upgrade" in run("doctor").stdout
    run("upgrade")
    done = run("doctor")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no errors, 2 warnings")
    assert key not in done.stdout + done.stderr

"""The wheel, as somebody who installs it meets it."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 600  # seconds; installing the dependencies needs the package index

APP = """
from flask import Flask
from l402 import L402, paywall

app = Flask(__name__)
app.config.from_prefixed_env()
L402(app)

@app.get("/quote")
@paywall(sats=10)
def quote():
    return "sold"
"""

CHECK = """
import l402
from importlib.resources import files
from shop import app
from l402.testing import PayingClient

assert "site-packages" in l402.__file__, l402.__file__
assert (files("l402") / "py.typed").is_file()
client = PayingClient(app)
assert client.get("/quote").text == "sold" and client.payments == 1
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that the clone stays as it is."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("l402", "migrations"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(built), str(source))
    (wheel,) = built.glob("*.whl")
    return wheel


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command; return what it printed."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.packaging
def test_the_wheel_holds_everything(wheel: Path) -> None:
    """The migrations, the type marker and the licence are in it, and no test or example is."""
    names = ZipFile(wheel).namelist()
    shipped = {name for name in names if name.startswith("l402/migrations/")}
    here = {str(Path("l402") / p.relative_to(ROOT)) for p in ROOT.glob("migrations/**/*.py")}
    assert shipped >= here | {"l402/migrations/script.py.mako"}
    assert any(Path(name).name.startswith("0001") for name in shipped)
    assert "l402/py.typed" in names
    modules = {str(path.relative_to(ROOT)) for path in ROOT.glob("l402/**/*.py")}
    assert modules <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"l402"}


@pytest.mark.packaging
def test_the_wheel_sells_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed alone, it makes its tables and sells, with no clone anywhere near."""
    venv, shop = tmp_path / "venv", tmp_path / "shop"
    run(sys.executable, "-m", "venv", str(venv))
    python = str(venv / "bin" / "python")
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", str(wheel))
    shop.mkdir()
    (shop / "shop.py").write_text(APP)
    environment = {
        "PATH": str(venv / "bin"),
        "FLASK_L402_NODE": "simulated:",
        "FLASK_L402_SIMULATED": "true",
        "FLASK_L402_SECRET_KEY": run(
            str(venv / "bin" / "flask"), "l402", "keygen", cwd=shop
        ).strip(),
    }
    run(str(venv / "bin" / "flask"), "--app", "shop", "l402", "upgrade", cwd=shop, env=environment)
    run(python, "-c", CHECK, cwd=shop, env=environment)

"""Sets up what the foreign clients need, outside the clone; run it to do so ahead of the tests.

Each environment is a folder under the user's cache, named by a digest of what is pinned for it.
Anything that cannot be had is an error: a client that does not run is not tested.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_HERE = Path(__file__).parent
_SDK, _LOCK = _HERE / "sdk-requirements.txt", _HERE / "package-lock.json"
_NOSTR = _HERE.parent / "lightning" / "nostr-relay-requirements.txt"
_PATIENCE = 600  # seconds for one download


def sdk_python() -> Path:
    """Return the interpreter that has l402sdk.

    It installs a top-level package ``l402``, as we do, so it cannot live beside ours.
    """
    return environment("sdk", _SDK, _virtual(_SDK)) / "bin" / "python"


def nostr_relay() -> Path:
    """Return the program of a relay of Nostr."""
    return environment("nostr", _NOSTR, _virtual(_NOSTR)) / "bin" / "nostr-relay"


def node_modules() -> Path:
    """Return the folder of the JavaScript clients' packages."""
    return environment("node", _LOCK, _install_node) / "node_modules"


def program(*names: str) -> str:
    """Return the path of the first of some programs that is installed."""
    for name in names:
        if path := shutil.which(name):
            return path
    raise RuntimeError(f"{' or '.join(names)} is not installed; the clients' tests need it")


def environment(name: str, pinned: Path, install: Callable[[Path], None]) -> Path:
    """Return a finished environment; others who want it meanwhile wait for the one who makes it."""
    digest = hashlib.sha256(pinned.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flask-l402"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{name}-{digest}"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "finished").exists():
            shutil.rmtree(folder, ignore_errors=True)
            install(folder)
            (folder / "finished").touch()
    return folder


def _virtual(pinned: Path) -> Callable[[Path], None]:
    def install(folder: Path) -> None:
        run(sys.executable, "-m", "venv", str(folder))
        run(str(folder / "bin" / "pip"), "install", "--quiet", "--no-deps", "-r", str(pinned))

    return install


def _install_node(folder: Path) -> None:
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_HERE / name, folder)
    run(program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a command to its end.

    :raises RuntimeError: it failed, with what it said
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    for part in (sdk_python(), node_modules(), program("node"), program("chromium")):
        print(part)

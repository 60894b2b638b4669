"""Programs that Go builds from pinned modules: btcd, lnd, a buyer for the tests, and Aperture.

``python tests/lightning/binaries.py`` builds what is not there yet and prints the folders. They lie
outside the clone, and a change of a pin, of a source or of a tag means another folder.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

_HERE = Path(__file__).parent
#: lnd's sub-servers; lndclient refuses an lnd that lacks one of these.
_TAGS = "invoicesrpc signrpc walletrpc chainrpc"
#: Go packages, by the folder of the module that pins them
_PACKAGES = {
    "nodes": ("github.com/btcsuite/btcd", "github.com/lightningnetwork/lnd/cmd/lnd"),
    "buyer": (".",),
    "aperture": ("github.com/lightninglabs/aperture/cmd/aperture",),
}
_WITHIN = 1800  # seconds; five to eight minutes on two cores where nothing was downloaded yet
_TELL_EVERY = 10.0  # seconds


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def binaries(module: str = "nodes", tell: Callable[[str], None] = _tell) -> Path:
    """Return the folder of a module's programs; build them if need be, and `tell` how it goes.

    ``nodes`` has ``btcd`` and ``lnd``, ``buyer`` and ``aperture`` a program of that name. Several
    processes may ask at once: one builds, and the others wait for it.

    :raises RuntimeError: Go is missing, or it could not build them
    """
    folder = _cache() / f"go-{module}-{_key(module)}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"go-{module}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build(module, folder, tell)
    return folder


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flask-l402"


def _key(module: str) -> str:
    digest = sha256(repr((_TAGS, _PACKAGES[module])).encode())
    for source in sorted((_HERE / module).iterdir()):
        digest.update(sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _build(module: str, folder: Path, tell: Callable[[str], None]) -> None:
    """Build beside `folder` and move it into place, so that it is never there half-made."""
    if shutil.which("go") is None:
        raise RuntimeError("Go is missing: install Go 1.25.10 or newer and put it on PATH")
    tell(f"building the {module} with Go, once: some 800 packages in five to ten minutes")
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        _install(module, Path(draft) / "bin", tell)
        (Path(draft) / "bin").rename(folder)


def _install(module: str, into: Path, tell: Callable[[str], None]) -> None:
    command = ["go", "install", "-v", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]
    go = subprocess.Popen(
        [*command, "-tags", _TAGS, *_PACKAGES[module]],
        cwd=_HERE / module,
        # The Go that is installed, whatever a module would like to download.
        env=os.environ | {"GOTOOLCHAIN": "local", "GOBIN": str(into), "GOWORK": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    overdue = threading.Timer(_WITHIN, go.kill)
    overdue.start()
    try:
        said = _follow(go, lambda text: tell(f"building the {module}: {text}"))
    except BaseException:
        go.send_signal(signal.SIGINT)
        raise
    finally:
        overdue.cancel()
        go.wait()
    if go.returncode:
        raise RuntimeError(f"Go could not build the {module}:\n{said}")


def _follow(go: subprocess.Popen[str], tell: Callable[[str], None]) -> str:
    """Tell now and then how far Go is; return the end of what it said."""
    assert go.stdout is not None
    begun = told = time.monotonic()
    fetched = compiled = 0
    said: deque[str] = deque(maxlen=50)
    with go.stdout:
        for line in go.stdout:
            said.append(line)
            fetched += line.startswith("go: downloading")
            compiled += not line.startswith("go: ")
            if (now := time.monotonic()) - told >= _TELL_EVERY:
                told = now
                tell(f"{now - begun:.0f} s, {fetched} modules fetched, {compiled} packages built")
    return "".join(said)


if __name__ == "__main__":
    for name in _PACKAGES:
        print(binaries(name))

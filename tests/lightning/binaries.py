"""The programs of the Lightning tests: btcd, lnd and a buyer, built by Go from pinned modules.

``python tests/lightning/binaries.py`` builds what is not there yet and prints the folder. It lies
outside the clone, and a change of a pin, of the buyer or of a tag means another folder.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

_HERE = Path(__file__).parent
#: lnd's sub-servers; lndclient refuses an lnd that lacks one of these.
_TAGS = "invoicesrpc signrpc walletrpc chainrpc"
_PACKAGES = {
    "nodes": ("github.com/btcsuite/btcd", "github.com/lightningnetwork/lnd/cmd/lnd"),
    "buyer": (".",),
}
_SOURCES = ("nodes/go.mod", "nodes/go.sum", "buyer/go.mod", "buyer/go.sum", "buyer/main.go")
_WITHIN = 1800  # seconds; four to five minutes on two cores where nothing was downloaded yet


def binaries() -> Path:
    """Return the folder that holds ``btcd``, ``lnd`` and ``buyer``; build them if need be.

    Several processes may ask at once: one builds, and the others wait for it.

    :raises RuntimeError: Go is missing, or it could not build them
    """
    folder = _cache() / f"go-{_key()}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "go.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build(folder)
    return folder


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flask-l402"


def _key() -> str:
    digest = sha256(_TAGS.encode())
    for source in _SOURCES:
        digest.update(sha256((_HERE / source).read_bytes()).digest())
    return digest.hexdigest()[:16]


def _build(folder: Path) -> None:
    """Build beside `folder` and move it into place, so that it is never there half-made."""
    if shutil.which("go") is None:
        raise RuntimeError("Go is missing: install Go 1.25.10 or newer and put it on PATH")
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        for module, packages in _PACKAGES.items():
            _install(module, packages, Path(draft) / "bin")
        (Path(draft) / "bin").rename(folder)


def _install(module: str, packages: tuple[str, ...], into: Path) -> None:
    command = ["go", "install", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-tags", _TAGS]
    done = subprocess.run(
        [*command, *packages],
        cwd=_HERE / module,
        # The Go that is installed, whatever a module would like to download.
        env=os.environ | {"GOTOOLCHAIN": "local", "GOBIN": str(into), "GOWORK": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_WITHIN,
    )
    if done.returncode:
        raise RuntimeError(f"Go could not build {', '.join(packages)}:\n{done.stdout[-4000:]}")


if __name__ == "__main__":
    print(binaries())

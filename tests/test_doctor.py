"""What the doctor reads by itself: macaroons, mounts, certificates and secrets."""

import re
import secrets
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_servers import Certificate, http_answer, serving
from support.lnd_stand_in import baked

from l402.doctor import CHECKS
from l402.doctor.configuration import weakness
from l402.errors import NodeUnreachable
from l402.nodes.http import JsonClient
from l402.nodes.lnd import LndNode
from l402.nodes.permissions import permissions
from l402.store import health

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "doctor.md").read_text()
MOUNTS = """\
22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /mnt rw - {} nas:/a rw
31 30 0:41 / /mnt/local\\040disk rw shared:3 master:1 - xfs /dev/vdb rw
"""


def test_every_check_is_documented() -> None:
    """The document lists the checks in their order, and no other."""
    table = DOCUMENT.partition("## The checks")[2]
    assert re.findall(r"^\| `(\w+)`", table, re.M) == [check.name for check in CHECKS]


def test_checks_need_earlier_ones() -> None:
    """What a check needs is done before it."""
    names = [check.name for check in CHECKS]
    for check in CHECKS:
        assert set(check.needs) <= set(names[: names.index(check.name)])


@pytest.mark.parametrize(
    ("path", "kind", "found"),
    [
        ("/srv/l402.db", "nfs4", None),
        ("/mnt/l402.db", "nfs4", "nfs4"),
        ("/mnt/deep/er/l402.db", "cifs", "cifs"),
        ("/mnt/l402.db", "fuse.sshfs", "fuse.sshfs"),
        ("/mnt/l402.db", "fuseblk", None),
        ("/mnt/l402.db", "overlay", None),
        ("/mnt/local disk/l402.db", "nfs", None),
        ("/mntx/l402.db", "nfs", None),
    ],
)
def test_network_file_systems(tmp_path: Path, path: str, kind: str, found: str | None) -> None:
    """The mount that a path is on is the nearest one above it, and its type decides."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(kind))
    assert health.network_file_system(Path(path), mounts) == found


def test_the_last_mount_counts(tmp_path: Path) -> None:
    """Of two mounts at one place the later covers the earlier."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format("nfs") + "33 30 0:9 / /mnt rw - ext4 /dev/vdc rw\n")
    assert health.network_file_system(Path("/mnt/l402.db"), mounts) is None


def test_permissions_of_a_macaroon() -> None:
    """The permissions are those that it was baked of."""
    given = ("invoices:read", "invoices:write", "uri:/lnrpc.Lightning/AddInvoice", "info:read")
    assert permissions(baked(*given)) == set(given)


def test_permissions_after_a_location() -> None:
    """A location ahead of the identifier is skipped."""
    plain = baked("invoices:read")
    assert permissions(plain[:1] + b"\x01\x03lnd" + plain[1:]) == {"invoices:read"}


def test_needed_permissions_are_no_excess() -> None:
    """What creating and looking up need is not too much, by entity or by call; the rest is."""

    def excess(*permissions: str) -> tuple[str, ...] | None:
        return LndNode("https://127.0.0.1:1", baked(*permissions).hex()).excess()

    assert excess("invoices:read", "invoices:write") == ()
    assert excess("uri:/lnrpc.Lightning/AddInvoice", "uri:/lnrpc.Lightning/LookupInvoice") == ()
    assert excess("onchain:write", "invoices:read") == ("onchain:write",)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"\x02\x02" + tail))
def test_permissions_of_anything(data: bytes) -> None:
    """Whatever is read, the answer is permissions or that there are none to be told."""
    found = permissions(data)
    assert found is None or all(":" in each for each in found)


@given(st.integers(0, 100))
def test_a_macaroon_cut_short(length: int) -> None:
    """A part of a macaroon tells nothing that the whole one does not."""
    whole = baked("invoices:read", "invoices:write")
    found = permissions(whole[:length])
    assert found is None or found <= {"invoices:read", "invoices:write"}


def test_drawn_secrets_are_not_weak() -> None:
    """What keygen and its like draw is never taken for a typed one."""
    for _ in range(2000):
        assert weakness(secrets.token_hex(32).encode()) is None
        assert weakness(secrets.token_urlsafe(32).encode()) is None
        assert weakness(secrets.token_bytes(32)) is None


def test_the_end_of_a_certificate(tmp_path: Path) -> None:
    """It is that of the certificate which the server shows at the moment."""
    certificate = Certificate.make(tmp_path / "a", days=20)
    with serving(lambda _: http_answer(200, {}), certificate) as server:
        client = JsonClient(server.url, {}, certificate.cert)
        end = client.certificate_end(2.0)
        assert end is not None
        assert abs(end - time.time() - 20 * 86400) < 60
        server.present(Certificate.make(tmp_path / "b"))
        with pytest.raises(NodeUnreachable, match="its certificate is not trusted"):
            client.certificate_end(2.0)
        assert not server.requests


def test_no_certificate() -> None:
    """A server without TLS shows none."""
    with serving(lambda _: http_answer(200, {})) as server:
        assert JsonClient(server.url, {}).certificate_end(2.0) is None

import traceback
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_servers import Certificate

from l402.errors import ConfigurationError
from l402.nodes.url import make_node
from l402.protocol import bolt11

CANARY = "02" + "c0ffee" * 20  # of a macaroon's shape
SECRET = b"s" * 32


@pytest.fixture
def macaroon(tmp_path):
    path = tmp_path / "invoices.macaroon"
    path.write_bytes(bytes.fromhex(CANARY))
    return path


def fault_of(url, **arguments):
    with pytest.raises(ConfigurationError) as caught:
        make_node(url, **arguments)
    text = "".join(traceback.format_exception(caught.value))
    assert CANARY not in text
    assert "hunter2" not in text
    assert "example: " in str(caught.value)
    return str(caught.value)


def test_an_lnd(macaroon, tmp_path):
    """Every parameter of an lnd reaches its adapter."""
    certificate = Certificate.make(tmp_path)
    node = make_node(
        f"lnd+https://bob:8080?macaroon_path={macaroon}"
        f"&tls_cert_path={certificate.cert}&network=regtest&private=true"
    )
    assert repr(node) == "lnd at https://bob:8080 (regtest)"
    assert (node.network, node.invoice_network) == ("regtest", "regtest")
    assert (node.can_look_up, node.custodial) == (True, False)
    assert node._secret == CANARY
    assert node._private is True


def test_an_lnd_with_defaults():
    """Mainnet, no private channels, the system's authorities."""
    node = make_node(f"lnd+https://bob:8080?macaroon={CANARY}")
    assert repr(node) == "lnd at https://bob:8080 (mainnet)"
    assert node._private is False


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("127.0.0.1:8080", "https://127.0.0.1:8080"),
        ("[::1]:8080", "https://[::1]:8080"),
        ("BTCPay.example/lnd-rest/btc/", "https://btcpay.example/lnd-rest/btc"),
    ],
)
def test_addresses(address, base):
    """Host, port and path are kept; without a port it is that of https."""
    assert base in repr(make_node(f"lnd+https://{address}?macaroon={CANARY}"))


def test_the_scheme_in_capitals():
    """A scheme is the same in any case (RFC 3986, section 3.1)."""
    assert "https://bob" in repr(make_node(f"LND+HTTPS://bob?macaroon={CANARY}"))


@pytest.mark.parametrize("content", [CANARY, CANARY.upper() + "\n", bytes.fromhex(CANARY)])
def test_macaroon_files(tmp_path, content):
    """A macaroon's file is lnd's own, or its hex digits as secret stores hold them."""
    path = tmp_path / "a macaroon+1"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    url = f"lnd+https://bob?macaroon_path={str(path).replace(' ', '%20')}"
    assert make_node(url)._secret == CANARY


def test_a_home_directory(macaroon, monkeypatch):
    """A tilde is the home directory, as in a shell."""
    monkeypatch.setenv("HOME", str(macaroon.parent))
    assert make_node(f"lnd+https://bob?macaroon_path=~/{macaroon.name}")._secret == CANARY


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "begins with no scheme"),
        (CANARY, "begins with no scheme"),
        (f"{CANARY}:x", "begins with no scheme"),
        ("://bob", "begins with no scheme"),
        ("ldn+https://bob", "unknown scheme 'ldn+https', did you mean lnd+https?"),
        ("simulate:", "did you mean simulated?"),
        ("zzz://bob", "unknown scheme 'zzz'; known are lnd+https, cln+https, cln+http,"),
        (f"lnd+http://bob?macaroon={CANARY}", "unencrypted, write lnd+https"),
        (f"lnd+https://bob?macaroon={CANARY} ", "a space"),
        (f"lnd+https://bob?macaroon={CANARY}\n", "unprintable"),
    ],
)
def test_faults_of_the_scheme(url, fault):
    """What cannot be told apart by its scheme names the schemes known."""
    assert fault in fault_of(url)


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("?", "names no host"),
        ("bob:99999?", "cannot be read"),
        ("bob:hunter2?", "cannot be read"),
        ("bob:0?", "its port"),
        ("bob:?", "its port"),
        ("[::1?", "cannot be read"),
        ("admin:hunter2@bob?", "neither a user nor a password"),
        ("bob?x=%ff&", "cannot be read"),
    ],
)
def test_faults_of_the_address(address, fault):
    """A host or port that cannot be is refused, and a password is not repeated."""
    assert fault in fault_of(f"lnd+https://{address}macaroon={CANARY}")


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("", "macaroon_path is missing"),
        ("network=regtest", "macaroon_path is missing"),
        ("macaroon=", "not of the form name=value"),
        (CANARY, "not of the form name=value"),
        (f"{CANARY}=", "not of the form name=value"),
        (f"macaroon={CANARY}&", "not of the form name=value"),
        (f"Macaroon={CANARY}", "not of the form name=value"),
        (f"macaroon={CANARY}#x", "takes no '#'"),
        (f"macaroon={CANARY}&macaroon={CANARY}", "parameter macaroon stands there twice"),
        (f"macaroon={CANARY}&macaroon_path=/x", "exclude each other"),
        (f"macaroon={CANARY}&netwrok=regtest", "did you mean network?"),
        (f"macaroon={CANARY}&zzz=hunter2", "unknown parameter 'zzz'"),
        (f"macaroon={CANARY}&network=bitcoin", "network is none of mainnet, testnet, signet"),
        (f"macaroon={CANARY}&network=simulated", "network is none of"),
        (f"macaroon={CANARY}&private=1", "private is none of true, false"),
        (f"macaroon={CANARY[:-1]}", "none of lnd's"),
        (f"macaroon=03{CANARY}", "none of lnd's"),
        ("macaroon=hunter2", "none of lnd's"),
        (f"macaroon_path={CANARY}", "cannot read the file of macaroon_path"),
        ("macaroon_path=/nowhere/x", "cannot read the file /nowhere/x of macaroon_path (No such"),
        ("macaroon_path=/tmp", "cannot read the file /tmp of macaroon_path (Is a directory)"),
        ("macaroon_path=%00", "cannot read the file of macaroon_path (not a path)"),
        ("macaroon_path=/dev/null", "the file /dev/null of macaroon_path is empty"),
        (f"macaroon={CANARY}&tls_cert_path=/nowhere/x", "cannot read the file /nowhere/x of tls_"),
        (f"macaroon={CANARY}&tls_cert_path=/etc/passwd", "holds no certificate in PEM"),
    ],
)
def test_faults_of_the_parameters(query, fault):
    """A missing, unknown, doubled or wrong parameter is named, and no value repeated."""
    assert fault in fault_of(f"lnd+https://bob:8080?{query}")


def test_a_file_that_is_no_macaroon(tmp_path):
    """The wrong file is found out at the start, not at the first sale."""
    certificate = Certificate.make(tmp_path)
    fault = fault_of(f"lnd+https://bob?macaroon_path={certificate.key}")
    assert "none of lnd's" in fault


def test_a_secret_with_a_slash_where_its_path_belongs():
    """A macaroon in Base64, put where its file's path belongs, looks like a path and is kept."""
    macaroon = b64encode(bytes.fromhex(CANARY) + b"\xff" * 99).decode()
    assert "/" in macaroon
    fault = fault_of(f"lnd+https://bob?macaroon_path={macaroon}")
    assert macaroon[:8] not in fault
    assert "cannot read the file of macaroon_path" in fault


WORD = "canary-c0ffee"  # of the shape of a rune, a key and a password


@pytest.fixture
def word(tmp_path):
    """A file that holds a secret as a line."""
    path = tmp_path / "secret"
    path.write_text(WORD + "\n")
    return path


OTHERS = [
    ("cln", "CLN", "rune", False),
    ("lnbits", "LNbits", "key", True),
    ("phoenixd", "phoenixd", "password", False),
    ("eclair", "Eclair", "password", False),
]


@pytest.mark.parametrize(("scheme", "kind", "secret", "custodial"), OTHERS)
def test_other_nodes(word, tmp_path, scheme, kind, secret, custodial):
    """Nodes of the other kinds take a secret, a certificate and a network; mainnet is usual."""
    ca = Certificate.make(tmp_path).cert
    secrets = (f"{secret}={WORD}", f"{secret}_path={word}")
    for query in (*secrets, f"{secret}={WORD}&ca_path={ca}&network=signet"):
        node = make_node(f"{scheme}+https://bob:1?{query}")
        network = "signet" if "signet" in query else "mainnet"
        assert repr(node) == f"{kind} at https://bob:1 ({network})"
        assert node.network == node.invoice_network == network
        assert (node.can_look_up, node.custodial) == (True, custodial)
        assert node._secret == WORD


@pytest.mark.parametrize(("scheme", "kind", "secret", "custodial"), OTHERS)
def test_http_on_the_same_machine(scheme, kind, secret, custodial):
    """What does not leave the machine needs no encryption."""
    for host in ("127.0.0.1", "127.9.9.9", "[::1]", "localhost", "LocalHost"):
        node = make_node(f"{scheme}+http://{host}:1?{secret}={WORD}")
        assert repr(node) == f"{kind} at http://{host.lower()}:1 (mainnet)"


@pytest.mark.parametrize(("scheme", "kind", "secret", "custodial"), OTHERS)
@pytest.mark.parametrize(
    "host", ["bob", "10.0.0.5", "192.168.1.2", "[fd00::1]", "localhost.bob", "0.0.0.0", "1270.0.1"]
)
def test_http_to_another_machine(host, scheme, kind, secret, custodial):
    """A secret is not sent unencrypted to another machine, and a name is taken for one."""
    url = f"{scheme}+http://{host}:1?{secret}=hunter2"
    assert "http to another machine would send the secret unencrypted" in fault_of(url)


@pytest.mark.parametrize("scheme", ["phoenixd", "eclair"])
def test_a_password_before_the_host(scheme):
    """A password may stand where those who write curl -u :password would put it."""
    for written, password in ((WORD, WORD), ("p%40s%3As", "p@s:s"), ("a:b", "a:b")):
        assert make_node(f"{scheme}+http://:{written}@localhost:1")._secret == password


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("phoenixd+http://localhost", "password_path is missing (or password, with the secret"),
        ("phoenixd+http://me:hunter2@localhost", "before its host stands a password alone"),
        ("phoenixd+http://hunter2@localhost", "before its host stands a password alone"),
        ("phoenixd+http://:hunter2@localhost?password=hunter2", "a password alone, and then no"),
        ("phoenixd+http://:hunter2@localhost?password_path=/x", "a password alone, and then no"),
        ("phoenixd+http://:@localhost", "the password is no single word"),
        ("phoenixd+http://:hunter%202@localhost", "the password is no single word"),
        ("phoenixd+http://:hunter%ff2@localhost", "an escape in it cannot be read"),
        ("cln+https://:hunter2@bob?rune=hunter2", "takes neither a user nor a password"),
        ("lnbits+https://hunter2@bob?key=hunter2", "takes neither a user nor a password"),
        ("lnbits+https://bob?key=hunter2%0d%0aX:y", "the key is no single word"),
        ("lnbits+https://bob?key=hunter2%c3%a9", "the key is no single word"),
        ("lnbits+https://bob?admin_key=hunter2", "key_path is missing"),
        ("cln+https://bob?rune=hunter2&tls_cert_path=/x", "did you mean ca_path?"),
        ("cln+https://bob?rune=hunter2&network=bitcoin", "network is none of mainnet"),
        ("cln+https://bob?rune_path=hunter2", "cannot read the file of rune_path"),
        ("cln+https://bob?rune_path=/dev/null", "the file /dev/null of rune_path is empty"),
        ("clnrest+https://bob", "did you mean cln+https?"),
        ("phoenixd://bob", "did you mean phoenixd+http"),
    ],
)
def test_faults_of_other_nodes(url, fault):
    """What is wrong with a URL is named, and no secret repeated."""
    assert fault in fault_of(url)


def test_the_simulated_node():
    """The simulated node has a network of its own and needs nothing but a secret."""
    node = make_node("simulated:", simulated_secret=SECRET)
    assert node.network == "simulated"
    with pytest.raises(ConfigurationError, match="needs the secret"):
        make_node("simulated:")
    assert "nothing may follow" in fault_of("simulated://x", simulated_secret=SECRET)


def test_the_clock_of_the_simulated_node():
    """Its invoices are dated by the clock that it was given."""
    node = make_node("simulated:", simulated_secret=SECRET, clock=lambda: 1_800_000_000.9)
    issued = node.create_invoice(10_000, "tea", 3600)
    assert bolt11.decode(issued.bolt11).created_at == 1_800_000_000


@given(st.text())
def test_any_text_is_a_node_or_a_configuration_error(text):
    """No text raises anything else."""
    known = ("lnd+https", "cln+https", "lnbits+http", "phoenixd+http", "eclair+https")
    for url in (text, *(f"{k}://{text}" for k in known), *(f"{k}://[::1]?{text}" for k in known)):
        with pytest.raises(ConfigurationError):
            make_node(url)

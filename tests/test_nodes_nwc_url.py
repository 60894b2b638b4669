import sys
import traceback
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from l402.errors import ConfigurationError
from l402.nodes.url import make_node

WALLET = "b889ff5b1513b641e2a139f661a661364979c5beee91842f8f0ef42ab558e9d4"  # NIP-47's example
SECRET = "71a8c14c1407c113601079c4302dab36460f0ccd0ad506f1f2dc73b5100e4f3c"
RELAY = "wss%3A%2F%2Frelay.example%2Fv1"
URI = f"nostr+walletconnect://{WALLET}?relay={RELAY}&secret={SECRET}"


def fault_of(url):
    """Return what is said against `url`: how to write it, and nothing of the secret."""
    with pytest.raises(ConfigurationError) as caught:
        make_node(url)
    text = "".join(traceback.format_exception(caught.value))
    assert SECRET not in text
    assert "hunter2" not in text
    assert "example: nostr+walletconnect://" in str(caught.value)
    return str(caught.value)


def read(node):
    return node._wallet, node._urls, node._secret, node.network


@pytest.mark.parametrize(
    "uri",
    [
        URI,
        URI.replace("//", ""),
        URI.replace("?", "/?"),
        URI.upper()
        .replace("RELAY=WSS%3A%2F%2FRELAY.EXAMPLE%2FV1", f"relay={RELAY}")
        .replace("SECRET=", "secret="),
        f"nostr+walletconnect://{WALLET}?secret={SECRET}&relay=wss://relay.example/v1",
        URI + "&lud16=shop%40example.com&name=My%20shop&iconurl=https://x.example/i.png",
    ],
)
def test_wallets_uri(uri):
    """What a wallet shows is taken as it is, with whatever else it tells."""
    assert read(make_node(uri)) == (WALLET, ("wss://relay.example/v1",), SECRET, "mainnet")


def test_relays():
    """A wallet may be reached over several relays."""
    node = make_node(URI + "&relay=ws://[::1]:7777")
    assert read(node)[1] == ("wss://relay.example/v1", "ws://[::1]:7777")
    assert repr(node) == "NWC wallet b889ff5b over relay.example, ::1 (mainnet)"


def test_repr_without_credentials():
    """A password in a relay's address is not shown."""
    node = make_node(URI.replace("relay.example", "bob:hunter2@relay.example") + "&network=signet")
    assert repr(node) == "NWC wallet b889ff5b over relay.example (signet)"


@pytest.mark.parametrize("network", ["mainnet", "testnet", "signet", "regtest"])
def test_network(network):
    """The network is ours to name; wallets do not."""
    node = make_node(f"{URI}&network={network}")
    assert (node.network, node.invoice_network) == (network, network)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "  \n"])
def test_uri_in_a_file(tmp_path, ending):
    """The whole URI may stand in a file, as the wallet shows it."""
    path = tmp_path / "wallet.nwc"
    path.write_text(URI + ending)
    for form in ("", "//"):
        node = make_node(f"nostr+walletconnect:{form}?secret_path={path}&network=regtest")
        assert read(node) == (WALLET, ("wss://relay.example/v1",), SECRET, "regtest")


def test_secret_in_a_file(tmp_path):
    """Or only the secret."""
    path = tmp_path / "secret"
    path.write_text(SECRET.upper() + "\n")
    node = make_node(f"nostr+walletconnect://{WALLET}?relay={RELAY}&secret_path={path}")
    assert read(node) == (WALLET, ("wss://relay.example/v1",), SECRET, "mainnet")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nostr+walletconnect:", "it names no relay"),
        (f"nostr+walletconnect://{WALLET}?secret={SECRET}", "it names no relay"),
        (f"nostr+walletconnect://{WALLET}?relay={RELAY}", "secret must stand there once, not 0"),
        (f"{URI}&secret={SECRET}", "secret must stand there once, not 2"),
        (f"{URI}&network=regtest&network=signet", "network must stand there once, not 2"),
        (f"{URI}&network=simnet", "network is none of mainnet, testnet, signet, regtest"),
        (f"{URI}&netwrk=regtest", "unknown parameter 'netwrk', did you mean network?"),
        (f"{URI}&secretpath=/etc/x", "unknown parameter 'secretpath', did you mean secret_path?"),
        (f"{URI}&secret_path=/etc/x", "secret and secret_path exclude each other"),
        (f"{URI}#hunter2", "it is not of the form that wallets show"),
        (URI.replace("//", "//bob/"), "it is not of the form that wallets show"),
        (URI.replace(RELAY, "https://relay.example"), "relay is not of the form"),
        (URI.replace(RELAY, "relay.example"), "relay is not of the form"),
        (URI.replace(RELAY, "wss://"), "relay is not of the form"),
        (URI.replace(RELAY, "wss://x:hunter2"), "relay is not of the form"),
        (URI.replace(RELAY, "wss://x:0"), "relay is not of the form"),
        (URI.replace(RELAY, "wss://[hunter2"), "relay is not of the form"),
        (URI.replace(RELAY, "%ff"), "an escape in it cannot be read"),
        (URI.replace(WALLET, "npub1hunter2"), "are 64 hex digits each"),
        (URI.replace(WALLET, ""), "are 64 hex digits each"),
        (URI.replace(SECRET, "hunter2"), "are 64 hex digits each"),
        (URI.replace(SECRET, "00" * 32), "the wallet's key or the secret is none of Nostr's"),
        (URI.replace(WALLET, "ff" * 32), "the wallet's key or the secret is none of Nostr's"),
    ],
)
def test_faults(url, words):
    """Each fault is named, without the value."""
    assert words in fault_of(url)


def test_faults_of_the_file(tmp_path):
    """A file that cannot be read is named; what is in it, or was meant to be, is not."""
    path, at = tmp_path / "wallet.nwc", "nostr+walletconnect://?secret_path="
    assert f"cannot read the file {path} of secret_path (No such file" in fault_of(f"{at}{path}")
    assert "cannot read the file of secret_path" in fault_of(f"{at}{SECRET}")
    assert "cannot read the file of secret_path" in fault_of(f"{at}{quote(URI, safe='')}")
    for content in (b"", b"hunter2", b"\xff\xfe", SECRET.encode()):
        path.write_bytes(content)
        fault_of(f"{at}{path}")
    path.write_text(URI)
    for more in (f"&relay={RELAY}", "&lud16=a@b", f"&secret={SECRET}"):
        fault_of(f"{at}{path}{more}")
    fault_of(f"nostr+walletconnect://{WALLET}?secret_path={path}")
    path.write_text(f"{URI}&secret_path={path}")
    assert "names another file" in fault_of(f"{at}{path}")


@pytest.mark.parametrize("module", ["nostr_sdk", "websockets"])
def test_extra_is_missing(monkeypatch, module):
    """Without the extra's libraries, the command that installs them is named."""
    for name in [n for n in sys.modules if n.startswith(("l402.nodes.nwc", "l402.nodes.relay"))]:
        if name != "l402.nodes.nwc_url":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "l402.nodes.nostr", raising=False)
    for name in [n for n in sys.modules if n.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(module), *sys.meta_path])
    with pytest.raises(ConfigurationError, match=r"pip install 'Flask-L402\[nwc\]'"):
        make_node(URI)


class Absent:
    """Finds no module of one name, as if it were not installed."""

    def __init__(self, name):
        self._name = name

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == self._name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


ODD = st.text(st.sampled_from("?&=#%/:+@[]. \x00éabf0129") | st.characters(), max_size=40)


@given(st.lists(st.sampled_from([URI, SECRET, WALLET, RELAY, "&", "?", "relay="]) | ODD))
@example([URI, "&relay=", RELAY])
def test_any_text(pieces):
    """Any text names a wallet, or is refused without a trace of the secret."""
    try:
        said = repr(make_node("nostr+walletconnect:" + "".join(pieces)))
    except ConfigurationError as error:
        said = str(error)
    assert SECRET not in said


ADDRESS = st.from_regex(
    r"wss?://[a-z][a-z0-9.-]{0,20}(:[1-9][0-9]{0,3})?(/[a-z?=&%+]*)?", fullmatch=True
)
MORE = st.tuples(st.sampled_from(["lud16", "name", "x"]), st.text(max_size=9))


@given(secret=st.integers(1, 1 << 255), relays=st.lists(ADDRESS, min_size=1), more=st.lists(MORE))
def test_round_trip(secret, relays, more):
    """Whatever is written as the standard has it is read back."""
    pairs = [("relay", relay) for relay in relays] + [("secret", f"{secret:064x}")] + more
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)
    node = make_node(f"nostr+walletconnect://{WALLET}?{query}")
    assert read(node) == (WALLET, tuple(relays), f"{secret:064x}", "mainnet")

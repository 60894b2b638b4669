import json
import traceback
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_servers import Certificate, ResetConnection, http_answer, serving

from l402.errors import ConfigurationError, RateError
from l402.http.client import Answer
from l402.rates import url as rate_url
from l402.rates.url import RateUrl

CANARY = "canary-5ec2e7"
PATH = "/price?key=" + CANARY + "&in={currency}#data.{currency}.last"


@pytest.fixture
def short(monkeypatch):
    """Little time for an exchange that is meant to be late."""
    monkeypatch.setattr(rate_url, "WITHIN", 0.3)


def says(value):
    return lambda _request: http_answer(200, {"data": {"USD": {"last": value}}})


def answered(raw):
    """The server's body as it stands, for numbers that json.dumps would not write."""
    return lambda _request: http_answer(200, '{"data": {"USD": {"last": ' + raw + "}}}")


def read(behaviour, path=PATH, certificate=None):
    with serving(behaviour, certificate) as server:
        return RateUrl(server.url + path, 1).read("USD")


def fault(behaviour, path=PATH, certificate=None):
    with pytest.raises(RateError) as caught:
        read(behaviour, path, certificate)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("value", [97000.5, "97000.5", "97000.50"])
def test_reads_the_number_at_the_path(value):
    """A number, or text that is one, stands at the fragment's path, and no digit is lost."""
    assert read(says(value)) == Decimal("97000.5")


def test_reads_more_digits_than_a_float_has():
    """What the JSON says is read as a decimal."""
    assert read(answered("97000.1000000000000000001")) == Decimal("97000.1")


def test_asks_for_the_currency():
    """Both placeholders are filled in; the fragment is not sent, the rest is as written."""
    with serving(lambda _: http_answer(200, [{"usd": "5"}])) as server:
        url = RateUrl(server.url + "/a/{currency_lower}?in={currency}&x=%20+#0.{currency_lower}", 1)
        assert url.read("USD") == 5
    assert server.requests[0].path == "/a/usd?in=USD&x=%20+"
    assert server.requests[0].headers["user-agent"] == "Flask-L402"
    assert server.requests[0].headers["connection"] == "close"


def test_a_url_without_a_path():
    """A host alone is asked for its root."""
    with serving(lambda _: http_answer(200, {"a.b": {"USD": 5}})) as server:
        assert RateUrl(server.url + "#a%2Eb.{currency}", 1).read("USD") == 5
    assert server.requests[0].path == "/"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("0", "0 is absurd"),
        ("-97000", "-97000 is absurd"),
        ("1e308", "1e+308 is absurd"),
        ("1e-308", "1e-308 is absurd"),
        ("0.0000001", "1e-7 is absurd"),
        ("9" * 100_000, "is absurd"),
        ("1e99999999999999999999", "no JSON"),
        ("NaN", "no JSON"),
        ("Infinity", "no JSON"),
        ("-Infinity", "no JSON"),
        ('"NaN"', "'NaN' is no number"),
        ('"Infinity"', "is no number"),
        ('"soon"', "'soon' is no number"),
        ('"' + "x" * 5000 + '"', "is no number"),
        ('""', "is no number"),
        ("true", "a bool is no number"),
        ("[1]", "a list is no number"),
        ("{}", "a dict is no number"),
        ("null", "nothing at data.USD.last"),
        ("1, }", "no JSON"),
        ("[" * 100_000, "no JSON"),
    ],
    ids=lambda value: value[:20],
)
def test_an_absurd_number_is_none(raw, words):
    """Whatever is no sensible price is refused in a few words."""
    text = fault(answered(raw))
    assert words in text
    assert len(text) < 120


@pytest.mark.parametrize(
    "body", ["", "97000", "[]", '{"data": []}', '{"data": {"EUR": {"last": 1}}}', '"data"'],
    ids=["empty", "number", "list", "list within", "other currency", "text"],
)  # fmt: skip
def test_a_missing_path(body):
    """Where the path leads nowhere there is no rate."""
    assert fault(lambda _: http_answer(200, body)).startswith(
        ("its JSON has nothing at data.USD.last", "answered with something that is no JSON")
    )


@pytest.mark.parametrize("index", ["2", "00002", "x", "-1", "²"])
def test_an_index_beyond_the_list(index):
    """Only an index within the list leads on."""
    path = "/?{currency}#" + ("%C2%B2" if index == "²" else index)
    assert "nothing at" in fault(lambda _: http_answer(200, [1, 2]), path)


@pytest.mark.parametrize("status", [201, 204, 400, 401, 403, 404, 429, 500, 503])
def test_another_status(status):
    """Only a 200 tells a price, whatever the body says."""
    body = {"data": {"USD": {"last": 97000}}}
    assert fault(lambda _: http_answer(status, body)) == f"answered {status}"


def test_a_redirect_is_not_followed():
    """A redirect is a fault, and nobody else is asked."""
    with serving(says(5)) as other:
        location = f"Location: {other.url}/{CANARY}"
        assert "redirect (302)" in fault(lambda _: http_answer(302, {}, location))
    assert other.requests == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings(encoding):
    """JSON in another Unicode is read too."""
    body = json.dumps({"data": {"USD": {"last": 97000}}}).encode(encoding)
    assert read(lambda _: http_answer(200, body)) == 97000


def test_bytes_that_are_no_text():
    """What cannot be decoded is no JSON."""
    assert "no JSON" in fault(lambda _: http_answer(200, b"\xff\xfe\xff"))


def test_a_huge_answer():
    """A hundred megabytes are given up after the first."""

    def endless(_request):
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n"
        for _ in range(1600):
            yield b" " * 65536

    assert fault(endless) == "its answer is larger than 1 MiB"


def test_nobody_there():
    """A port where nobody listens is named as such."""
    with serving(lambda _: None) as server:
        pass
    with pytest.raises(RateError, match=r"no connection \(Connection refused\)"):
        RateUrl(server.url + PATH, 1).read("USD")


def test_a_connection_that_breaks():
    """Closed and reset connections are faults of ours."""

    def reset(_request):
        raise ResetConnection

    assert fault(lambda _: None) == "broke the connection before it answered"
    assert fault(reset) == "broke the connection before it answered"


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("behaviour", ["hang", "drip"])
def test_a_late_answer(behaviour):
    """Silence, and bytes now and then, are given up in time."""
    with serving(lambda _: None) as server:
        server.behaviour = getattr(server, behaviour)
        with pytest.raises(RateError, match="no answer in time"):
            RateUrl(server.url + PATH, 1).read("USD")


@pytest.mark.usefixtures("short")
def test_a_body_that_drips():
    """The body has no time of its own."""
    with serving(lambda _: None) as server:

        def drip(_request):
            yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
            while not server.ending.wait(0.01):
                yield b" "

        server.behaviour = drip
        with pytest.raises(RateError, match="no answer in time"):
            RateUrl(server.url + PATH, 1).read("USD")


def test_a_certificate_that_nobody_signed(tmp_path):
    """Over TLS only whom the system trusts is asked."""
    assert (
        fault(says(5), certificate=Certificate.make(tmp_path)) == "its certificate is not trusted"
    )


def test_a_certificate_that_the_system_trusts(tmp_path, monkeypatch):
    """Over TLS a rate is read from whom the system trusts."""
    certificate = Certificate.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
    assert read(says(5), certificate=certificate) == 5


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "does not begin with https://"),
        (7, "is no URL"),
        (None, "is no URL"),
        ("https://example.com/ {currency}#a", "is no URL in ASCII"),
        ("https://exämple.com/{currency}#a", "is no URL in ASCII"),
        ("https://example.com/{currency}\n#a", "is no URL in ASCII"),
        ("ftp://example.com/{currency}#a", "does not begin with https://"),
        ("file:///etc/passwd?{currency}#a", "does not begin with https://"),
        ("example.com/{currency}#a", "does not begin with https://"),
        ("https:///{currency}#a", "does not begin with https://"),
        ("https://user:canary-5ec2e7@example.com/{currency}#a", "a user, a password"),
        ("https://example.com:0/{currency}#a", "port 0"),
        ("https://example.com:x/{currency}#a", "cannot be read"),
        ("https://example.com:99999/{currency}#a", "cannot be read"),
        ("https://[::1/{currency}#a", "cannot be read"),
        ("https://{currency}.example.com/#a", "'{' where its host belongs"),
        ("https://example.com/{currency}", "no '#'"),
        ("https://example.com/{currency}#", "no '#'"),
        ("https://example.com/price?key=canary-5ec2e7#usd", "the same number"),
        ("https://example.com/{currency}/{key}#a", "braces"),
        ("https://example.com/{{currency}}#a", "braces"),
    ],
)
def test_a_url_that_cannot_be_used(url, words):
    """A wrong URL is refused where it is configured, by its place and without repeating it."""
    with pytest.raises(ConfigurationError, match=r"^L402_RATES: URL 3 ") as caught:
        RateUrl(url, 3)
    assert words in str(caught.value)
    assert "write for example 'https://" in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_http_is_warned_of(caplog):
    """Over plain HTTP a URL away from this machine is accepted with a warning."""
    RateUrl("http://127.0.0.1:5000/{currency}#a", 1)
    RateUrl("http://localhost/{currency}#a", 1)
    RateUrl("https://rates.example/{currency}#a", 1)
    assert caplog.messages == []
    RateUrl("http://rates.example/{currency}?key=" + CANARY + "#a", 1)
    assert "write https" in caplog.text
    assert CANARY not in caplog.text


def test_shows_its_host_alone():
    """No repr shows a URL's query."""
    url = RateUrl("https://Rates.example:8443/{currency}?key=" + CANARY + "#a", 1)
    assert repr(url) == "RateUrl(rates.example:8443)"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
)


@given(
    content=st.binary() | JSON.map(lambda value: json.dumps(value).encode()),
    path=st.lists(st.sampled_from(["a", "b", "0", "1", "{currency}"]), min_size=1, max_size=3),
)
def test_any_answer_is_a_price_or_a_fault(content, path):
    """No bytes raise anything else than a RateError, and what is read is a sensible price."""
    url = RateUrl("https://a.example/{currency}#" + ".".join(path), 1)
    url._client.exchange = lambda *_: Answer(200, content)
    with suppress(RateError):
        assert Decimal("0.001") <= url.read("USD") <= 10**13

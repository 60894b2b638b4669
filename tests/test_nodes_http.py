import json
import os
import socket
import threading
import traceback
from contextlib import suppress

import pytest
from support.http_servers import Certificate, ResetConnection, http_answer, serving

from l402.errors import NodeUnreachable
from l402.nodes.http import JsonClient

CANARY = "canary-0201036c6e64"
PATIENT = 30.0  # seconds: more than any of these exchanges takes, unless it is meant to be late
HEADERS = {"X-Key": CANARY}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return Certificate.make(tmp_path_factory.mktemp("tls"))


def fault_of(server, ca_file=None, within=PATIENT):
    with pytest.raises(NodeUnreachable) as caught:
        JsonClient(server.url, HEADERS, ca_file).get("/", within).json()
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_get_sends_the_headers_below_the_path_of_the_base():
    """A GET goes below the base's path and carries the credential."""
    with serving(lambda _: http_answer(200, {"a": 1})) as server:
        answer = JsonClient(server.url + "/lnd-rest/btc", HEADERS).get("/v1/x", PATIENT)
    assert (answer.status, answer.json()) == (200, {"a": 1})
    assert server.requests[0].method == "GET"
    assert server.requests[0].path == "/lnd-rest/btc/v1/x"
    assert server.requests[0].headers["x-key"] == CANARY


def test_post_sends_json():
    """A POST carries its body as JSON and says so."""
    with serving(lambda _: http_answer(201, {})) as server:
        answer = JsonClient(server.url, HEADERS).post("/v1/x", {"memo": "é"}, PATIENT)
    assert answer.status == 201
    assert server.requests[0].headers["content-type"] == "application/json"
    assert json.loads(server.requests[0].body) == {"memo": "é"}


def test_keeps_its_connection(certificate):
    """Calls one after the other share one connection, and so one TLS handshake."""
    with serving(lambda _: http_answer(200, {}), certificate) as server:
        client = JsonClient(server.url, HEADERS, certificate.cert)
        for _ in range(5):
            assert client.get("/", PATIENT).json() == {}
        assert server.connections == 1


def test_threads_share_connections():
    """Calls at the same time have a connection each, and later ones use those again."""
    together = threading.Barrier(3)

    def meet(_request):
        together.wait(10)
        return http_answer(200, {})

    with serving(meet) as server:
        client = JsonClient(server.url, HEADERS)
        statuses = []
        for _ in range(3):
            threads = [
                threading.Thread(target=lambda: statuses.append(client.get("/", PATIENT).status))
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
        assert statuses == [200] * 9
        assert server.connections == 3


def test_names_itself_and_wants_no_compression():
    """A request carries nothing of the library's own, and no compressed answer is asked for."""
    with serving(lambda _: http_answer(200, {})) as server:
        JsonClient(server.url, HEADERS).get("/", PATIENT)
    assert server.requests[0].headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "Flask-L402",
        "accept-encoding": "identity",
        "x-key": CANARY,
    }


def test_cookies_are_not_kept():
    """A node's cookie is neither stored nor sent back."""
    with serving(lambda _: http_answer(200, {}, "Set-Cookie: a=b")) as server:
        client = JsonClient(server.url, HEADERS)
        for _ in range(2):
            client.get("/", PATIENT)
    assert "cookie" not in server.requests[1].headers


def test_connects_anew_after_the_node_closed():
    """A connection that the node closed between two calls does not spoil the second."""

    def once(_request):
        yield http_answer(200, {})

    with serving(once) as server:
        client = JsonClient(server.url, HEADERS)
        for _ in range(3):
            assert client.get("/", PATIENT).status == 200
            server.await_closed()
        assert server.connections == 3


def test_an_error_status_is_an_answer():
    """What a status of 400 or more means is for the adapter to say."""
    with serving(lambda _: http_answer(500, {"code": 2})) as server:
        answer = JsonClient(server.url, HEADERS).get("/", PATIENT)
    assert (answer.status, answer.json()) == (500, {"code": 2})


@pytest.mark.parametrize(
    "body",
    ["", "<html>502</html>", '{"r_hash": "QNh', "[]", "7", "null", b"\xff\xfe", "[" * 100_000],
    ids=["empty", "html", "half", "list", "number", "null", "not UTF-8", "deeply nested"],
)
def test_what_is_no_json_object(body):
    """Anything but a whole JSON object is a broken answer."""
    with serving(lambda _: http_answer(200, body)) as server:
        assert fault_of(server) == "answered 200 with something that is no JSON object"


def test_an_answer_does_not_show_its_content():
    """An answer's repr leaves out the body, which may hold a preimage."""
    with serving(lambda _: http_answer(200, {"r_preimage": CANARY})) as server:
        assert CANARY not in repr(JsonClient(server.url, {}).get("/", PATIENT))


def test_a_hundred_megabytes_are_not_read():
    """An answer that is too large is given up after the first MiB."""
    sent = []

    def endless(_request):
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n"
        for _ in range(1600):
            yield b" " * 65536
            sent.append(65536)

    with serving(endless) as server:
        assert fault_of(server) == "its answer is larger than 1 MiB"
    assert sum(sent) < 50_000_000  # what socket buffers took


def test_an_endless_answer_without_a_length_is_not_read():
    """The limit holds for chunks that name no total too."""

    def endless(_request):
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        while True:
            yield b"10000\r\n" + b" " * 65536 + b"\r\n"

    with serving(endless) as server:
        assert fault_of(server) == "its answer is larger than 1 MiB"


@pytest.mark.parametrize("size", ["-1", "-2"])
def test_a_chunk_of_less_than_nothing(size):
    """A chunk whose size is negative does not lift the limit."""
    sent = []

    def endless(_request):
        yield f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n".encode()
        for _ in range(1600):
            yield b" " * 65536
            sent.append(65536)

    with serving(endless) as server:
        fault_of(server)
    assert sum(sent) < 50_000_000  # what socket buffers took


def test_chunks_are_put_together():
    """An answer in chunks is read as one."""
    chunks = (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\n3\r\n:1}\r\n0\r\n\r\n'
    )
    with serving(lambda _: chunks) as server:
        client = JsonClient(server.url, HEADERS)
        assert [client.get("/", PATIENT).json() for _ in range(2)] == [{"a": 1}] * 2
        assert server.connections == 1


def test_a_redirect_is_not_followed():
    """A redirect is a fault, and the credential goes nowhere else."""
    with serving(lambda _: http_answer(200, {})) as other:
        location = f"Location: {other.url}/"
        with serving(lambda _: http_answer(307, {}, location)) as server:
            assert "redirect (307)" in fault_of(server)
    assert other.requests == []


def test_a_redirect_is_not_read_whole():
    """The limit of size holds for a redirect too."""

    def endless(_request):
        yield b"HTTP/1.1 302 Found\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\n"
        while True:
            yield b"10000\r\n" + b" " * 65536 + b"\r\n"

    with serving(endless) as server:
        assert fault_of(server) == "its answer is larger than 1 MiB"


def test_a_redirect_that_drips():
    """The deadline holds for a redirect's body too."""

    def drip(_request):
        yield b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 1000000\r\n\r\n"
        while not server.ending.wait(0.01):
            yield b" "

    with serving(drip) as server:
        assert fault_of(server, within=0.5) == "no answer in time"


def test_a_node_that_never_answers():
    """A node that accepts and is silent is given up in time."""
    with serving(lambda _: None) as server:
        server.behaviour = server.hang
        assert fault_of(server, within=0.2) == "no answer in time"


def test_a_head_that_drips():
    """Bytes that arrive now and then do not prolong the exchange."""
    with serving(lambda _: None) as server:
        server.behaviour = server.drip
        assert fault_of(server, within=0.2) == "no answer in time"


def test_a_body_that_drips(certificate):
    """The body has no time of its own beside the head's, under TLS either."""

    def drip(_request):
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        while not server.ending.wait(0.01):
            yield b" "

    with serving(drip, certificate) as server:
        assert fault_of(server, certificate.cert, within=0.5) == "no answer in time"


def test_a_handshake_that_never_comes():
    """A node that accepts the connection but not TLS is given up in time."""
    with serving(lambda _: None) as server:
        server.url = server.url.replace("http:", "https:")
        assert fault_of(server, within=0.2) == "no answer in time"


def test_an_answer_that_breaks_off():
    """A body shorter than announced is a broken answer, and its connection is not used again."""

    def half(_request):
        return iter([b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"r_hash": "QNh'])

    with serving(half) as server:
        client = JsonClient(server.url, HEADERS)
        for _ in range(2):
            with pytest.raises(NodeUnreachable, match="broke off in the middle"):
                client.get("/", PATIENT)
        assert server.connections == 2


def test_chunks_that_break_off():
    """Chunks without their end are a broken answer."""

    def half(_request):
        return iter([b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"a"'])

    with serving(half) as server:
        assert fault_of(server) == "broke off in the middle of its answer"


def test_a_connection_that_is_closed():
    """A node that closes instead of answering is named as such."""
    with serving(lambda _: None) as server:
        assert fault_of(server) == "broke the connection before it answered"


def test_a_connection_that_is_reset():
    """A reset connection is a fault of ours, not a ConnectionResetError."""

    def reset(_request):
        raise ResetConnection

    with serving(reset) as server:
        assert fault_of(server) == "broke the connection before it answered"


def test_a_port_where_nobody_listens():
    """A refused connection is named."""
    with serving(lambda _: None) as server:
        pass
    assert fault_of(server) == "no connection (Connection refused)"


def test_a_host_that_does_not_exist(monkeypatch):
    """A host name that cannot be resolved is a fault of ours."""

    def unknown(*_args):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(NodeUnreachable, match=r"no connection \(Name or service not known\)"):
        JsonClient("http://node.example:8080", HEADERS).get("/", PATIENT)


def test_a_name_that_is_never_found(monkeypatch):
    """Looking up a host name is given up in time too, and what it still finds is not kept."""
    release = threading.Event()
    look_up = socket.getaddrinfo

    def slow(*args, **kwargs):
        release.wait(60)
        return look_up(*args, **kwargs)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        client = JsonClient(f"http://127.0.0.1:{listener.getsockname()[1]}", HEADERS)
        with pytest.raises(NodeUnreachable, match="no answer in time"):
            client.get("/", 0.2)
        release.set()
        listener.settimeout(10)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b""  # closed, and nothing was sent


def test_a_handshake_that_drips():
    """TLS's handshake as a whole must end in time, not each of its bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ending = threading.Event()

        def drip():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x40\x00")
                while not ending.wait(0.01):
                    connection.sendall(b"\x00")

        thread = threading.Thread(target=drip)
        thread.start()
        client = JsonClient(f"https://127.0.0.1:{listener.getsockname()[1]}", HEADERS)
        with pytest.raises(NodeUnreachable, match="no answer in time"):
            client.get("/", 0.3)
        ending.set()
        thread.join(10)


def test_something_other_than_http():
    """Bytes that are no HTTP are a broken answer."""
    with serving(lambda _: b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as server:
        assert fault_of(server) == "answered with something other than HTTP"


def test_a_header_that_cannot_be_sent():
    """A credential that no header can hold is a fault that does not repeat it."""
    with serving(lambda _: http_answer(200, {})) as server:
        with pytest.raises(NodeUnreachable) as caught:
            JsonClient(server.url, {"X-Key": CANARY + "\n"}).get("/", PATIENT)
        assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_certificate_of_somebody_else(certificate, tmp_path):
    """A node whose certificate is not the given one gets no request."""
    other = Certificate.make(tmp_path)
    with serving(lambda _: http_answer(200, {}), other) as server:
        assert "its certificate is not trusted" in fault_of(server, certificate.cert)
    assert server.requests == []


def test_no_certificate_given(certificate):
    """Without a file the system's authorities decide, and they do not know a self-signed one."""
    with serving(lambda _: http_answer(200, {}), certificate) as server:
        assert "its certificate is not trusted" in fault_of(server)
    assert server.requests == []


def test_an_expired_certificate(tmp_path):
    """An expired certificate is refused, and the message says that it has expired."""
    expired = Certificate.make(tmp_path, days=-1)
    with serving(lambda _: http_answer(200, {}), expired) as server:
        assert fault_of(server, expired.cert) == "its certificate has expired: renew it"
    assert server.requests == []


def test_a_certificate_of_the_future(tmp_path):
    """A certificate that is not valid yet points at the clocks."""
    future = Certificate.make(tmp_path, days=90)
    with serving(lambda _: http_answer(200, {}), future) as server:
        assert "not valid yet" in fault_of(server, future.cert)


@pytest.mark.parametrize("host", ["192.0.2.1", "node.example"])
def test_a_certificate_for_another_host(tmp_path, host):
    """A certificate that does not name the host is refused though its file is the right one."""
    certificate = Certificate.make(tmp_path, host=host)
    with serving(lambda _: http_answer(200, {}), certificate) as server:
        assert "its certificate is not for this" in fault_of(server, certificate.cert)


def test_a_certificate_file_that_is_gone(certificate, tmp_path):
    """A missing file is named, not raised as FileNotFoundError."""
    with serving(lambda _: http_answer(200, {}), certificate) as server:
        missing = tmp_path / "tls.cert"
        assert fault_of(server, missing) == "the file of tls_cert_path is missing"


def test_a_connection_outlives_the_certificate_file(tmp_path):
    """While its file is being replaced, a connection made before goes on."""
    certificate = Certificate.make(tmp_path)
    with serving(lambda _: http_answer(200, {}), certificate) as server:
        client = JsonClient(server.url, HEADERS, certificate.cert)
        client.get("/", PATIENT)
        certificate.cert.unlink()
        assert client.get("/", PATIENT).status == 200
        assert server.connections == 1


def test_the_authorities_of_the_system(certificate, monkeypatch):
    """Without a file the authorities are OpenSSL's, not a bundle of some package's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
    with serving(lambda _: http_answer(200, {}), certificate) as server:
        assert JsonClient(server.url, HEADERS).get("/", PATIENT).status == 200


def test_a_certificate_file_without_a_certificate(certificate, tmp_path):
    """A file that is no PEM is a fault of ours."""
    (tmp_path / "tls.cert").write_text("nonsense")
    with serving(lambda _: http_answer(200, {}), certificate) as server:
        assert "no TLS connection" in fault_of(server, tmp_path / "tls.cert")


def test_a_replaced_certificate_is_taken_up(tmp_path):
    """When the node's certificate and our copy of it are replaced, no restart is needed."""
    closing_each_time = iter([http_answer(200, {})] * 2)
    certificate = Certificate.make(tmp_path)
    with serving(lambda _: iter([next(closing_each_time)]), certificate) as server:
        client = JsonClient(server.url, HEADERS, certificate.cert)
        assert client.get("/", PATIENT).status == 200
        server.present(Certificate.make(tmp_path))  # writes the same files anew
        assert client.get("/", PATIENT).status == 200


def test_plain_http_where_tls_is_expected():
    """A node that speaks no TLS is told from one with a wrong certificate."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        client = JsonClient(f"https://127.0.0.1:{listener.getsockname()[1]}", HEADERS)
        with pytest.raises(NodeUnreachable, match="no TLS connection"):
            client.get("/", PATIENT)
        thread.join(10)


def test_the_environment_changes_nothing(certificate, tmp_path, monkeypatch):
    """Neither a CA bundle nor a proxy named in the environment replaces what was configured."""
    other = Certificate.make(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.cert))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(other.cert))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    (tmp_path / "netrc").write_text("default login bob password hunter2")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving(lambda _: http_answer(200, {}), certificate) as server:
        assert JsonClient(server.url, HEADERS, certificate.cert).get("/", PATIENT).status == 200
        assert "authorization" not in server.requests[0].headers
    with serving(lambda _: http_answer(200, {}), other) as server:
        assert "is not trusted" in fault_of(server, certificate.cert)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own():
    """A child never writes to a connection of its parent's."""
    with serving(lambda _: http_answer(200, {})) as server:
        client = JsonClient(server.url, HEADERS)
        client.get("/", PATIENT)
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if client.get("/child", PATIENT).status == 200 else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert client.get("/", PATIENT).status == 200
        assert server.connections == 2

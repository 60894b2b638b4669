"""Idempotency-Key: a call that is sent again is answered again, and charged once.

After draft-ietf-httpapi-idempotency-key-header. A key belongs to one account; the same key on
another request is refused. Only what was charged is kept.
"""

import json
import re
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from urllib.parse import urlencode

from flask import Request, Response

from l402.errors import Malformed
from l402.store.replies import Answer, Call, Reply

#: The largest body that is kept to be sent again, and the largest of a request with a key; bytes.
LARGEST, LARGEST_REQUEST = 64 * 1024, 1024 * 1024
_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"|([!#-~]{1,255})')  # RFC 8941, or bare
#: What belongs to one answer on one connection, or to one visitor.
_NOT_KEPT = frozenset({
    "content-length", "date", "set-cookie", "connection", "keep-alive", "proxy-authenticate",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
#: Parts of an answer, which were right for the range or the validator that was asked with.
_PARTIAL = (206, 304)


def call(asked: Request) -> Callable[[], Call] | None:
    """Return what reads the request's key and fingerprint, or None if it brings no key.

    The body is read only when that is called, by when its sender is known to have paid.

    :raises Malformed: the header holds no key
    """
    text = asked.environ.get("HTTP_IDEMPOTENCY_KEY")
    if text is None:
        return None
    found = _KEY.fullmatch(text.strip())
    if found is None:
        raise Malformed("Idempotency-Key holds no key: write 1 to 255 characters in quotes")
    key = found[2] or re.sub(r"\\(.)", r"\1", found[1])
    return lambda: Call(sha256(key.encode()).digest(), _fingerprint(asked))


def answer(response: Response) -> Answer:
    """Return what is kept of an answer; a stream, a part or a large body is not."""
    whole = response.status_code not in _PARTIAL
    kept = whole and not response.is_streamed and not response.direct_passthrough
    body = response.get_data() if kept else None
    headers = [(k, v) for k, v in response.headers if k.lower() not in _NOT_KEPT]
    if body is not None and len(body) > LARGEST:
        body = None
    return Answer(response.status_code, json.dumps(headers), body)


def replayed(reply: Reply) -> Response:
    """Return an answer that was given before."""
    response = Response(reply.body, reply.status, json.loads(reply.headers))
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _fingerprint(asked: Request) -> bytes:
    # By name alone: the order of one name's values may mean something.
    query = urlencode(sorted(asked.args.items(multi=True), key=lambda pair: pair[0]))
    sent = (asked.mimetype, sha256(_body(asked)).hexdigest())
    parts = (asked.method, asked.script_root, asked.path, query, *sent)
    return sha256(json.dumps(parts).encode()).digest()


def _body(asked: Request) -> bytes:
    """Return what tells one body from another; whoever read the form before us took the bytes."""
    if asked.max_content_length is None or asked.max_content_length > LARGEST_REQUEST:
        asked.max_content_length = LARGEST_REQUEST  # more is a 413
    data = asked.get_data()
    if data:
        asked.stream = BytesIO(data)  # a view may want to read it as it came
    if data or "form" not in vars(asked):
        return data
    sent = [[name, value] for name, value in asked.form.items(multi=True)]
    for name, file in asked.files.items(multi=True):
        at = file.stream.tell()
        file.stream.seek(0)
        sent.append([name, file.filename or "", sha256(file.stream.read()).hexdigest()])
        file.stream.seek(at)
    return json.dumps(sent).encode()

"""A server of ours between a client and a real server, to count, change or lose what passes."""

from pathlib import Path

import requests

from support.http_servers import Behaviour, Request, http_answer

_ANSWER = 60  # seconds
_OURS = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}
_PASSED_ON = ("WWW-Authenticate", "Retry-After")


def relay(url: str, ca_file: Path | None = None, without: str = "") -> Behaviour:
    """Return the behaviour that hands each request on to `url`, without one of its headers."""
    dropped = _OURS | {without.lower()}

    def behave(request: Request) -> bytes:
        answer = requests.request(
            request.method,
            url + request.path,
            data=request.body,
            headers={k: v for k, v in request.headers.items() if k not in dropped},
            verify=str(ca_file) if ca_file else True,
            timeout=_ANSWER,
        )
        passed = [
            f"{name}: {answer.headers[name]}" for name in _PASSED_ON if name in answer.headers
        ]
        return http_answer(answer.status_code, answer.content, *passed)

    return behave

"""What caches may do with an answer that was paid for."""

from flask import Flask, Response

_SET_BY_VIEWS = frozenset(("vary", "cache-control", "www-authenticate"))


def kept_private(app: Flask, response: Response) -> Response:
    """Keep what was sold out of shared caches (RFC 9111, sections 3.5 and 5.2.2).

    A host's later ``after_request`` can undo this.

    :raises RuntimeError: in debug, the view says that shared caches may keep it
    """
    headers = response.headers
    for name, _ in headers:
        if name.lower() in _SET_BY_VIEWS:
            return _reconciled(app, response)
    headers.add("Vary", "Authorization")
    headers.add("Cache-Control", "private")
    return response


def _reconciled(app: Flask, response: Response) -> Response:
    """Do so for an answer on which the view set one of the headers itself."""
    headers = response.headers
    headers.remove("WWW-Authenticate")  # some clients would pay again
    # Of several headers Werkzeug reads the first, and directives in small letters alone.
    headers["Vary"] = ", ".join(headers.getlist("Vary"))
    headers["Cache-Control"] = ", ".join(headers.getlist("Cache-Control")).lower()
    response.vary.add("Authorization")
    control = response.cache_control
    if control.no_store:
        return response
    shared = control.public or control.s_maxage or control.must_revalidate
    if app.debug and shared and control.private is not True:  # a field's name lets them
        raise RuntimeError(
            f"a view under @paywall sets Cache-Control: {control}: one shared cache would give it"
            " away; write private, or leave it out"
        )
    control.public = False
    del control.s_maxage
    control.private = True
    return response

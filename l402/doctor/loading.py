"""Loading the app, which is the first thing that a wrong set-up breaks."""

import re
import traceback
from collections.abc import Callable
from pathlib import Path

from flask import Flask
from flask.cli import NoAppException

from l402.doctor.verdict import Verdict, error, told
from l402.errors import L402Error
from l402.gate import Gate

_NAME = "name an app that can be imported: flask --app shop l402 doctor"
_CORRECT = "correct the configuration, which docs/configuration.md describes"
_MEND = "mend the app; flask routes shows the whole error"
_NO_L402 = error("this app has no L402", "write L402(app), or l402.init_app(app), in it")
#: How Python says what cannot be imported; it holds names alone.
_PYTHONS_OWN = ("ModuleNotFoundError: No module named ", "ImportError: cannot import name ")
_VARIABLE = re.compile("[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", re.ASCII)


def load(app: Callable[[], Flask]) -> tuple[Flask, Gate] | Verdict:
    """Return the app that `app` loads, with its gate, or what keeps it from being one.

    The text of a host's error may hold a secret, so it is not repeated.
    """
    try:
        loaded = app()
    except L402Error as fault:
        return told(fault, _CORRECT)
    except NoAppException as fault:
        return error(_first_and_last(fault.message), _NAME)
    except (Exception, SystemExit) as fault:
        return error(f"the app cannot be loaded: {_kind(fault)} at {_place(fault)}", _MEND)
    gate = loaded.extensions.get("l402")
    return (loaded, gate) if isinstance(gate, Gate) else _NO_L402


def _first_and_last(message: str) -> str:
    """Leave out the traceback that Flask quotes of an ImportError, and what a host says in one."""
    first, *rest = message.strip().splitlines()
    told = bool(rest) and rest[-1].strip().startswith(_PYTHONS_OWN)
    return f"{first} {rest[-1].strip()}" if told else first.rstrip(".:")


def _kind(fault: BaseException) -> str:
    """Name an error; a KeyError's key too, if it looks like a variable of the environment."""
    name = type(fault).__name__
    key = fault.args[0] if isinstance(fault, KeyError) and fault.args else None
    return f"{name} {key}" if isinstance(key, str) and _VARIABLE.fullmatch(key) else name


def _place(fault: BaseException) -> str:
    """Name the last line of the host's own that led to an error."""
    if isinstance(fault, SyntaxError) and fault.filename:
        return f"{Path(fault.filename).name}:{fault.lineno}"
    frames = traceback.extract_tb(fault.__traceback__)
    here = str(Path.cwd())
    own = [
        frame
        for frame in frames
        if frame.filename.startswith(here) and "site-packages" not in frame.filename
    ]
    last = (own or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"

"""The group ``flask l402``: how its commands reach the app, and how they fail."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
from flask import current_app
from flask.cli import with_appcontext

from l402.errors import ConfigurationError, L402Error
from l402.gate import Gate

P = ParamSpec("P")
T = TypeVar("T")


class Misuse(click.ClickException):
    """What was asked for has no one meaning: exit code 2, in one line."""

    exit_code = 2


class NotFound(click.ClickException):
    """The record does not hold what was named: exit code 3."""

    exit_code = 3


class Group(click.Group):
    """Commands in the order in which they are needed; our own errors end them with code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, also while it loads the app; tell an error of ours in one line."""
        try:
            return super().invoke(ctx)
        except L402Error as error:
            raise click.ClickException(" ".join(str(error).split())) from error


def pass_gate(command: Callable[Concatenate[Gate, P], T]) -> Callable[P, T]:
    """Load the app that ``flask --app`` names, and hand its gate to the command.

    :raises ConfigurationError: the app has no L402
    """

    @with_appcontext
    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        gate = current_app.extensions.get("l402")
        if gate is None:
            raise ConfigurationError(
                "this app has no L402; write L402(app), or l402.init_app(app), in it"
            )
        return command(gate, *args, **kwargs)

    return run

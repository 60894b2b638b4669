"""What a view refuses before anything is sold: ``validate=``."""

from collections.abc import Callable
from typing import Any, NamedTuple

from werkzeug.exceptions import HTTPException


class Rejection(NamedTuple):
    """A request that the view could not serve; `answer` is what a view may return, or raised."""

    answer: Any

    def given(self) -> Any:
        """Return the answer, as a view would.

        :raises HTTPException: the answer is one
        """
        if isinstance(self.answer, HTTPException):
            raise self.answer
        return self.answer


def rejection(validate: Callable[[], Any] | None) -> Rejection | None:
    """Return what `validate` answers to this request, or None if it lets it pass.

    It lets it pass by returning None; anything else that it returns, or an HTTPException that it
    raises, is the answer. Other exceptions pass through: nothing is sold then either.
    """
    if validate is None:
        return None
    try:
        answer = validate()
    except HTTPException as error:
        answer = error
    return None if answer is None else Rejection(answer)

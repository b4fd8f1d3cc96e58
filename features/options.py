"""An action's options as a dataclass, and a function that takes its fields as keywords.

Each option is written once, with its type, default and meaning, and everything below takes the object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Options = TypeVar("Options")
Result = TypeVar("Result")


def taken_from(
    options: Callable[P, Options],
) -> Callable[[Callable[[Options], Result]], Callable[P, Result]]:
    """A decorator that gives a function of one `options` object the keywords of that object."""

    def decorate(action: Callable[[Options], Result]) -> Callable[P, Result]:
        @wraps(action)
        def call(*args: P.args, **kwargs: P.kwargs) -> Result:
            return action(options(*args, **kwargs))

        call.__signature__ = signature(options)  # type: ignore[attr-defined]
        call.__annotations__ = {}
        return call

    return decorate

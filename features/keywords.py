"""Functions that take the fields of an options dataclass as keywords.

Each option is stated once, with its type, default and meaning, and everything below takes the object.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import wraps
from inspect import cleandoc, getsource, signature
from itertools import pairwise
from textwrap import dedent, fill
from types import MappingProxyType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Options = TypeVar("Options")
Result = TypeVar("Result")


def taken_from(
    options: Callable[P, Options], older: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Callable[[Options], Result]], Callable[P, Result]]:
    """A decorator that gives a function of one `options` object the keywords of that object.

    The function's docstring gains the section "Args", made of the fields' own docstrings.

    Args:
        options: The dataclass.
        older: Keywords of earlier versions, each with its name of today.
    """

    def decorate(action: Callable[[Options], Result]) -> Callable[P, Result]:
        @wraps(action)
        def call(*args: P.args, **kwargs: P.kwargs) -> Result:
            named = {older.get(name, name): value for name, value in kwargs.items()}
            return action(options(*args, **named))  # type: ignore[arg-type]

        own = signature(options).replace(return_annotation=signature(action).return_annotation)
        call.__signature__ = own  # type: ignore[attr-defined]
        call.__annotations__ = {}
        call.__doc__ = _with_arguments(cleandoc(action.__doc__ or ""), options)
        return call

    return decorate


def quiet(options: Options) -> Options:
    """The options with the defaults of all that they call, so that they can go to another process."""
    silent = {f.name: f.default for f in fields(options) if callable(f.default)}  # type: ignore[arg-type]
    return replace(options, **silent)  # type: ignore[type-var]


def meanings(options: object) -> dict[str, str]:
    """The docstring of every field of a dataclass and of its bases, by the field's name.

    Python has them only in the source; without the source there are none.
    """
    texts = {}
    for owner in reversed(options.__mro__ if isinstance(options, type) else ()):
        try:
            (tree,) = ast.parse(dedent(getsource(owner))).body
        except (OSError, TypeError):
            continue
        for field, after in pairwise(getattr(tree, "body", ())):
            match field, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    texts[name] = " ".join(text.split())
    return texts


def _with_arguments(doc: str, options: Callable[..., object]) -> str:
    """The docstring `doc` with a section "Args" before "Raises"."""
    texts = meanings(options)
    lines = [
        fill(f"{name}: {texts[name]}", 100, initial_indent=" " * 4, subsequent_indent=" " * 8)
        for name in signature(options).parameters
        if name in texts
    ]
    if not lines:
        return doc
    before, raises, after = doc.partition("\n\nRaises:\n")
    return "\n".join([before, "", "Args:", *lines]) + raises + after

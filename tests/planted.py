"""Faults planted into functions of the project: other text in the place of some of their source."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType


@contextmanager
def planted(module: ModuleType, old: str, new: str) -> Iterator[None]:
    """The functions of a module as they would be with `new` for `old` in its file, wherever they are held.

    Their code is exchanged, so that those who imported them before have the fault too.
    """
    source = inspect.getsource(module)
    assert old in source, f"{module.__name__} has no {old!r} any more: plant the fault elsewhere"
    changed = types.ModuleType(module.__name__)
    changed.__file__ = module.__file__
    exec(compile(source.replace(old, new), str(module.__file__), "exec"), changed.__dict__)
    others = dict(_functions(changed))
    before = {}
    for name, function in _functions(module):
        if name in others and others[name].__code__ != function.__code__:
            before[function] = function.__code__
    assert before, "nothing has changed"
    for name, function in _functions(module):
        if function in before:
            function.__code__ = others[name].__code__
    try:
        yield
    finally:
        for function, code in before.items():
            function.__code__ = code


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """The functions and methods that a module defines, by their names."""
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", None) != module.__name__:
            continue
        members = vars(thing).items() if isinstance(thing, type) else [("", thing)]
        for inner, member in members:
            function = getattr(member, "fget", None) or inspect.unwrap(member)
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                yield f"{name}.{inner}", function

"""A TOML file held against dataclasses: what is unknown, missing or mistyped is refused with its line."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from features.errors import InputError, nearest


@dataclass(frozen=True)
class TomlFile:
    """A TOML file that was read."""

    path: Path
    text: str

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Refuse the file for the value of `key`.

        Raises:
            InputError: Always; the message names the file, the line and the problem.
        """
        raise InputError(f"{line_of(self.path, self.text, key)}: {problem}")

    def check(
        self,
        raw: object,
        kind: type[Any],
        table: str,
        *,
        not_keys: tuple[str, ...] = (),
        nested: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """The values of a table, by key, for the dataclass `kind` whose fields are its keys.

        Args:
            raw: The table as it was read.
            kind: The dataclass; the types of its fields are those of the values.
            table: What the table is called in messages: `[input] `.
            not_keys: Fields of `kind` that are no keys.
            nested: Keys whose values are tables, which are checked apart and left out here.

        Raises:
            InputError: A key is missing, unknown or of the wrong type.
        """
        if not isinstance(raw, dict):
            self.refuse(table.strip(" []"), f"{table.strip()} must be a table.")
        keys = [f.name for f in fields(kind) if f.name not in not_keys]
        types = get_type_hints(kind)
        for key in raw:
            if key not in keys:
                self.refuse(key, f"unknown key {table}{key}; {nearest(key, keys)}")
        for f in fields(kind):
            required = f.default is f.default_factory  # both MISSING
            if required and f.name not in raw:
                raise InputError(f"{self.path}: {table}{f.name} is missing; add it.")
        values = {}
        for key, value in raw.items():
            if key not in nested:
                values[key] = self._typed(key, value, types[key], table)
        return values

    def _typed(self, key: str, value: object, kind: Any, table: str) -> object:
        value = tuple(value) if isinstance(value, list) else value
        if is_of(value, kind):
            return value
        self.refuse(key, f"{table}{key} = {value!r} is not {_describe(key, kind)}.")


def is_of(value: object, kind: Any) -> bool:
    """Whether a value, its lists as tuples, is of the type of a dataclass's field."""
    return any(_fits(value, option) for option in (get_args(kind) if _is_union(kind) else (kind,)))


def _is_union(kind: Any) -> bool:
    return type(None) in get_args(kind) or " | " in str(kind)


def _fits(value: object, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool:
        return isinstance(value, bool)
    if kind in (str, int):
        return isinstance(value, kind) and not isinstance(value, bool)
    inner = get_args(kind)
    if isinstance(value, tuple) and str(kind).startswith("tuple"):
        if inner[-1] is Ellipsis:
            return all(_fits(v, inner[0]) for v in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    return isinstance(value, dict) and ("Mapping" in str(kind) or str(kind).startswith("dict"))


def _describe(key: str, kind: Any) -> str:
    if key in ("size", "resize"):
        return "[height, width] in pixels" + (" or one number" if key == "resize" else "")
    text = str(kind)
    if text.startswith("tuple") or "tuple" in text:
        numbers = "a list of numbers" + (" or a path in quotes" if "str" in text else "")
        return numbers if "float" in text else "a list of words in quotes"
    if "Mapping" in text:
        return "a table { key = value }"
    if kind is bool:
        return "true or false"
    return "a number" if kind in (int, float) else "a text in quotes"


def line_of(path: Path, text: str, key: str) -> str:
    """`FILE line N` for a message, N being the first line that sets `key`; `FILE` alone if none does."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(
            rf"\s*(\[\[?{re.escape(key)}\]|\"?{re.escape(key)}\"?\s*=|.*[{{,]\s*{re.escape(key)}\s*=)",
            line,
        ):
            return f"{path} line {number}"
    return str(path)

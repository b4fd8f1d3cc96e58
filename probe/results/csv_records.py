"""Dataclasses as CSV and back: a column is a field, a line an object, an empty cell None.

What a field holds is told from its type: `str`, `int` or `float`, each of the last two also `| None`.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from features.data.cells import quoted, unquoted
from features.data.table import read_rows
from features.errors import InputError
from features.machine.files import write_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")


def columns(kind: type[DataclassInstance]) -> tuple[str, ...]:
    """The columns of a dataclass, in their order."""
    return tuple(field.name for field in fields(kind))


def has_columns(file: Path, kind: type[DataclassInstance]) -> bool:
    """Whether a file has exactly the columns of a dataclass; another version may have had others."""
    header, _ = read_rows(file)
    return tuple(header) == columns(kind)


def read(file: Path, kind: type[Record], remedy: str) -> list[Record]:
    """All lines of a file; none if it does not exist.

    A column that is missing takes its field's default, and one that is no field is not looked at.

    Args:
        file: The CSV file.
        kind: The dataclass.
        remedy: The end of the message if it does not read: what to do.

    Raises:
        InputError: A column without a default is missing, or a cell does not read.
    """
    if not os.path.lexists(file):  # a folder or a pipe there is told of when it is read
        return []
    header, lines = read_rows(file)
    for field in fields(kind):
        if field.name not in header and field.default is MISSING:
            raise InputError(f"{file}: the column {field.name} is missing; {remedy}")
    types = get_type_hints(kind)
    parsers = [
        (name, header.index(name), _parser(types[name])) for name in columns(kind) if name in header
    ]
    try:
        return [
            kind(**{name: parse(unquoted(line[i])) for name, i, parse in parsers}) for line in lines
        ]
    except ValueError as error:
        raise InputError(f"{file}: {error}; {remedy}") from error


def write(file: Path, kind: type[Record], records: Iterable[Record], digits: int = 0) -> None:
    """Write all records in one step, in their order.

    Args:
        file: The CSV file.
        kind: The dataclass, whose fields are the columns.
        records: The lines.
        digits: Significant digits of numbers; 0: as many as read back the same.
    """
    names = columns(kind)
    write_cells(file, names, ([_cell(getattr(r, name), digits) for name in names] for r in records))


def write_cells(file: Path, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Write a table of texts in one step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(quoted, header))
    writer.writerows(map(quoted, line) for line in lines)
    write_text(file, text.getvalue())


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{digits}g}" if digits else repr(float(value))
    return str(value)


def _parser(wanted: Any) -> Callable[[str], Any]:
    if wanted is str:
        return str
    number: Callable[[str], Any] = int if "int" in str(wanted) else float
    if "None" in str(wanted):
        return lambda text: None if text == "" else number(text)
    return lambda text: number(_filled(text))


def _filled(text: str) -> str:
    if text == "":
        raise ValueError("a number is missing")
    return text

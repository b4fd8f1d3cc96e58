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
from features.errors import InputError
from features.machine.files import write_text
from features.machine.regular_files import read_regular

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")
_LONGEST_CELL = 40
"""Characters of a cell that a message shows."""


def columns(kind: type[DataclassInstance]) -> tuple[str, ...]:
    """The columns of a dataclass, in their order."""
    return tuple(field.name for field in fields(kind))


def has_columns(file: Path, kind: type[DataclassInstance]) -> bool:
    """Whether a file has exactly the columns of a dataclass; another version may have had others."""
    header, _ = read_cells(file, "delete it.")
    return tuple(header) == columns(kind)


def check_columns(file: Path, kind: type[DataclassInstance], remedy: str) -> None:
    """Refuse a file, if there is one, with a column that writing it again would lose.

    Raises:
        InputError: A column is no field of the dataclass, or the file is no such table.
    """
    if not os.path.lexists(file):
        return
    header, _ = read_cells(file, remedy)
    if others := [name for name in header if name not in columns(kind)]:
        raise InputError(
            f"{file}: the column {others[0]!r} is not one of this version's, and would be lost; move it to "
            "another file, or go on with the version that wrote it."
        )


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
    header, lines = read_cells(file, remedy)
    if not header:
        raise InputError(f"{file}: empty; {remedy}")
    for field in fields(kind):
        if field.name not in header and field.default is MISSING:
            raise InputError(f"{file}: the column {field.name} is missing; {remedy}")
    types = get_type_hints(kind)
    parsers = [
        (name, header.index(name), _parser(types[name])) for name in columns(kind) if name in header
    ]
    records = []
    for number, line in lines:
        cells: dict[str, Any] = {}
        for name, place, parse in parsers:
            try:
                cells[name] = parse(line[place])
            except ValueError as error:
                told = f"{_shortened(line[place])!r} in the column {name} is no number"
                if not line[place]:
                    told = f"a number is missing in the column {name}"
                raise InputError(f"{file} line {number}: {told}; {remedy}") from error
        records.append(kind(**cells))
    return records


def read_cells(file: Path, remedy: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a table that this toolkit wrote, and each line with its number; an empty file has none.

    Args:
        file: The CSV file.
        remedy: The end of the message if it does not read: what to do.

    Raises:
        InputError: It cannot be read, or is no such table.
    """
    try:
        text = read_regular(file).decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); {remedy}") from error
    if "\0" in text:
        raise InputError(f"{file}: not a text file; {remedy}")
    reader = csv.reader(io.StringIO(text, newline=""))
    lines: list[tuple[int, list[str]]] = []
    try:
        header = [unquoted(name.strip()) for name in next(reader, [])]
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise InputError(f"{file}: the column {twice!r} occurs twice; {remedy}")
        for line in reader:
            if line and len(line) != len(header):
                raise InputError(
                    f"{file} line {reader.line_num}: {len(line)} cells under {len(header)} columns; "
                    f"{remedy}"
                )
            if line:
                lines.append((reader.line_num, [unquoted(cell) for cell in line]))
    except csv.Error as error:
        raise InputError(f"{file} line {reader.line_num}: {error}; {remedy}") from error
    return header, lines


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
    return number


def _shortened(cell: str) -> str:
    return cell if len(cell) <= _LONGEST_CELL else f"{cell[:_LONGEST_CELL]}..."

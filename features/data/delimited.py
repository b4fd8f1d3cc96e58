"""Tables as programs write them: the encoding, the separator, and the lines of a text file."""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError
from features.machine.regular_files import read_regular
from features.machine.strict_json import from_json

_SEPARATORS = (",", "\t", ";", "|")
_DECLARED = re.compile(r'\s*sep=([^\s"]|\t)\s*', re.IGNORECASE)
"""A first line that says the separator, as spreadsheets write it."""
_LINES = 20
"""Lines that tell the separator."""
_OTHERS = {
    b"PK\x03\x04": "a workbook or another archive and no table; save its sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook and no table; save its sheet as CSV",
    b"\x1f\x8b": "compressed; unpack it with gunzip",
    b"PAR1": "a Parquet file; give it the ending .parquet",
}
"""What else people give for a table, by its first bytes."""


@dataclass(frozen=True)
class WrittenTable:
    """The cells of a table file, as texts."""

    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    """The line in the file at which each row ends, from 1."""
    notes: tuple[str, ...]
    """What was told from the bytes and could be told otherwise, in sentences."""


def read_written(file: Path) -> WrittenTable:
    """The table in a text file, in whatever encoding and with whatever separator.

    The encoding is that of a byte order mark, else UTF-8, else Windows-1252. The separator is that of a
    first line `sep=;`, else the comma, tab, semicolon or bar that gives the lines one number of cells.

    Raises:
        InputError: It is no such file, or a line has another number of cells than the header.
    """
    try:
        data = read_regular(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check it.") from error
    text, encoding = _decoded(file, data)
    notes = [f"{file.name}: read as {encoding}"] if encoding else []
    _refuse_json(file, text)
    first, _, rest = text.partition("\n")
    declared = _DECLARED.fullmatch(first)
    if declared:
        text = rest
    separator = declared[1] if declared else _separator_of(file, text)
    if separator not in (",", "\t"):
        notes.append(f"{file.name}: the separator is {separator!r}")
    header, rows, lines = _cells(file, text, separator, 1 if declared else 0)
    return WrittenTable(header, rows, lines, tuple(notes))


def _decoded(file: Path, data: bytes) -> tuple[str, str]:
    """The text, and its encoding where that is not UTF-8."""
    for mark, name in ((BOM_UTF16_LE, "UTF-16"), (BOM_UTF16_BE, "UTF-16")):
        if data.startswith(mark):
            try:
                return data.decode("utf-16"), name
            except UnicodeDecodeError as error:
                raise InputError(f"{file}: damaged UTF-16; save it again as UTF-8.") from error
    data = data.removeprefix(BOM_UTF8)
    for begins, what in _OTHERS.items():
        if data.startswith(begins):
            raise InputError(f"{file}: {what}.")
    if b"\0" in data:
        unmarked = _unmarked_utf16(data)
        if unmarked is None:
            raise InputError(f"{file}: not a text file; give a CSV or TSV manifest.")
        return unmarked, "UTF-16 (it has no mark)"
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError:
        # UTF-8 with the bytes of file names in it has signs of several bytes; the other encodings have
        # next to none that are valid.
        text = data.decode("utf-8", "surrogateescape")
        if any(char > "\x7f" and not "\udc80" <= char <= "\udcff" for char in text):
            return text, ""
        # Five bytes stand for nothing in Windows-1252; Latin-1 has control signs there.
        try:
            return data.decode("cp1252"), "Windows-1252 (it is not UTF-8)"
        except UnicodeDecodeError:
            return data.decode("latin-1"), "Latin-1 (it is not UTF-8)"


def _unmarked_utf16(data: bytes) -> str | None:
    """The text of UTF-16 without a mark, of whose signs most have one byte 0; None for anything else."""
    for encoding, zero in (("utf-16-le", 1), ("utf-16-be", 0)):
        if 4 * data[zero::2].count(0) > len(data):
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                return None
            return None if "\0" in text else text
    return None


def _refuse_json(file: Path, text: str) -> None:
    """Refuse what is JSON, as a whole or line by line."""
    if text.lstrip()[:1] not in ("{", "["):
        return
    for part in (text.partition("\n")[0], text):
        try:
            from_json(part.encode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            continue
        raise InputError(f"{file}: JSON and no table; save it as CSV, with a line of names above.")


def _separator_of(file: Path, text: str) -> str:
    """The separator of cells."""
    if file.suffix.lower() == ".tsv":
        return "\t"
    lines = text.splitlines()[:_LINES]
    if not lines:
        return ","
    best, most = ",", 1
    for separator in _SEPARATORS:
        try:
            sizes = {len(row) for row in csv.reader(lines, delimiter=separator) if row}
        except csv.Error:
            continue
        if len(sizes) == 1 and max(sizes) > most:
            best, most = separator, max(sizes)
    if most == 1:  # lines of several lengths: the message names the line
        counts = {separator: lines[0].count(separator) for separator in _SEPARATORS}
        best = (
            max(_SEPARATORS, key=lambda separator: counts[separator])
            if max(counts.values())
            else ","
        )
    return best


def _cells(
    file: Path, text: str, separator: str, above: int
) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows and the line of each; `above` lines of the file stand before the text."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise InputError(f"{file}: the column {twice!r} occurs twice; rename one.")
        for row in reader:
            if row and len(row) != len(header):
                raise InputError(
                    f"{file} line {above + reader.line_num}: {len(row)} cells under {len(header)} columns; "
                    f"quote cells that hold {_NAMES.get(separator, repr(separator))}."
                )
            if row:
                rows.append(row)
                lines.append(above + reader.line_num)
    except csv.Error as error:
        raise InputError(
            f"{file} line {above + reader.line_num}: {error}; correct that line."
        ) from error
    return header, rows, lines


_NAMES = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}


def columns_of(header: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """The columns of a table by name."""
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}

"""A CSV or TSV manifest: `path`, any label columns, optionally `subject`, `fold` and `use`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from features.data.manifest import Manifest
from features.errors import InputError, nearest
from features.machine.regular_files import read_regular


def read_table(file: Path) -> Manifest:
    """One row per line; paths are relative to the manifest's folder, or absolute.

    Raises:
        InputError: There is no `path` column, no row, or a line of another length.
    """
    header, rows = read_rows(file, filled="path")
    if not rows:
        raise InputError(f"{file}: the manifest has a header and no rows; add a row per image.")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    return Manifest(str(file.resolve()), file.resolve().parent, columns)


def read_rows(file: Path, filled: str | None = None) -> tuple[list[str], list[list[str]]]:
    """The header and the lines of a CSV file, or TSV if its suffix is .tsv or its header has tabs.

    Raises:
        InputError: The file is no such table, or the column `filled` is missing or has empty cells.
    """
    try:
        text = read_regular(file).decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check it.") from error
    first = text.partition("\n")[0]
    tabs = file.suffix.lower() == ".tsv" or ("\t" in first and "," not in first)
    if "\0" in text:
        raise InputError(f"{file}: not a text file; give a CSV or TSV manifest.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",")
    rows: list[list[str]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise InputError(f"{file}: the column {twice!r} occurs twice; rename one.")
        if filled is not None and filled not in header:
            raise InputError(
                f"{file}: the manifest has no column {filled}; {nearest(filled, header)}"
            )
        for row in reader:
            if row and len(row) != len(header):
                raise InputError(
                    f"{file} line {reader.line_num}: {len(row)} cells under {len(header)} columns; "
                    "quote cells that hold a comma."
                )
            if row and filled is not None and not row[header.index(filled)]:
                raise InputError(
                    f"{file} line {reader.line_num}: the {filled} is empty; fill it in or delete the "
                    "line."
                )
            if row:
                rows.append(row)
    except csv.Error as error:
        raise InputError(f"{file} line {reader.line_num}: {error}; correct that line.") from error
    return header, rows

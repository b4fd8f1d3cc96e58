"""A CSV or TSV manifest: `path`, any label columns, optionally `subject`, `fold` and `use`."""

from __future__ import annotations

import csv
from pathlib import Path

from features.card import nearest
from features.errors import InputError
from features.manifest import Manifest


def read_table(file: Path) -> Manifest:
    """One row per line; paths are relative to the manifest's folder, or absolute.

    Raises:
        InputError: There is no `path` column, no row, or a line of another length.
    """
    header, rows = read_rows(file)
    if "path" not in header:
        raise InputError(f"{file}: the manifest has no column path; {nearest('path', header)}")
    if not rows:
        raise InputError(f"{file}: the manifest has a header and no rows; add a row per image.")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    if "" in columns["path"]:
        line = columns["path"].index("") + 2
        raise InputError(f"{file} line {line}: the path is empty; fill it in or delete the line.")
    return Manifest(str(file.resolve()), file.resolve().parent, columns)


def read_rows(file: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the lines of a CSV file (or TSV, if it is named so or its header has tabs)."""
    try:
        text = file.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check it.") from error
    first = text.partition("\n")[0]
    tabs = file.suffix.lower() == ".tsv" or ("\t" in first and "," not in first)
    if "\0" in text:
        raise InputError(f"{file}: not a text file; give a CSV or TSV manifest.")
    lines = list(csv.reader(text.splitlines(keepends=True), delimiter="\t" if tabs else ","))
    header = [name.strip() for name in lines[0]] if lines else []
    rows = [line for line in lines[1:] if line]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{file}: the column {twice!r} occurs twice; rename one.")
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise InputError(
                f"{file} row {number}: {len(row)} cells under {len(header)} columns; quote cells "
                "that hold a comma."
            )
    return header, rows

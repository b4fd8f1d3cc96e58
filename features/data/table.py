"""A CSV or TSV manifest: `path`, any label columns, optionally `subject`, `fold` and `use`."""

from __future__ import annotations

import csv
import gc
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.data.delimited import columns_of, read_written
from features.data.image_paths import Places, column_of_paths, found_paths, root_of
from features.data.manifest import Manifest
from features.data.roles import cleaned, with_roles
from features.errors import InputError, nearest
from features.machine.regular_files import read_regular


def read_table(
    file: Path,
    path_column: str | None = None,
    root: str | None = None,
    extension: str | None = None,
    missing: str | None = None,
    columns: str | None = None,
    *,
    standing: Collection[str] | None = None,
) -> Manifest:
    """One row per line; paths are relative to the manifest's folder, or absolute.

    Args:
        file: A text file of cells, in any encoding and with any sign between them that programs write.
        path_column: The column of paths, where it is not called so and not the only one that names files.
        root: The folder that paths start from.
        extension: What is added to every path, such as `.png`.
        missing: Values that stand for no label, with commas between them.
        columns: `patient_id=subject,site=label`: what columns are, where their names do not say it.
        standing: The columns of a study that was made of the table, which keep their names.

    Raises:
        InputError: There is no column of paths, no row, or a line of another length.
    """
    written = read_written(file)
    if not written.header:
        raise InputError(f"{file}: the manifest has no column path; the file is empty.")
    if not written.rows:
        raise InputError(f"{file}: the manifest has a header and no rows; add a row per image.")
    options = TableOptions(path_column, root, extension, missing, columns, standing)
    cells = columns_of(written.header, written.rows)
    return manifest_of(file, cells, options, written.notes, written.lines)


@dataclass(frozen=True)
class TableOptions:
    """What a person says of a table; the fields are the options of `read_table`."""

    path_column: str | None = None
    root: str | None = None
    extension: str | None = None
    missing: str | None = None
    columns: str | None = None
    standing: Collection[str] | None = None


def manifest_of(
    file: Path,
    columns: dict[str, list[str]],
    options: TableOptions,
    notes: Sequence[str] = (),
    lines: Sequence[int] = (),
) -> Manifest:
    """The manifest of a table's columns: which are paths, groups and labels, and where the images are.

    Args:
        file: The table.
        columns: By their names in the table.
        options: What a person says of it.
        notes: What was told of the file, in sentences.
        lines: The line of every row, where the file has lines.

    Raises:
        InputError: There is no column of paths, a cell cannot be used, or looking around shows what would
            lead to the images.
    """
    places = Places(root_of(file, options.root), options.extension or "")
    named, said = with_roles(file, columns, options.columns, options.standing)
    asked = options.path_column
    if asked is not None:  # as the table has it; `Path` is called path by now
        asked = dict(zip(columns, named, strict=True)).get(asked, asked)
    column, taken = column_of_paths(file, named, places, asked)
    cells = named.pop(column)
    named.pop("path", None)
    if "" in cells:
        row = cells.index("")
        where = f"line {lines[row]}" if lines else f"row {row}"
        raise InputError(f"{file} {where}: the {column} is empty; fill it in or delete the line.")
    paths, read = found_paths(file, cells, places)
    made, odd = cleaned(file, {"path": paths, **named}, options.missing)
    source = str(file.resolve())
    return Manifest(source, places.root, made, notes=(*notes, *said, *taken, *read, *odd))


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
    collecting = gc.isenabled()
    gc.disable()  # none of a million lines is garbage, and looking for some takes longer than reading them
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise InputError(f"{file}: the column {twice!r} occurs twice; rename one.")
        if filled is not None and filled not in header:
            raise InputError(
                f"{file}: the manifest has no column {filled}; {nearest(filled, header)}"
            )
        width, place = len(header), None if filled is None else header.index(filled)
        for row in reader:
            if not row:
                continue
            if len(row) != width:
                raise InputError(
                    f"{file} line {reader.line_num}: {len(row)} cells under {width} columns; "
                    "quote cells that hold a comma."
                )
            if place is not None and not row[place]:
                raise InputError(
                    f"{file} line {reader.line_num}: the {filled} is empty; fill it in or delete the "
                    "line."
                )
            rows.append(row)
    except csv.Error as error:
        raise InputError(f"{file} line {reader.line_num}: {error}; correct that line.") from error
    finally:
        if collecting:
            gc.enable()
    return header, rows

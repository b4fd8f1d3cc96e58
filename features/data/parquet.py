"""A Parquet manifest: the columns of a CSV one, read by pyarrow (the extra `parquet`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from features.data.manifest import Manifest
from features.errors import InputError, first_line, nearest

_FEW = 1 << 20


def read_parquet(file: Path) -> Manifest:
    """One row per line; paths are relative to the manifest's folder, or absolute.

    Null is an empty cell, and columns of lists or structures are left out.

    Raises:
        InputError: pyarrow is not installed, or the file is damaged or has no `path`.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InputError(
            f"{file}: reading Parquet needs pyarrow; `pip install pyarrow`, or save it as CSV."
        ) from error
    try:
        rows, size = parquet.read_metadata(file).num_rows, file.stat().st_size
        if rows > max(_FEW, size):  # each row has a path, of one byte or more
            raise InputError(f"{file}: declares {rows:,} rows in {size:,} bytes; write it again.")
        table = parquet.read_table(file)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise InputError(
            f"{file}: not a Parquet file ({first_line(error, 100)}); write it again."
        ) from error
    columns = {
        name: ["" if value is None else str(value) for value in table[name].to_pylist()]
        for name in table.column_names
        if not _nested(table.schema.field(name).type)
    }
    if "path" not in columns:
        raise InputError(
            f"{file}: the manifest has no column path; {nearest('path', list(columns))}"
        )
    if not table.num_rows:
        raise InputError(f"{file}: the manifest has no rows; add a row per image.")
    if "" in columns["path"]:
        row = columns["path"].index("")
        raise InputError(f"{file} row {row}: the path is empty; fill it in or delete the row.")
    return Manifest(str(file.resolve()), file.resolve().parent, columns)


def _nested(kind: Any) -> bool:
    return bool(kind.num_fields)

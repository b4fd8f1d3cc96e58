"""A Parquet manifest: the columns of a CSV one, or images themselves, read by pyarrow (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from features.data.image_cache import digest_of, written_out
from features.data.manifest import Manifest
from features.data.table import TableOptions, manifest_of
from features.errors import InputError, first_line

_FEW = 1 << 20
_HELD = ("image", "img", "images", "bytes", "content", "data", "png", "jpg", "jpeg")
"""Columns of bytes that are images, the likeliest first."""


def read_parquet(
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

    Null is an empty cell, and columns of lists or structures are left out, but for one of images: of
    bytes, or of `{bytes, path}` as the Hub's data sets have it. These are written out in the cache folder.
    The other arguments are those of `read_table`.

    Raises:
        InputError: pyarrow is not installed, or the file is damaged or names and holds no images.
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
    if not table.num_rows:
        raise InputError(f"{file}: the manifest has no rows; add a row per image.")
    options = TableOptions(path_column, root, extension, missing, columns, standing)
    held = _column_of_images(table) if path_column is None else None
    named = {
        name: ["" if value is None else str(value) for value in table[name].to_pylist()]
        for name in table.column_names
        if name != held
        and not _nested(table.schema.field(name).type)
        and not _is_bytes(table, name)
    }
    if held is None or "path" in named:
        return manifest_of(file, named, options)
    named["path"], folder = _written_out(file, table[held].to_pylist())
    made = manifest_of(file, named, replace(options, root=str(folder)))
    note = f"{file.name}: the images are those that the column {held} holds"
    return replace(made, notes=(note, *made.notes))


def _column_of_images(table: Any) -> str | None:
    """The column that holds images: `{bytes, path}`, or bytes."""
    structures = [
        name
        for name in table.column_names
        if _nested(kind := table.schema.field(name).type)
        and "bytes" in [kind.field(i).name for i in range(kind.num_fields)]
    ]
    binary = [name for name in table.column_names if _is_bytes(table, name)]
    several = structures or sorted(
        binary, key=lambda n: _HELD.index(n.lower()) if n.lower() in _HELD else len(_HELD)
    )
    return several[0] if several else None


def _is_bytes(table: Any, name: str) -> bool:
    import pyarrow.types as types

    kind = table.schema.field(name).type
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _written_out(file: Path, cells: Sequence[Any]) -> tuple[list[str], Path]:
    """The paths of images that the rows hold, and the folder that they were written to."""
    held: list[tuple[bytes, str]] = [
        (cell.get("bytes") or b"", cell.get("path") or "")
        if isinstance(cell, dict)
        else (cell or b"", "")
        for cell in cells
    ]
    for row, (data, _) in enumerate(held):
        if not data:
            raise InputError(f"{file} row {row}: holds no image; leave it out and save it again.")
    paths = [
        f"{row // 1000:04}/{row:07}{PurePath(path).suffix or '.png'}"
        for row, (_, path) in enumerate(held)
    ]
    images = ((path, data) for path, (data, _) in zip(paths, held, strict=True))
    return paths, written_out(digest_of(file), images)


def _nested(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(kind.num_fields) and not types.is_dictionary(kind)

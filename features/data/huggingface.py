"""A saved Hugging Face data set, as `save_to_disk` writes it: Arrow files, read by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from features.data.image_cache import digest_of_all, written_out
from features.data.manifest import Manifest
from features.errors import InputError
from features.machine.regular_files import check_regular, read_regular
from features.machine.strict_json import from_json


def read_huggingface(folder: Path) -> Manifest:
    """Rows in the order of the data set; several splits follow one another, with a column `split`.

    The first column of images is read. Where it holds bytes, these are written out in the cache
    folder; else it holds paths, relative to `folder`. Class labels have their names, other columns of
    text and numbers are copied, and null is an empty cell.

    Raises:
        InputError: This is no such folder, pyarrow is not installed, or there is no column of images.
    """
    several = folder / "dataset_dict.json"
    parts = list(_json(several, "splits")["splits"]) if several.is_file() else [""]
    columns_of = _json(folder / parts[0] / "dataset_info.json", "features")["features"] or {}
    kinds = {name: kind for name, kind in columns_of.items() if isinstance(kind, dict)}
    image = next((name for name, kind in kinds.items() if kind.get("_type") == "Image"), None)
    if image is None:
        raise InputError(
            f"hf:{folder}: has no column of images among {', '.join(kinds) or 'none'}; cast one to "
            "datasets.Image and save it again."
        )
    own = ("path", "split") if len(parts) > 1 else ("path",)
    labels = [
        n for n, k in kinds.items() if k.get("_type") in ("Value", "ClassLabel") and n not in own
    ]
    files = [(part, file) for part in parts for file in _files(folder / part)]
    columns: dict[str, list[str]] = {name: [] for name in (*own, *labels)}
    held = set()
    for part, file in files:
        for row in _rows(file, [image, *labels]):
            cell = row[image] or {}
            i = len(columns["path"])
            name = f"{i // 1000:04}/{i:07}{PurePath(cell.get('path') or '').suffix or '.png'}"
            inside = cell.get("bytes") is not None
            held.add(inside)
            columns["path"].append(name if inside else cell.get("path") or "")
            for label in labels:
                columns[label].append(_text(row[label], kinds[label].get("names")))
            if len(parts) > 1:
                columns["split"].append(part)
    if not held or len(held) > 1 or "" in columns["path"]:
        raise InputError(
            f"hf:{folder}: {'some rows have' if held else 'there are'} no images; leave such rows out "
            "and save it again."
        )
    root = folder.resolve()
    if held == {True}:
        paths = iter(columns["path"])
        images = (
            (next(paths), r[image]["bytes"]) for _, file in files for r in _rows(file, [image])
        )
        root = written_out(digest_of_all(files), images)
    return Manifest(f"hf:{folder.resolve()}", root, columns)


def _files(folder: Path) -> list[Path]:
    state = _json(folder / "state.json", "_data_files")
    if state.get("_indices_files"):
        raise InputError(
            f"hf:{folder}: rows are chosen by an index; call flatten_indices() and save it again."
        )
    return [folder / file["filename"] for file in state["_data_files"]]


def _rows(file: Path, wanted: list[str]) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as arrow
    except ImportError as error:
        raise InputError(f"{file}: reading Arrow needs pyarrow; `pip install pyarrow`.") from error
    try:
        check_regular(file)
        with arrow.memory_map(str(file)) as mapped, arrow.ipc.open_stream(mapped) as batches:
            for batch in batches:
                yield from batch.select(wanted).to_pylist()
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors derive from these
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{file}: not a complete Arrow file ({why[:100]}); save it again."
        ) from error


def _json(file: Path, needed: str) -> dict[str, Any]:
    try:
        values = dict(from_json(read_regular(file)))
        values[needed]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"hf:{file.parent}: {file.name} is missing or damaged; give a folder that save_to_disk wrote."
        ) from error
    return values


def _text(value: Any, names: list[str] | None) -> str:
    if value is None or (names and value < 0):  # -1 is no label
        return ""
    return names[value] if names else str(value)

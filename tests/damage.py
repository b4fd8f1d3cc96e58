"""Ways to damage a file: its bytes, what stands at its name (`of`), and single values (`inside`)."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tomlkit

Damage = Callable[[Path], None]
OUTSIDE = "outside"
"""The file beside the study that a link is turned to."""


def of(file: Path, other: Path) -> dict[str, Damage]:
    """Every way to damage `file` as a whole, by name; the bytes of `other` may stand there instead.

    Each is a function that damages a path in place.
    """
    ways: dict[str, Damage] = {
        "gone": Path.unlink,
        "empty": lambda path: os.truncate(path, 0),
        "junk": lambda path: _write(path, b"junk, [and\n= more\n" * 9),
        "bytes of another": lambda path: shutil.copyfile(other, path) and None,
        "header alone": lambda path: _write(path, _first_line(path)),
        "a directory": lambda path: _instead(path, Path.mkdir),
        "a pipe": lambda path: _instead(path, os.mkfifo),
        "a dangling link": lambda path: _linked(path, path.with_name("nowhere")),
        "a link elsewhere": lambda path: _linked(path, _study_of(path).with_name(OUTSIDE)),
        "a link to itself": lambda path: _linked(path, path),
        "huge": _huge,
    }
    if os.geteuid():
        ways["unreadable"] = lambda path: path.chmod(0)
    for part in (0.1, 0.5, 0.9):
        ways[f"truncated at {part}"] = lambda path, p=part: os.truncate(path, int(_size(path) * p))
    for part in (0.02, 0.3, 0.7, 0.98):
        ways[f"flipped at {part}"] = lambda path, p=part: _flip(path, int(_size(path) * p))
    return ways


def inside(file: Path) -> dict[str, Damage]:
    """Every way to damage a single value inside `file`, by name; none for what is not read by values."""
    ways = {".toml": _trees, ".json": _trees, ".csv": _cells, ".h5": _hdf5, ".partial": _hdf5}
    return dict(ways[file.suffix](file)) if file.suffix in ways else {}


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _size(path: Path) -> int:
    return path.stat().st_size


def _study_of(path: Path) -> Path:
    return next(folder for folder in path.parents if (folder / ".study").exists())


def _first_line(path: Path) -> bytes:
    return path.read_bytes().partition(b"\n")[0] + b"\n"


def _instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _linked(path: Path, to: Path) -> None:
    _instead(path, lambda there: there.symlink_to(to))


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[min(at, len(data) - 1)] ^= 0x41
        path.write_bytes(data)


def _huge(path: Path) -> None:
    """A hole of a terabyte at the end, which takes no room on disk."""
    os.truncate(path, 1 << 40)


# TOML and JSON: every value replaced by others, and left out.

WRONG = {"a number": 5, "a word": "x", "lists": [[1], ["y"]], "an object": {"a": {}}, "minus": -1}


def _trees(file: Path) -> Iterator[tuple[str, Damage]]:
    places = list(_places(_parse(file)))[:60]
    for place in places:
        name = ".".join(map(str, place))
        yield f"{name} left out", lambda path, p=place: _put(path, p, None)
        for kind, value in WRONG.items():
            yield f"{name} {kind}", lambda path, p=place, v=value: _put(path, p, v)
    if file.suffix == ".json":
        for kind, value in {**WRONG, "null": None}.items():
            yield f"only {kind}", lambda path, v=value: path.write_text(json.dumps(v)) and None
    yield "no UTF-8", lambda path: _write(path, path.read_bytes() + b"\xff\xfe")
    for name, old, new in (
        ("classes twice", '["a", "b"]', '["a", "a"]'),
        ("no classes", '["a", "b"]', "[]"),
        ("one class", '["a", "b"]', '["a"]'),
        ("a huge number", '["a", "b"]', f"{10**40}"),
    ):
        if old in file.read_text():
            yield (
                name,
                lambda path, o=old, n=new: path.write_text(path.read_text().replace(o, n)) and None,
            )


def _parse(file: Path) -> Any:
    text = file.read_text()
    return json.loads(text) if file.suffix == ".json" else tomlkit.parse(text).unwrap()


def _places(tree: Any) -> Iterator[tuple[Any, ...]]:
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield (key,)
        for below in _places(value):
            yield (key, *below)


def _put(path: Path, place: tuple[Any, ...], value: object) -> None:
    tree = _parse(path)
    inner = tree
    for key in place[:-1]:
        inner = inner[key]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    path.write_text(json.dumps(tree) if path.suffix == ".json" else tomlkit.dumps(tree))


# CSV: every column left out, and its first cell replaced.

CELLS = {
    "a word": "x",
    "empty": "",
    "minus": "-3",
    "huge": "9" * 40,
    "nan": "nan",
    "infinite": "1e999",
}


def _cells(file: Path) -> Iterator[tuple[str, Damage]]:
    header = next(csv.reader(io.StringIO(file.read_text())), [])
    for column, name in enumerate(header):
        yield f"{name} left out", lambda path, c=column: _edit(path, c, None)
        for kind, cell in CELLS.items():
            yield f"{name} {kind}", lambda path, c=column, v=cell: _edit(path, c, v)
    yield "a column twice", lambda path: _edit(path, 0, header[-1], line=0)
    yield "a cell of 200 kB", lambda path: _edit(path, 0, "y" * 200_000)
    yield "a NUL", lambda path: _write(path, path.read_bytes() + b"\0\n")
    yield "a short line", lambda path: _write(path, path.read_bytes() + b"x\n")
    yield (
        "all lines twice",
        lambda path: (
            path.write_bytes(path.read_bytes() + path.read_bytes().partition(b"\n")[2]) and None
        ),
    )


def _edit(path: Path, column: int, cell: str | None, line: int = 1) -> None:
    lines = list(csv.reader(io.StringIO(path.read_text())))
    if cell is None:
        lines = [[c for i, c in enumerate(row) if i != column] for row in lines]
    elif line < len(lines):
        lines[line][column] = cell
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    path.write_text(text.getvalue())


# HDF5: every attribute and data set replaced by others, and left out.

ARRAYS = {
    "a scalar": np.float32(3),
    "of another length": np.zeros(5, dtype=np.float32),
    "of words": np.array([b"x", b"y"]),
    "of three axes": np.zeros((2, 2, 2), dtype=np.float32),
    "empty": np.zeros((0, 3), dtype=np.float32),
}
ATTRIBUTES = {"a number": 5, "a word": "x", "numbers": np.arange(3), "JSON of another kind": "[1]"}


def _hdf5(file: Path) -> Iterator[tuple[str, Damage]]:
    with h5py.File(file, "r") as opened:
        objects = ["/"]
        opened.visit(lambda name: objects.append(name) or None)
        attributes = [(name, key) for name in objects for key in opened[name].attrs]
    for name in objects[1:]:
        yield f"{name} left out", lambda path, n=name: _in_hdf5(path, n, None)
        for kind, array in ARRAYS.items():
            yield f"{name} {kind}", lambda path, n=name, a=array: _in_hdf5(path, n, a)
        yield f"{name} a group", lambda path, n=name: _in_hdf5(path, n, {})
    for name, key in attributes:
        yield f"{name}@{key} left out", lambda path, n=name, k=key: _attribute(path, n, k, None)
        for kind, value in ATTRIBUTES.items():
            yield (
                f"{name}@{key} {kind}",
                lambda path, n=name, k=key, v=value: _attribute(path, n, k, v),
            )


def _in_hdf5(path: Path, name: str, value: Any) -> None:
    with h5py.File(path, "r+") as opened:
        attributes = dict(opened[name].attrs)
        del opened[name]
        if isinstance(value, dict):
            opened.create_group(name)
        elif value is not None:
            opened[name] = value
            opened[name].attrs.update(attributes)


def _attribute(path: Path, name: str, key: str, value: Any) -> None:
    with h5py.File(path, "r+") as opened:
        del opened[name].attrs[key]
        if value is not None:
            opened[name].attrs[key] = value

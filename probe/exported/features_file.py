"""Features of a study as one file for other programs, with labels, subject and fold beside the numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import Floats, Ints
from features.errors import InputError, OptionError, nearest
from features.machine.files import file_name, replacing
from features.machine.replaceable import check_replaceable
from features.store.featurefile import DONE, FeatureFile
from features.study.study import Study
from probe.folds.make_splits import make_splits
from probe.folds.splits import Unfit

FORMATS = ("parquet", "npz", "safetensors")

Column = npt.NDArray[Any]


_MARKS = {
    "parquet": b"features.",
    "npz": b"row.npy",
    "safetensors": b'"about":"{\\"backbone\\"',
}
"""What stands in every file that is written here."""


@dataclass(frozen=True)
class FeaturesTable:
    """The rows of a study that are in use and have features."""

    backbone: str
    source: str
    columns: Mapping[str, Column]
    """`row` (of images.csv), `path`, `subject`, and for every task `label.TASK` and `fold.TASK`: the class
    as a text, empty where there is none, or a number; and the fold that `probe fit` tests the row in by
    default, -1 where it is in none. Each `(n,)`."""
    layers: Mapping[str, Floats]
    """`features.LAYER`, `(n, dim)` float32."""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of every task with classes, by `label.TASK`."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.columns["row"])


def export_features(
    study: Study,
    backbone: str,
    layers: Sequence[str] = (),
    *,
    format: str = "parquet",
    out: Path | str | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> tuple[Path, FeaturesTable]:
    """Write features of a backbone as one file for other programs, in one step; all layers are in memory.

    npz and parquet hold the columns as they are, parquet each layer as lists of `dim` numbers. safetensors
    hold numbers alone: `label.TASK` is the number of the class, -1 where there is none, `subject` a number,
    and the metadata `about` (JSON) has classes, paths and subjects by name.

    Args:
        study: The study.
        backbone: Whose features.
        layers: Layers, or `LAYER:POOL`; by default all.
        format: `parquet`, `npz` or `safetensors`.
        out: The file; by default BACKBONE in the study's folder, with the format's ending.
        announce: Called with a sentence on a task that has no folds.

    Returns:
        The file, and what it holds.

    Raises:
        InputError: There is no such backbone or layer, no row is there, or the file cannot be written.
        OptionError: There is no such format.
    """
    if format not in FORMATS:
        raise OptionError(f"--format {format}: not a format; {nearest(format, FORMATS)}")
    file = study.folder / f"{file_name(backbone)}.{format}" if out is None else Path(out)
    check_replaceable(file, "--out", [_MARKS[format]])
    write = {"parquet": _parquet, "npz": _npz, "safetensors": _safetensors}[format]
    if format == "parquet":
        _pyarrow()
    with study.features(backbone) as opened:
        table = _table(study, opened, layers or opened.keys, announce)
    with replacing(file) as written:
        write(written, table)
    return file, table


def _table(
    study: Study, file: FeatureFile, keys: Sequence[str], announce: Callable[[str], None]
) -> FeaturesTable:
    done = file.status == DONE
    rows = np.flatnonzero(done & study.used)
    if not len(rows):
        raise InputError(f"{file.path}: no row in use has features yet; run `probe extract` first.")
    subjects = study.columns.get("subject", [""] * len(study))
    columns: dict[str, Column] = {
        "row": rows,
        "path": np.array([study.paths[row] for row in rows], dtype=np.str_),
        "subject": np.array([subjects[row] for row in rows], dtype=np.str_),
    }
    classes = {}
    for name, task in study.tasks.items():
        if task.has_labels:
            for label, known in zip(task.classes, study.targets(name)[rows].T, strict=True):
                columns[f"label.{name}.{label}"] = known
            continue
        cells = study.columns[name]
        if task.is_number:
            columns[f"label.{name}"] = study.numbers(name)[rows]
        else:
            known = study.labels(name) >= 0
            columns[f"label.{name}"] = np.array(
                [cells[row] if known[row] else "" for row in rows], dtype=np.str_
            )
            classes[f"label.{name}"] = task.classes
        try:
            fold = make_splits(study, task, done, None, 0).fold
        except Unfit as error:
            announce(f"no folds of {name}: {error}")
            continue
        columns[f"fold.{name}"] = fold[rows]
    read = {f"features.{key}": file.read(key, rows) for key in dict.fromkeys(keys)}
    return FeaturesTable(file.backbone, study.source, columns, read, classes)


def _npz(path: Path, table: FeaturesTable) -> None:
    arrays: dict[str, Any] = {**table.columns, **table.layers}
    with path.open("wb") as file:  # by name it would add its ending
        np.savez(file, **arrays)


def _parquet(path: Path, table: FeaturesTable) -> None:
    pyarrow = _pyarrow()
    made = {}
    for name, values in table.columns.items():
        empty = values == "" if values.dtype.kind == "U" else np.zeros(len(values), dtype=bool)
        made[name] = pyarrow.array(values.tolist(), mask=empty, from_pandas=True)
    for name, x in table.layers.items():
        made[name] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(x.ravel()), x.shape[1])
    told = {"backbone": table.backbone, "source": table.source}
    pyarrow.parquet.write_table(pyarrow.table(made).replace_schema_metadata(told), path)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "--format parquet: needs pyarrow; `pip install pyarrow`, or give --format npz."
        ) from error
    return pyarrow


def _safetensors(path: Path, table: FeaturesTable) -> None:
    from safetensors.numpy import save_file

    arrays: dict[str, Column] = dict(table.layers)
    names: dict[str, list[str]] = {}
    for name, values in table.columns.items():
        if name in table.classes:
            known: dict[str, int] = {text: i for i, text in enumerate(table.classes[name])}
            arrays[name] = np.array([known.get(text, -1) for text in values], dtype=np.int64)
        elif name == "subject":
            names["subjects"], arrays[name] = _numbered(values)
        elif name == "path":
            names["paths"] = values.tolist()
        else:
            arrays[name] = values
    about = {
        "backbone": table.backbone,
        "source": table.source,
        "classes": {name: list(each) for name, each in table.classes.items()},
        **names,
    }
    whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    save_file(whole, path, {"about": json.dumps(about)})


def _numbered(values: Column) -> tuple[list[str], Ints]:
    """Names in the order of their first rows, and the place of every value among them."""
    place = {name: i for i, name in enumerate(dict.fromkeys(values.tolist()))}
    return list(place), np.array([place[name] for name in values.tolist()], dtype=np.int64)

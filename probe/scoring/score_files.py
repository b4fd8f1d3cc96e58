"""Transfer scores on disk: ranking.csv and the matrices of CKA."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from features.data.table import read_rows
from features.study.study import Study


@dataclass(frozen=True)
class Scored:
    """One layer and task."""

    task: str
    backbone: str
    domain: str
    key: str
    """Layer, or LAYER:POOL."""
    depth: float
    dim: int
    logme: float
    h_score: float
    leep: float | None
    """Only of a layer that is the network's own output over the classes it was trained on."""
    copy_of: str
    """BACKBONE/KEY of an earlier line that this layer nearly repeats, or nothing."""
    images: int
    contract: str
    """Of the feature file; another one since means that the scores are of other features."""


def read(study: Study) -> tuple[list[Scored], list[str]]:
    """The scores that stand in scores.csv, and what is wrong with them, in words.

    Those of features that have been made anew since are left out.
    """
    file = study.folder / "scores.csv"
    if not file.is_file():
        return [], ["Transfer scores: `probe rank` makes them."]
    header, rows = read_rows(file)
    if header != [f.name for f in fields(Scored)]:
        return [], ["Transfer scores: scores.csv does not read; `probe rank` makes it again."]
    contracts = {name: _contract(study, name) for name in study.backbones()}
    lines, stale = [], set()
    for row in rows:
        cell = dict(zip(header, row, strict=True))
        if contracts.get(cell["backbone"]) != cell["contract"]:
            stale.add(cell["backbone"])
            continue
        lines.append(
            Scored(
                cell["task"], cell["backbone"], cell["domain"], cell["key"], float(cell["depth"]),
                int(cell["dim"]), float(cell["logme"]), float(cell["h_score"]),
                float(cell["leep"]) if cell["leep"] else None, cell["copy_of"],
                int(cell["images"]), cell["contract"],
            )
        )  # fmt: skip
    said = [
        f"Transfer scores of {name} are of older features; `probe rank` again." for name in stale
    ]
    return lines, sorted(said)


def read_alike(study: Study) -> tuple[list[str], npt.NDArray[np.float64]]:
    """The layers and the square of similarity.csv; nothing where there is none."""
    file = study.folder / "similarity.csv"
    if not file.is_file():
        return [], np.zeros((0, 0))
    header, rows = read_rows(file)
    return header[1:], np.array([[float(cell) for cell in row[1:]] for row in rows])


def _contract(study: Study, backbone: str) -> str:
    with study.features(backbone) as file:
        return str(file.attributes["contract"])[:12]


def _to_csv(lines: Sequence[Scored]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f.name for f in fields(Scored)]
    writer.writerow(names)
    for line in lines:
        values = [getattr(line, name) for name in names]
        writer.writerow(
            ["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in values]
        )
    return text.getvalue()


def _square(names: Sequence[str], alike: npt.NDArray[np.float64]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *names])
    for name, row in zip(names, alike, strict=True):
        writer.writerow([name, *(f"{v:.4f}" for v in row)])
    return text.getvalue()

"""Transfer scores on disk: ranking.csv and the matrices of CKA."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from features.arrays import Doubles
from features.data.table import read_rows
from features.study.study import Study


@dataclass(frozen=True)
class LayerScore:
    """The transfer scores of one layer for one task: a line of scores.csv."""

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
    """Only for a layer that is the network's own output over the classes it was trained on."""
    copy_of: str
    """BACKBONE/KEY of an earlier layer that this one nearly repeats, or empty."""
    images: int
    """How many images the scores were computed from."""
    contract: str
    """The feature file's contract, shortened; where it has changed since, the scores are outdated."""


def read(study: Study) -> tuple[list[LayerScore], list[str]]:
    """The scores in scores.csv, and in sentences what is wrong with the file.

    Scores of features that have been extracted anew since are left out.
    """
    file = study.folder / "scores.csv"
    if not file.is_file():
        return [], ["Transfer scores: `probe rank` computes them."]
    header, rows = read_rows(file)
    if header != [f.name for f in fields(LayerScore)]:
        return [], [
            "Transfer scores: scores.csv is of another version; `probe rank` computes them again."
        ]
    contracts = {name: _contract(study, name) for name in study.backbones()}
    lines, stale = [], set()
    for row in rows:
        cell = dict(zip(header, row, strict=True))
        if contracts.get(cell["backbone"]) != cell["contract"]:
            stale.add(cell["backbone"])
            continue
        lines.append(
            LayerScore(
                cell["task"], cell["backbone"], cell["domain"], cell["key"], float(cell["depth"]),
                int(cell["dim"]), float(cell["logme"]), float(cell["h_score"]),
                float(cell["leep"]) if cell["leep"] else None, cell["copy_of"],
                int(cell["images"]), cell["contract"],
            )
        )  # fmt: skip
    warnings = [
        f"Transfer scores of {name} are of older features; `probe rank` computes them again."
        for name in stale
    ]
    return lines, sorted(warnings)


def read_alike(study: Study) -> tuple[list[str], Doubles]:
    """The layers of similarity.csv and the CKA between them, `(layers, layers)`; both may be empty."""
    file = study.folder / "similarity.csv"
    if not file.is_file():
        return [], np.zeros((0, 0))
    header, rows = read_rows(file)
    return header[1:], np.array([[float(cell) for cell in row[1:]] for row in rows])


def _contract(study: Study, backbone: str) -> str:
    with study.features(backbone) as file:
        return str(file.attributes["contract"])[:12]


def _to_csv(lines: Sequence[LayerScore]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f.name for f in fields(LayerScore)]
    writer.writerow(names)
    for line in lines:
        values = [getattr(line, name) for name in names]
        writer.writerow(
            ["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in values]
        )
    return text.getvalue()


def _square(names: Sequence[str], alike: Doubles) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *names])
    for name, row in zip(names, alike, strict=True):
        writer.writerow([name, *(f"{v:.4f}" for v in row)])
    return text.getvalue()

"""Transfer scores on disk: scores.csv, and similarity.csv with the CKA between layers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Doubles
from features.errors import InputError
from features.machine.files import sweep
from features.machine.locks import locked
from features.study.study import Study
from probe.results import csv_records
from probe.scoring.score_table import Scores

_REMEDY = "delete it, and `probe rank` makes it again."
PATIENCE = 60.0  # seconds: whoever holds the lock only writes two small files


@dataclass(frozen=True, kw_only=True)
class _ScoredLayer:
    """The columns before the scores: what is scored, for which task."""

    task: str
    backbone: str
    domain: str
    key: str
    """Layer, or LAYER:POOL."""
    depth: float
    dim: int


@dataclass(frozen=True, kw_only=True)
class LayerScore(Scores, _ScoredLayer):
    """The transfer scores of one layer for one task: a line of scores.csv."""

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
    if not os.path.lexists(file):
        return [], ["Transfer scores: `probe rank` computes them."]
    if not csv_records.has_columns(file, LayerScore):
        return [], [
            "Transfer scores: scores.csv is of another version; `probe rank` computes them again."
        ]
    contracts = {name: _contract(study, name) for name in study.backbones()}
    lines = csv_records.read(file, LayerScore, _REMEDY)
    stale = {x.backbone for x in lines if contracts.get(x.backbone) != x.contract}
    lines = [x for x in lines if x.backbone not in stale]
    warnings = [
        f"Transfer scores of {name} are of older features; `probe rank` computes them again."
        for name in stale
    ]
    return lines, sorted(warnings)


def read_alike(study: Study) -> tuple[list[str], Doubles]:
    """The layers of similarity.csv and the CKA between them, `(layers, layers)`; both may be empty.

    Raises:
        InputError: The file is damaged.
    """
    file = study.folder / "similarity.csv"
    if not os.path.lexists(file):
        return [], np.zeros((0, 0))
    header, rows = csv_records.read_cells(file, _REMEDY)
    try:
        alike = np.array([[float(cell) for cell in row[1:]] for _, row in rows], dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{file}: {error}; {_REMEDY}") from error
    size = max(len(header) - 1, 0)
    if alike.shape != (size, size) and (size or alike.size):
        raise InputError(f"{file}: not as many lines as columns; {_REMEDY}")
    return header[1:], alike.reshape(size, size)


def _contract(study: Study, backbone: str) -> str:
    with study.features(backbone) as file:
        return str(file.attributes["contract"])[:12]


def write(study: Study, scores: Sequence[LayerScore], names: Sequence[str], alike: Doubles) -> None:
    """Write scores.csv, and as similarity.csv the CKA between the layers `names`.

    Raises:
        InputError: A folder is in the place of one of them; neither is changed.
    """
    table, matrix = study.folder / "scores.csv", study.folder / "similarity.csv"
    for path in (table, matrix):
        if path.is_dir():
            raise InputError(f"{path}: a folder where a file belongs; {_REMEDY}")
    with locked(study.folder / ".scores.lock", str(table), PATIENCE):
        sweep(table)
        sweep(matrix)
        csv_records.write(table, LayerScore, scores, digits=6)
        lines = [[name, *(f"{v:.4f}" for v in row)] for name, row in zip(names, alike, strict=True)]
        csv_records.write_cells(matrix, ["", *names], lines)

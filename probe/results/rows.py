"""results.csv: one row per backbone, layer, method, task and fold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError
from probe.results import csv_records, predictions
from probe.results.metrics import Measured, MeasuredSince

ResultName = tuple[str, str, str]
"""Backbone, layer and method of a result, as predictions/ names them."""
REMEDY = (
    "restore the file, or delete it: `probe fit` makes the rows of probes again, and `probe finetune` "
    "those of networks."
)
"""What to do about a results.csv that does not read."""
BEST = "best"
"""The layer of a row whose layer was chosen inside the training folds."""


@dataclass(frozen=True, kw_only=True)
class _Fold:
    """The columns before the metrics: what is measured, and in which fold."""

    backbone: str
    domain: str
    layer: str
    """A layer's name, or `best`: the layer and pooling chosen inside the training folds.

    For a fine-tune it is the cut, the layer through which it freezes or copies; empty for none.
    """
    pool: str = ""
    depth: float | None = None
    method: str
    """A probe, or `finetune`, `scratch`, `frozen` or `copied`.

    After a `+` stands how such a training departs from the default, as in `scratch+gilnet` or
    `finetune+probe-first`; rows of files written before are without.
    """
    task: str
    fold: int


@dataclass(frozen=True, kw_only=True)
class _Columns(Measured, _Fold):
    """The columns of the first versions: those of `_Fold`, the metrics, and then these."""

    n_test: int
    n_train: int
    dim: int | None = None
    scale: str = ""
    solver: str = ""
    C: float | None = None
    """The C chosen; alpha for ridge, k for knn; none for a fine-tune."""
    at_edge: int = 0
    """1: the choice is the first or last of its grid."""
    selection: float | None = None
    """The inner score of the choice: minus log loss (logistic) or accuracy, of a number minus the root of
    the mean squared error; larger is better."""
    chosen: str = ""
    """For `best` rows, the layer (and pooling) that was chosen."""
    epochs: int | None = None
    """How many epochs a fine-tune trained."""
    recipe: str = ""
    """How else a fine-tune was trained, in words."""
    seed: int = 0
    views: str = "center"
    """The view of each test image that is scored: `center`, `flip` or `10crop`."""
    crops: int = 1
    """How many views are averaged."""
    repeat: int = 0
    """Which repetition of the cross-validation, each on folds of its own."""
    shots: int | None = None
    """Training images per class; empty: all."""
    draw: int | None = None
    """Which draw of so many training images."""
    converged: int = 1
    error: float | None = None
    """The relative error of the refit's objective by `grid`: a bound, but for the bias of logistic."""
    protocol: str


@dataclass(frozen=True, kw_only=True)
class Row(MeasuredSince, _Columns):
    """One line of results.csv; accuracies are fractions, an empty cell is not applicable.

    Columns that came later are the last.
    """

    fraction: float | None = None
    """Share of the training images of each class, drawn; empty: all, or `shots`."""

    project: int | None = None
    """The width that features were projected to, where they were wider; empty: they were not."""

    @property
    def is_drawn(self) -> bool:
        """Whether it is trained on a draw of few images."""
        return self.draw is not None

    @property
    def result(self) -> tuple[str, ...]:
        """The values that tell results apart; the rows of a result are its folds."""
        return (self.task, self.backbone, self.layer, self.pool, self.method, self.variant)

    @property
    def key(self) -> tuple[str, ...]:
        """The result and the fold: two rows that share it are the same, made twice."""
        return (*self.result, str(self.fold))

    @property
    def made_alike(self) -> tuple[str, ...]:
        """The values that rows made under one protocol share: a result, its views and its draws.

        A repeat has folds, and so a protocol, of its own.
        """
        layer = (self.task, self.backbone, self.layer, self.pool)
        return (*layer, self.method, str(self.repeat))

    @property
    def variant(self) -> str:
        """How the result departs from one fit on all training images and the centre crop."""
        return variant(
            views=self.views,
            crops=self.crops,
            repeat=self.repeat,
            shots=self.shots,
            fraction=self.fraction,
            draw=self.draw,
            project=self.project,
        )

    @property
    def features_key(self) -> str:
        """The layer as feature files and predictions/ name it."""
        return self.layer if self.pool in ("", "none", "auto") else f"{self.layer}:{self.pool}"

    @property
    def stored(self) -> predictions.Key:
        """Where predictions/ holds the scores of this row."""
        layer = BEST if self.layer == BEST else self.features_key
        return (self.task, self.backbone, layer, self.method + self.variant)

    @property
    def result_name(self) -> ResultName:
        """The name of the result that this row is a fold of."""
        return self.stored[1:]


def variant(
    *,
    views: str = "center",
    crops: int = 1,
    repeat: int = 0,
    shots: int | None = None,
    fraction: float | None = None,
    draw: int | None = None,
    project: int | None = None,
) -> str:
    """What a method's name is followed by in predictions/, such as `,shots=5,draw=0`."""
    parts = [
        ("views", views, views != "center"),
        ("crops", crops, crops != 1),
        ("repeat", repeat, repeat != 0),
        ("shots", shots, shots is not None),
        ("fraction", fraction, fraction is not None),
        ("draw", draw, draw is not None),
        ("project", project, project is not None),
    ]
    return "".join(f",{name}={value}" for name, value, departs in parts if departs)


def read(file: Path) -> list[Row]:
    """All rows; none if the file does not exist.

    A column that came with a later version of the toolkit, and is not there, takes its default.

    Raises:
        InputError: A column is missing or a cell does not read.
    """
    rows = csv_records.read(file, Row, REMEDY)
    for row in rows:
        shares = (row.accuracy, row.balanced_accuracy, row.macro_f1)
        if row.rmse is None and row.mean_ap is None and None in shares:
            raise InputError(f"{file}: a number is missing in a row of {row.task}; {REMEDY}")
        if not all(share is None or 0 <= share <= 1 for share in shares):
            raise InputError(f"{file}: an accuracy of {row.task} is not between 0 and 1; {REMEDY}")
        if row.fold < 0:
            raise InputError(f"{file}: a row of {row.task} has the fold {row.fold}; {REMEDY}")
    return rows


def check_columns(file: Path) -> None:
    """Refuse a file with a column that is none of `Row`'s, before it is written again without it.

    Raises:
        InputError: It has such a column, or is no table.
    """
    csv_records.check_columns(file, Row, REMEDY)


def write(file: Path, rows: Iterable[Row]) -> None:
    """Write all rows in one step, in their order; numbers in full, so that they read back the same."""
    csv_records.write(file, Row, rows)


def replace(rows: Iterable[Row], new: Sequence[Row]) -> list[Row]:
    """`rows` with those replaced that are made again in `new`, the rest in their order.

    Rows of a result under another protocol go with the first fold that is made again, and so do its
    views and its draws of few images, which would otherwise be averaged or compared with the new rows.
    """
    protocols = {row.made_alike: row.protocol for row in new}
    kept = {
        row.key: row for row in rows if protocols.get(row.made_alike, row.protocol) == row.protocol
    }
    kept.update({row.key: row for row in new})
    return list(kept.values())

"""What every row of results did with every image, read from predictions.h5, and metrics of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.errors import InputError
from features.study.study import Study
from probe.analysis.statistics import Interval, accuracy_interval, mean_interval, retraining
from probe.folds import has_split
from probe.results import predictions
from probe.results.protocol import differences, mark, outdated
from probe.results.rows import Row

Floats = npt.NDArray[np.float64]
Name = tuple[str, str, str]
"""Backbone, layer and method as predictions.h5 has them."""

METRICS = {
    "accuracy": "accuracy",
    "balanced": "balanced accuracy",
    "one_off": "one-off accuracy",
    "mae": "mean error in classes",
}
"""Metrics that are the mean of one value per image, with their names for people."""

_AT_ONCE = 64
_COLUMN = {"balanced": "balanced_accuracy"}


def per_image(
    said: npt.NDArray[np.integer], y: npt.NDArray[np.int64], fold: npt.NDArray[np.integer]
) -> dict[str, Floats]:
    """One value per image and metric, whose mean over the images is the metric.

    For balanced accuracy, the mean over folds of the mean recall of the classes that occur, the value
    of an image is that mean plus its own share in the deviation, n w (correct - recall of its class in
    its fold) with w = 1 / (folds x classes x images of the class in the fold): the mean is unchanged
    and the spread between subjects is that of the linearised ratio.

    Args:
        said: Predicted class numbers, `(n,)`.
        y: True class numbers, `(n,)`.
        fold: The fold each image was tested in, `(n,)`.
    """
    correct = (said == y).astype(np.float64)
    off = np.abs(said.astype(np.int64) - y)
    classes = int(y.max()) + 1
    cell = fold.astype(np.int64) * classes + y
    size = np.bincount(cell, minlength=(int(fold.max()) + 1) * classes)
    hits = np.bincount(cell, weights=correct, minlength=len(size))
    occurs = size.reshape(-1, classes) > 0
    parts = occurs.sum(1)  # classes that occur, per fold
    folds = int((parts > 0).sum())
    weight = 1 / (folds * parts[fold] * size[cell])
    recall = hits[cell] / size[cell]
    mean = float((weight * correct).sum())
    return {
        "accuracy": correct,
        "balanced": mean + len(y) * weight * (correct - recall),
        "one_off": (off <= 1).astype(np.float64),
        "mae": off.astype(np.float64),
    }


def interval(metric: str, values: Floats, subjects: npt.NDArray[np.int64]) -> Interval:
    """The mean of per-image values with its 95 % interval over subjects, within what is possible."""
    if metric in ("accuracy", "one_off"):
        return accuracy_interval(values, subjects)
    found = mean_interval(values, subjects)
    most = 1.0 if metric == "balanced" else np.inf
    return Interval(found.value, max(0.0, found.low), min(most, found.high), found.effective)


class Outcomes:
    """The predictions of one task, each read once; what is not stored is left to the folds' figures."""

    def __init__(self, study: Study, task: str, rows: Sequence[Row]) -> None:
        """Read what `rows` (of `task`) stand for.

        Raises:
            InputError: predictions.h5 holds another run than results.csv.
        """
        self.study, self.task = study, task
        self.y = study.labels(task)
        self.subjects = study.subjects
        self.ordered = study.tasks[task].ordered or any(row.one_off is not None for row in rows)
        self.metrics = tuple(METRICS) if self.ordered else ("accuracy", "balanced")
        self.fold: npt.NDArray[np.int64] | None = None
        self.backbone = ""
        """The one that `fold` is of."""
        self.outdated: dict[Name, str] = {}
        """Rows whose scores are of another state of the study, and what of it has changed."""
        self.missing: list[Name] = []
        """Rows without predictions."""
        self._said: dict[Name, npt.NDArray[np.int8]] = {}
        self._measured: dict[Name, dict[str, Interval]] = {}
        self._protocol: dict[Name, str] = {}
        folds: dict[Name, list[Row]] = {}
        for row in rows:
            folds.setdefault(name_of(row), []).append(row)
        self._wider = {name: wider(study, mine) for name, mine in folds.items()}
        self._read({name_of(row): row.protocol for row in rows})

    @property
    def left_out(self) -> str:
        """What is outdated, in a sentence."""
        name, changed = next(iter(self.outdated.items()))
        first = "/".join(part or "-" for part in name)
        return (
            f"{changed} changed after {len(self.outdated)} of the results of {self.task} were made (the "
            f"first: {first}), so they are left out; run `probe fit` with the same options again, or "
            "`probe finetune` for a fine-tune."
        )

    def said(self, name: Name) -> npt.NDArray[np.int8]:
        """The class predicted for every image, `(n,)`; -1 where not tested."""
        return self._said[name]

    def has(self, *names: Name) -> bool:
        """Whether there are predictions of all of these."""
        return all(name in self._said for name in names)

    def correct(self, name: Name) -> Floats:
        """1 where the image was right, 0 where wrong, NaN where not tested, `(n,)`."""
        said = self._said[name]
        return np.where(said >= 0, said == self.y, np.nan)

    def alike(self, a: Name, b: Name) -> bool:
        """Whether these may be compared: of the same images in the same folds, if that is known."""
        return not self.unlike(a, b)

    def unlike(self, a: Name, b: Name) -> list[str]:
        """What besides the method tells the protocols of these apart, in a few words each."""
        one, other = self._protocol.get(a), self._protocol.get(b)
        said = differences(one, other) if one and other else []
        return [words for words in said if words != "method"]

    def wider(self, *names: Name) -> float:
        """What the errors of a difference between these are multiplied by."""
        return max(self._wider[name] for name in names)

    def measure(self, rows: Sequence[Row]) -> dict[str, Interval]:
        """Every metric of the folds of one layer; without predictions there are no intervals."""
        found = self._measured.get(name_of(rows[0]))
        return found if found is not None else _of_folds(rows, self.metrics)

    def _read(self, wanted: Mapping[Name, str]) -> None:
        file = self.study.folder / "predictions.h5"
        names = list(wanted)
        for start in range(0, len(names), _AT_ONCE):
            asked = names[start : start + _AT_ONCE]
            for name, prediction in _stored(file, self.task, asked).items():
                if prediction.protocol and mark(prediction.protocol) != wanted[name]:
                    raise InputError(
                        f"{file}: its scores of {'/'.join(name)} are of another run than results.csv, "
                        "which was not finished; run `probe fit` again."
                    )
                self._take(name, prediction)
        self.missing = [n for n in names if n not in self._said and n not in self.outdated]

    def _take(self, name: Name, prediction: predictions.Prediction) -> None:
        fold = prediction.fold.astype(np.int64)
        tested = fold >= 0
        changed = outdated(self.study, self.task, prediction.protocol, fold)
        if changed is not None:
            self.outdated[name] = changed
            return
        self._protocol[name] = prediction.protocol
        if self.fold is None:
            self.fold, self.backbone = fold, name[0]
        scores = np.nan_to_num(prediction.scores, nan=-np.inf)
        said = np.where(tested, scores.argmax(1), -1).astype(np.int8)
        self._said[name] = said
        values = per_image(said[tested], self.y[tested], fold[tested])
        subjects = self.subjects[tested]
        self._measured[name] = {m: interval(m, values[m], subjects) for m in self.metrics}


def wider(study: Study, rows: Sequence[Row]) -> float:
    """`retraining` of the folds of one result, by the images that truly trained each of them."""
    # A fold that is there alone, as while a fine-tune is under way, says nothing of those to come.
    if len(rows) == 1 and not has_split(study):
        return 1.5
    return retraining(sum(row.n_test for row in rows), float(np.mean([r.n_train for r in rows])))


def name_of(row: Row) -> Name:
    """How predictions.h5 calls the layer and method of a row."""
    return row.stored[1:]


def _stored(file: Path, task: str, names: Iterable[Name]) -> Mapping[Name, predictions.Prediction]:
    """What the file holds of `names`: all at once, or one by one where some are missing."""
    names = list(names)
    try:
        found = predictions.read_all(file, [(task, *name) for name in names])
        return {key[1:]: prediction for key, prediction in found.items()}
    except InputError:
        if len(names) == 1:
            return {}
        return {k: v for name in names for k, v in _stored(file, task, [name]).items()}


def _of_folds(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, Interval]:
    n = np.array([max(row.n_test, 1) for row in rows], dtype=np.float64)
    found = {}
    for metric in metrics:
        values = [getattr(row, _COLUMN.get(metric, metric)) for row in rows]
        if None not in values:
            even = np.ones_like(n) if metric == "balanced" else n
            value = float(np.average(np.array(values, dtype=np.float64), weights=even))
            found[metric] = Interval(value, np.nan, np.nan, np.nan)
    return found

"""The class predicted for every image by every result, read from predictions/, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import Doubles, Ints
from features.data.tasks import Task
from features.errors import InputError
from features.study.study import Study
from probe.analysis.statistics import Interval, accuracy_interval, mean_interval
from probe.analysis.training_variance import CrossValidated, choice, cross_validated, widening
from probe.probes.methods import ScoreKind
from probe.results import predictions
from probe.results.class_metrics import MANY, PredictedImages
from probe.results.label_metrics import LabelledImages
from probe.results.metrics import CURVES, OF_LABELS, OF_NUMBERS, Metric, kind_of
from probe.results.number_metrics import PredictedNumbers
from probe.results.protocol import differences, mark, outdated
from probe.results.rows import ResultName, Row
from probe.results.scores import calibration_error, probabilities

_AT_ONCE = 64
CALIBRATION = "calibration_pooled"
"""The name of the calibration error over all tested images together; it has no interval."""


Predicted = PredictedImages | PredictedNumbers | LabelledImages
"""What is known of the tested images of a result, by the kind of the task."""


def images_of(
    task: Task,
    scores: npt.NDArray[np.floating],
    y: npt.NDArray[Any],
    fold: npt.NDArray[np.integer],
    kind: ScoreKind,
) -> Predicted:
    """The tested images of a result of `task`.

    Args:
        task: The task.
        scores: `(n, K)`; of a number `(n, 1)`, which are the predictions.
        y: As `Study.truth` has it, of these images.
        fold: The fold that tested each, `(n,)`.
        kind: What the scores are.
    """
    if task.is_number:
        return PredictedNumbers(scores[:, 0].astype(np.float64), y)
    if task.has_labels:
        return LabelledImages(scores, y, fold, kind)
    scores = np.nan_to_num(scores, nan=-np.inf)
    return PredictedImages(scores.argmax(1), y, fold, scores)


def measured(
    images: Predicted,
    subjects: Ints,
    metrics: Sequence[str],
    wider: float = 1.0,
) -> dict[str, Interval]:
    """Metrics over all images with their 95 % intervals over subjects, cut to the metric's range.

    Args:
        images: Predicted and true classes, and folds, or predicted and true numbers, `(n,)`, or labels.
        subjects: The subject of every image, `(n,)`.
        metrics: Names in `CURVES`.
        wider: What standard errors are multiplied by; see training_variance.py.
    """
    return {name: _interval(CURVES[name], images, subjects, wider) for name in metrics}


def _interval(metric: Metric, images: Predicted, subjects: Ints, wider: float) -> Interval:
    if not isinstance(images, PredictedImages):
        if isinstance(images, PredictedNumbers):
            assert metric.per_number is not None
            values = metric.per_number(images)
        else:
            assert metric.per_labels is not None
            values = metric.per_labels(images)
        if np.isnan(values).any():  # it is not defined, as the correlation of a constant
            return Interval(np.nan, np.nan, np.nan, np.nan)
    else:
        assert metric.per_image is not None
        values = metric.per_image(images)
        if metric.binary:
            return accuracy_interval(values, subjects, wider)
    mean = mean_interval(values, subjects, wider)
    low, high = max(metric.lowest, mean.low), min(metric.highest, mean.high)
    return Interval(mean.value, low, high, mean.effective)


class Outcomes:
    """The predictions of one task, read once; for results without predictions, the metrics of the folds."""

    def __init__(self, study: Study, task: str, rows: Sequence[Row]) -> None:
        """Read the predictions of all `rows`, which are those of `task`.

        Raises:
            InputError: predictions/ is of another run than results.csv.
        """
        self.study, self.task = study, task
        self.is_number, self.has_labels = study.tasks[task].is_number, study.tasks[task].has_labels
        self.has_classes = study.tasks[task].has_classes
        self.y = np.zeros(0, dtype=np.int64)
        """The class number of every row, `(n,)`, or its labels, `(n, labels)`; empty for a number."""
        if not self.is_number:
            self.y = study.targets(task) if self.has_labels else study.labels(task)
        self.numbers = study.numbers(task) if self.is_number else np.zeros(0)
        """The number of every row, `(n,)`; empty for classes."""
        self.subjects = study.subjects
        self.ordered = study.tasks[task].ordered or any(row.one_off is not None for row in rows)
        many = len(study.tasks[task].classes) >= MANY
        self.metrics = tuple(
            name
            for name, metric in (
                OF_NUMBERS if self.is_number else OF_LABELS if self.has_labels else CURVES
            ).items()
            if not self.has_classes
            or (
                metric.per_image is not None
                and (self.ordered or not metric.ordered)
                and (many or not metric.many)
            )
        )
        self.fold: Ints | None = None
        """The fold that each image was tested in, `(n,)`, -1 where in none; None without predictions."""
        self.backbone = ""
        """The backbone whose results `fold` was read from."""
        self.outdated: dict[ResultName, str] = {}
        """Results made before the study changed, and what of the study has changed since."""
        self.missing: list[ResultName] = []
        """Results without predictions."""
        self.left_out_labels: tuple[int, ...] = ()
        """Labels that take no part, by their numbers."""
        self._predicted: dict[ResultName, npt.NDArray[np.int32]] = {}
        self._off: dict[ResultName, Doubles] = {}
        self._measured: dict[ResultName, dict[str, Interval]] = {}
        self._protocol: dict[ResultName, str] = {}
        folds: dict[ResultName, list[Row]] = {}
        for row in rows:
            folds.setdefault(row.result_name, []).append(row)
        self._rows = folds
        self._tested: dict[ResultName, CrossValidated] = {}
        self._read({row.result_name: row.protocol for row in rows})

    @property
    def left_out(self) -> str:
        """Which results are outdated, in a sentence."""
        name, changed = next(iter(self.outdated.items()))
        first = "/".join(part or "-" for part in name)
        return (
            f"{changed} changed after {len(self.outdated)} of the results of {self.task} were made (the "
            f"first: {first}), so they are left out; run `probe fit` with the same options again, or "
            "`probe finetune` for a fine-tune."
        )

    def predicted(self, name: ResultName) -> npt.NDArray[np.int32]:
        """The class predicted for every image, `(n,)`; -1 where not tested."""
        return self._predicted[name]

    def has(self, *names: ResultName) -> bool:
        """Whether there are predictions of all these results."""
        return all(name in self._predicted or name in self._off for name in names)

    def correct(self, name: ResultName) -> Doubles:
        """1 where the prediction is right, 0 where it is wrong, NaN where not tested, `(n,)`."""
        predicted = self._predicted[name]
        return np.where(predicted >= 0, predicted == self.y, np.nan)

    def worth(self, name: ResultName) -> Doubles:
        """What every image counts for when results are compared, `(n,)`, NaN where not tested.

        1 where the class is right, else 0; of a number minus the absolute error, of several labels an image
        its part in the mean average precision. So more is better.
        """
        return self.correct(name) if self.has_classes else self._off[name]

    def alike(self, a: ResultName, b: ResultName) -> bool:
        """Whether two results may be compared: their protocols differ in nothing but the method."""
        return not self.unlike(a, b)

    def unlike(self, a: ResultName, b: ResultName) -> list[str]:
        """What besides the method differs between the protocols of two results, a few words each."""
        protocol_a, protocol_b = self._protocol.get(a), self._protocol.get(b)
        if not protocol_a or not protocol_b:
            return []
        return [words for words in differences(protocol_a, protocol_b) if words != "method"]

    def wider(self, weights: Mapping[ResultName, float]) -> float:
        """What a weighted sum's standard error is multiplied by; see training_variance.py."""
        results = [self._tested[name] for name in weights]
        return widening(results, list(weights.values()), self.subjects)

    def accuracy_of_choice(self, chosen: Mapping[int, ResultName]) -> Interval:
        """The accuracy of testing every fold by the result that was chosen for it."""
        tested = choice({fold: self._tested[name] for fold, name in chosen.items()})
        here = ~np.isnan(tested.right)
        subjects = self.subjects[here]
        wider = widening([tested], [1.0], self.subjects)
        return accuracy_interval(tested.right[here], subjects, wider)

    def measure(self, rows: Sequence[Row]) -> dict[str, Interval]:
        """Every metric of one result, from all its folds; without predictions there are no intervals."""
        pooled = self._measured.get(rows[0].result_name)
        return pooled if pooled is not None else _of_folds(rows, self.metrics)

    def _read(self, wanted: Mapping[ResultName, str]) -> None:
        file = self.study.folder / predictions.STORE
        names = list(wanted)
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            for name, prediction in _stored(file, self.task, some).items():
                if prediction.protocol and mark(prediction.protocol) != wanted[name]:
                    raise InputError(
                        f"{file}: the scores of {'/'.join(name)} and its rows in results.csv come from two "
                        "runs, the last of which was stopped; run `probe fit` again."
                    )
                self._take(name, prediction)
        self.missing = [n for n in names if not self.has(n) and n not in self.outdated]

    def _take(self, name: ResultName, prediction: predictions.Prediction) -> None:
        fold = prediction.fold.astype(np.int64)
        tested = fold >= 0
        changed = outdated(self.study, self.task, prediction.protocol, fold)
        if changed is not None:
            self.outdated[name] = changed
            return
        self._protocol[name] = prediction.protocol
        if self.fold is None:
            self.fold, self.backbone = fold, name[0]
        self._tested[name] = cross_validated(self.study, self.task, prediction, self._rows[name])
        scores = prediction.scores[tested]
        truth = (self.numbers if self.is_number else self.y)[tested]
        kind = kind_of(self._rows[name][0].method.partition("+")[0])
        images = images_of(self.study.tasks[self.task], scores, truth, fold[tested], kind)
        wider = self.wider({name: 1.0})
        self._measured[name] = measured(images, self.subjects[tested], self.metrics, wider)
        if isinstance(images, PredictedNumbers):
            self._off[name] = np.full(len(fold), np.nan)
            self._off[name][tested] = -np.abs(images.off)
        elif isinstance(images, LabelledImages):
            self._off[name] = self._tested[name].right
            self.left_out_labels = tuple(np.flatnonzero(np.isnan(scores).all(0)).tolist())
        else:
            self._predicted[name] = np.full(len(fold), -1, dtype=np.int32)
            self._predicted[name][tested] = images.predicted
            if kind != "margins" and not np.isnan(scores).any():
                # Of the fold of few images even true probabilities seem off; of all together less so.
                error = calibration_error(probabilities(scores, kind), self.y[tested])
                self._measured[name][CALIBRATION] = Interval(error, np.nan, np.nan, np.nan)


def _stored(
    file: Path, task: str, names: Iterable[ResultName]
) -> Mapping[ResultName, predictions.Prediction]:
    """The predictions of `names` that the file holds: read all at once, or singly if some are missing."""
    names = list(names)
    try:
        stored = predictions.read_all(file, [(task, *name) for name in names])
        return {key[1:]: prediction for key, prediction in stored.items()}
    except InputError:
        if len(names) == 1:
            return {}
        return {k: v for name in names for k, v in _stored(file, task, [name]).items()}


def _of_folds(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, Interval]:
    """The mean of each metric over the folds, weighted by their images where the metric is."""
    n = np.array([max(row.n_test, 1) for row in rows], dtype=np.float64)
    means = {}
    for name in metrics:
        metric = CURVES[name]
        values = [getattr(row, metric.column) for row in rows]
        if None not in values:
            weights = np.ones_like(n) if metric.folds_alike else n
            value = float(np.average(np.array(values, dtype=np.float64), weights=weights))
            means[name] = Interval(value, np.nan, np.nan, np.nan)
    return means

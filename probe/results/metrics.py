"""The metrics, a record each: every column, figure and table of a metric reads its record.

To add a metric, add a field to `MeasuredSince` here; it becomes the last column of results.csv. Protocols
name the metrics of `Measured`: with a new one there the next `probe fit` makes all results again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from features.arrays import Doubles, Ints
from features.data.tasks import Task
from probe.probes.methods import METHODS, ScoreKind
from probe.results import class_metrics, label_metrics, number_metrics
from probe.results.class_metrics import PredictedImages, ScoredImages
from probe.results.label_metrics import LabelledImages
from probe.results.number_metrics import PredictedNumbers


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric: how it is computed, and how people read it."""

    words: str
    """Its name in charts."""
    of: Callable[[ScoredImages], float | None]
    """Computes it of the images of one fold; None where it does not apply."""
    heading: str = ""
    """The heading of its column in tables; empty: it is in results.csv only."""
    per_fold: bool = False
    """Whether people see it in the table of folds only; the CSV of the table of layers has it too."""
    unit: Literal["%", "classes", "nats", ""] = "%"
    """In per cent it is a fraction, and lies between 0 and 1; otherwise it may be any number from 0 up,
    but without a unit it is 1 at most. In classes, it is in the column's unit for a number."""
    lower_is_better: bool = False
    ordered: bool = False
    """Whether it needs classes with an order."""
    rare: bool = False
    """Whether its column is shown only where a result has it."""
    many: bool = False
    """Whether it needs MANY classes or more."""
    folds_alike: bool = False
    """Whether its mean over folds counts every fold alike, and not every image."""
    per_image: Callable[[PredictedImages], Doubles] | None = None
    """A value for every image, `(n,)`, whose mean is the metric; it gives the metric its curves and
    intervals. None: it has none."""
    binary: bool = False
    """Whether these values are all 0 or 1."""
    of_number: Callable[[PredictedNumbers], float | None] | None = None
    """Computes it of the numbers of one fold; None: it is of classes only."""
    per_number: Callable[[PredictedNumbers], Doubles] | None = None
    """As `per_image`, of a number task."""
    number_words: str = ""
    """Its name in charts of a number task, where that is another."""
    of_labels: Callable[[LabelledImages], float | None] | None = None
    """Computes it of several labels an image in one fold; None: it is not of such tasks."""
    per_labels: Callable[[LabelledImages], Doubles] | None = None
    """As `per_image`, of several labels an image."""
    labels_words: str = ""
    """Its name in charts of several labels an image, where that is another."""
    option: str = ""
    """Its name in `--metric` and in the report's data, where that is not the column's."""
    column: str = ""
    """Its column in results.csv: the name of the field."""

    @property
    def only_numbers(self) -> bool:
        """Whether it is of numbers alone."""
        return self.of_number is not None and self.per_image is None

    @property
    def only_labels(self) -> bool:
        """Whether it is of several labels an image alone."""
        return self.of_labels is not None and self.of is class_metrics.no_classes

    @property
    def label(self) -> str:
        """Its name at the axis of a chart."""
        return f"{self.words} (lower is better)" if self.lower_is_better else self.words

    @property
    def factor(self) -> float:
        """What its numbers are multiplied by in charts."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def highest(self) -> float:
        """The highest value that it can have."""
        return 1.0 if self.unit in ("%", "") else np.inf

    @property
    def lowest(self) -> float:
        """The lowest value that it can have."""
        return -np.inf if self.unit == "" else 0.0

    def in_unit(self, unit: str) -> Metric:
        """The metric as people read it of a number in a unit."""
        words = self.number_words or self.words
        return replace(self, words=words if self.unit == "" else f"{words} in {unit}")


def _metric(*, optional: bool = False, **about: Any) -> Any:
    """A field of `Measured` with its record; a file may lack the column of an `optional` one."""
    metadata = {"metric": Metric(**about)}
    return field(default=None, metadata=metadata) if optional else field(metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All metrics, in the order of their columns; None where one does not apply."""

    accuracy: float | None = _metric(
        words="accuracy",
        of=class_metrics.accuracy,
        heading="accuracy",
        per_image=lambda images: images.correct,
        binary=True,
    )
    """None for a number, as are all metrics of classes."""
    balanced_accuracy: float | None = _metric(
        words="accuracy, mean per class",
        of=class_metrics.balanced_accuracy,
        heading="mean per class",
        folds_alike=True,
        per_image=class_metrics.balanced_per_image,
        option="balanced",
    )
    """The mean recall of the classes that occur."""
    macro_f1: float | None = _metric(
        words="macro F1",
        of=class_metrics.macro_f1,
        heading="macro F1",
        per_fold=True,
        folds_alike=True,
        of_labels=label_metrics.macro_f1,
        per_labels=label_metrics.macro_f1_by_image,
    )
    """The mean F1 of the classes that occur or are predicted."""
    log_loss: float | None = _metric(
        optional=True,
        words="log loss",
        of=class_metrics.log_loss,
        heading="log loss",
        rare=True,
        unit="nats",
        lower_is_better=True,
        of_labels=label_metrics.log_loss,
    )
    """In nats; of methods whose scores are probabilities."""
    calibration_error: float | None = _metric(
        optional=True,
        words="expected calibration error",
        of=class_metrics.calibration_error,
        lower_is_better=True,
    )
    """The expected calibration error of probabilities."""
    auc: float | None = _metric(
        optional=True,
        words="area under the ROC curve",
        of=class_metrics.auc,
        heading="AUC",
        rare=True,
        of_labels=label_metrics.macro_auc,
        per_labels=label_metrics.macro_auc_by_image,
        labels_words="area under the ROC curve, mean over labels",
    )
    """The area under the ROC curve, for two classes that both occur; of several labels its mean."""
    one_off: float | None = _metric(
        optional=True,
        words="one-off accuracy",
        of=class_metrics.one_off,
        heading="one-off",
        ordered=True,
        per_image=lambda images: (images.classes_off <= 1).astype(np.float64),
        binary=True,
    )
    """The share of images at most one class off, for ordered classes."""
    mae: float | None = _metric(
        optional=True,
        words="mean error in classes",
        of=class_metrics.mean_error,
        heading="MAE",
        unit="classes",
        lower_is_better=True,
        ordered=True,
        per_image=lambda images: images.classes_off.astype(np.float64),
        of_number=number_metrics.mean_absolute_error,
        per_number=number_metrics.absolute_errors,
        number_words="mean absolute error",
    )
    """The mean distance in classes, for ordered classes; that of a number in its unit."""


@dataclass(frozen=True, kw_only=True)
class MeasuredSince:
    """The metrics that came later, which are no part of a protocol; None where one does not apply."""

    top5_accuracy: float | None = _metric(
        optional=True,
        words="top-5 accuracy",
        of=class_metrics.top5,
        heading="top 5",
        many=True,
        per_image=class_metrics.top5_per_image,
        binary=True,
        option="top5",
    )
    """The share of images whose class is among the five of the largest scores, for MANY classes or more."""
    rmse: float | None = _metric(
        optional=True,
        words="root mean squared error",
        of=class_metrics.no_classes,
        heading="RMSE",
        unit="classes",
        lower_is_better=True,
        of_number=number_metrics.root_mean_square,
        per_number=number_metrics.root_mean_square_by_image,
    )
    """The root of the mean squared error of a number, in its unit."""
    r2: float | None = _metric(
        optional=True,
        words="R2",
        of=class_metrics.no_classes,
        heading="R2",
        unit="",
        of_number=number_metrics.r_squared,
        per_number=number_metrics.r_squared_by_image,
    )
    """The share of a number's variance that is explained; below 0 it is worse than the mean."""
    spearman: float | None = _metric(
        optional=True,
        words="Spearman correlation",
        of=class_metrics.no_classes,
        heading="Spearman",
        unit="",
        of_number=number_metrics.spearman,
        per_number=number_metrics.spearman_by_image,
    )
    """The correlation of the ranks of predicted and true numbers."""
    mean_ap: float | None = _metric(
        optional=True,
        words="mean average precision",
        of=class_metrics.no_classes,
        heading="mAP",
        of_labels=label_metrics.mean_average_precision,
        per_labels=label_metrics.mean_average_precision_by_image,
        option="map",
    )
    """The mean over labels of the average precision, of several labels an image."""


def _record(name: str, metric: Metric) -> Metric:
    return replace(metric, column=name, option=metric.option or name)


IN_PROTOCOL = tuple(f.name for f in fields(Measured))
"""The metrics that a protocol names."""

COLUMNS = {
    f.name: _record(f.name, f.metadata["metric"])
    for f in (*fields(Measured), *fields(MeasuredSince))
}
"""All metrics by their columns in results.csv."""

CURVES = {
    metric.option: metric
    for metric in COLUMNS.values()
    if metric.per_image or metric.per_number or metric.per_labels
}
"""The metrics that have curves and intervals, by their names in `--metric`."""

OF_NUMBERS = {name: metric for name, metric in CURVES.items() if metric.per_number is not None}
"""Those of numbers, the headline first."""

OF_LABELS = {name: CURVES[name] for name in ("map", "auc", "macro_f1")}
"""Those of several labels an image, the headline first."""


def kind_of(method: str) -> ScoreKind:
    """What the scores of a method are; those of a fine-tune are logits."""
    if method in ("majority", "prevalence"):
        return "margins" if method == "majority" else "shares"
    return METHODS[method].scores if method in METHODS else "logits"


def measure(
    scores: npt.NDArray[np.floating], y: Ints, ordered: bool, kind: ScoreKind = "margins"
) -> dict[str, Any]:
    """Every metric of the largest score against the truth, by its column.

    Args:
        scores: `(n, K)`.
        y: Class numbers, `(n,)`.
        ordered: Whether classes have an order.
        kind: What the scores are.
    """
    tested = ScoredImages(scores, y, ordered, kind)
    return {column: metric.of(tested) for column, metric in COLUMNS.items()}


def measure_task(
    task: Task, scores: npt.NDArray[np.floating], y: npt.NDArray[Any], kind: ScoreKind
) -> dict[str, Any]:
    """Every metric of the scores `(n, K)` of one fold against the truth, by the kind of the task.

    Args:
        task: The task.
        scores: Of a number `(n, 1)`, which are the predictions.
        y: As `Study.truth` has it.
        kind: What the scores are.
    """
    if task.is_number:
        return measure_numbers(scores[:, 0].astype(np.float64), y)
    if task.has_labels:
        one_fold = np.zeros(len(y), dtype=np.int64)
        return measure_labels(LabelledImages(scores, y, one_fold, kind))
    return measure(scores, y, task.ordered, kind)


def measure_numbers(predicted: Doubles, y: Doubles) -> dict[str, Any]:
    """Every metric of predicted and true numbers, `(n,)`, by its column; None for those of classes."""
    images = PredictedNumbers(predicted, y)
    return {
        column: None if metric.of_number is None else metric.of_number(images)
        for column, metric in COLUMNS.items()
    }


def measure_labels(images: LabelledImages) -> dict[str, Any]:
    """Every metric of several labels an image, by its column; None for the others."""
    return {
        column: None if metric.of_labels is None else metric.of_labels(images)
        for column, metric in COLUMNS.items()
    }

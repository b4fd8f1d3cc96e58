"""What a standard error between images misses: other training images would have made other probes.

The errors between images are those of the probes at hand. Of a cross-validation's accuracy A, the mean
of c_i over images i, each scored by a probe trained on the other folds, write c_i as what is the image's
own, h_i, plus what each training image k adds, g_ik (Hoeffding, Annals of Mathematical Statistics 1948).
The spread between images counts every g_ik once. But i and k are on opposite sides twice, i tested and k
trained on, then the other way round, and both have the same sign, since whether two images help each
other is mutual. So the part of the variance that is due to training counts twice in A:

    var A  =  (1 + s) x the variance between images,    s = E[variance of c_i over training sets] / var c_i

s is 0 where training is settled, and 1 where it decides everything, as at chance. It is estimated for
the very quantity whose error is asked, an accuracy, a difference or a slope, from the probes that the
inner cross-validation trains anyway, as nested cross-validation does (Bates, Hastie and Tibshirani, JASA
2024, arXiv 2104.00673; their estimator needs hundreds of splits, since it takes the extra variance from
the few folds, while disagreement is seen on every image). With J folds an image is predicted by J - 1
probes that leave out its fold and one other; two of them share J - 3 of J - 2 training folds. Whether a
guess is right changes with the spread of the margins, not with its square, so for probes that share nothing
and have J - 1 folds their disagreement is multiplied by (J - 2) / sqrt(J - 1). The layer of a `best` row is
chosen once per fold, and two choices share J - 2 of J - 1 folds: by sqrt(J - 1) there. With two folds the
image's own probe and one trained on two thirds of its own fold are compared, which share nothing: by
sqrt(0.8).

`python tests/bench/coverage.py` draws the studies that this was measured on; figures in
tests/bench/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from features.arrays import Bools, Doubles, Ints
from features.study.study import Study
from probe.analysis.statistics import LEVEL, mean_interval
from probe.folds.given import has_split
from probe.results.label_metrics import LabelledImages, mean_average_precision_by_image
from probe.results.predictions import Prediction
from probe.results.rows import BEST, Row

UNKNOWN = 0.7
"""The share s that is taken where nothing tells: for fine-tunes, and for probes fitted before inner
predictions were kept. Shares of .4 to 1 are then covered by 93 to 97 % of intervals."""

_SPLIT = 0.25
"""What a single split adds to the variance, per tested image over training images."""


@dataclass(frozen=True)
class CrossValidated:
    """One result as its folds tested it."""

    right: Doubles
    """1 where it is right, 0 where it is wrong, NaN where not tested, `(n,)`."""
    fold: npt.NDArray[np.integer]
    """The fold that tested each image, `(n,)`, -1 for none."""
    inner: Doubles | None
    """As `right` by the probes of the inner cross-validation, `(n, folds)`; None where not kept."""
    trained: float
    """How many images a fold trained on, the mean over folds."""
    split: bool = False
    """Whether the only fold is that of the data set's own split, and not the first of several."""
    best: bool = False
    """Whether the layer was chosen in every fold."""
    few: bool = False
    """Whether these were drawn anew for every fold, as few-shot probes have it."""


def cross_validated(
    study: Study, task: str, prediction: Prediction, rows: Sequence[Row]
) -> CrossValidated:
    """A stored result of a task, of which `rows` are the folds in results.csv.

    Of a number what counts is minus the error, of several labels an image its part in the mean average
    precision, and no inner predictions are kept.
    """
    if study.tasks[task].has_labels:
        right, inner = precision_of_images(study, task, prediction), None
    elif study.tasks[task].is_number:
        off = -np.abs(prediction.scores[:, 0] - study.numbers(task))
        right, inner = np.where(prediction.fold >= 0, off, np.nan), None
    else:
        y, inner = study.labels(task), None
        right = prediction.correct(y)
    if prediction.inner is not None and study.tasks[task].has_classes:
        inner = np.where(prediction.inner < 0, np.nan, prediction.inner == y[:, None])
    trained = float(np.mean([row.n_train for row in rows]))
    best, few = rows[0].layer == BEST, rows[0].is_drawn
    split = len(rows) == 1 and has_split(study)
    return CrossValidated(right, prediction.fold, inner, trained, split, best, few)


def precision_of_images(study: Study, task: str, prediction: Prediction) -> Doubles:
    """The values by image whose mean is the mean average precision, `(n,)`, NaN where not tested."""
    tested = prediction.fold >= 0
    y, fold = study.targets(task)[tested], prediction.fold[tested]
    values = np.full(len(tested), np.nan)
    images = LabelledImages(prediction.scores[tested], y, fold)
    values[tested] = mean_average_precision_by_image(images)
    return values


def choice(chosen: Mapping[int, CrossValidated]) -> CrossValidated:
    """The result that is made of one for each fold, as a `best` row is of layers."""
    first = next(iter(chosen.values()))
    right = np.full_like(first.right, np.nan)
    inner = None if first.inner is None else np.full_like(first.inner, np.nan)
    for fold, result in chosen.items():
        here = result.fold == fold
        right[here] = result.right[here]
        if inner is not None:
            inner = None if result.inner is None else _with(inner, result.inner, fold)
    return replace(first, right=right, inner=inner, best=True)


def _with(inner: Doubles, other: Doubles, fold: int) -> Doubles:
    inner[:, fold] = other[:, fold]
    return inner


def widening(results: Sequence[CrossValidated], weights: Sequence[float], subjects: Ints) -> float:
    """What the standard error between images of a weighted sum of results is multiplied by.

    It is sqrt(1 + s). Few-shot probes of different folds share hardly an image that they were trained
    on, so their accuracies are draws of their own, and the error is that between folds where that is
    larger, with as many degrees of freedom.

    Args:
        results: On the same images and folds.
        weights: One each: 1 for an accuracy, 1 and -1 for a difference.
        subjects: The subject of every image, `(n,)`.
    """
    values = combined([result.right for result in results], weights)
    tested = ~np.isnan(values)
    fold = results[0].fold[tested].astype(np.int64)
    if not tested.any():
        return 1.0
    if all(result.split for result in results):
        trained = min(result.trained for result in results)
        return float(np.sqrt(1 + of_split(int(tested.sum()), trained)))
    if any(result.few for result in results) and len(np.unique(fold)) > 1:
        return _between_folds(values[tested], fold, subjects[tested])
    inner = [result.inner for result in results]
    if any(of_result is None for of_result in inner):
        return float(np.sqrt(1 + UNKNOWN))
    together = combined([of_result for of_result in inner if of_result is not None], weights)
    best = any(result.best for result in results)
    return float(np.sqrt(1 + share_of_training(values[tested], together[tested], fold, best)))


def _between_folds(values: Doubles, fold: Ints, subjects: Ints) -> float:
    plain = mean_interval(values, subjects)
    margin = plain.high - plain.value
    means = [float(values[fold == number].mean()) for number in np.unique(fold)]
    reach = special.stdtrit(len(means) - 1, 0.5 + LEVEL / 2)
    between = float(reach * np.std(means, ddof=1) / np.sqrt(len(means)))
    return max(1.0, between / margin) if margin > 0 and np.isfinite(margin) else 1.0


def of_split(tested: int, trained: float) -> float:
    """The share of a single split, whose images are on one side alone: a quarter of `tested` / `trained`.

    Nadeau and Bengio (Machine Learning, 2003) add the whole ratio; a quarter is what was measured.
    """
    return _SPLIT * tested / trained


def share_of_training(values: Doubles, inner: Doubles, fold: Ints, best: bool = False) -> float:
    """The share s of the variance of `values` that is due to the images trained on, between 0 and 1.

    Args:
        values: A value per tested image, `(n,)`, such as 1 where a probe is right and 0 where it is wrong.
        inner: The same by the probes of the inner cross-validation, `(n, folds)`; NaN where there is none.
        fold: The fold that each image was tested in, `(n,)`.
        best: Whether a layer was chosen in every fold too.
    """
    spread = float(values.var())
    if not spread > 0:
        return 0.0
    folds = len(np.unique(fold))
    known = ~np.isnan(inner)
    count = known.sum(1)
    if folds > 2 and (count > 1).any():
        some = count > 1
        disagreement = _variances(inner[some], known[some])
        scale = (folds - 1 if best else folds - 2) / np.sqrt(folds - 1)
    elif (count == 1).any():
        some = count == 1
        other = np.where(known[some], inner[some], 0).sum(1)
        disagreement = (values[some] - other) ** 2 / 2
        scale = np.sqrt(0.8)
    else:
        return UNKNOWN
    return float(min(1.0, scale * disagreement.mean() / spread))


def combined(columns: Sequence[Doubles], weights: Sequence[float]) -> Doubles:
    """The sum of arrays of one shape, each times its weight."""
    return np.asarray(sum(w * column for w, column in zip(weights, columns, strict=True)))


def _variances(values: Doubles, known: Bools) -> Doubles:
    """The unbiased variance along each row over the values that are known."""
    count = known.sum(1)
    filled = np.where(known, values, 0)
    mean = filled.sum(1) / count
    return np.asarray((np.where(known, values - mean[:, None], 0) ** 2).sum(1) / (count - 1))

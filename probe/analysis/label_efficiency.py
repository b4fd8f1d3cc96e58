"""Accuracy over the number of training images, and how many images a backbone saves.

Images are drawn anew for every fold, several times (probe/fitting/few_shot.py). The mean over draws errs
for two reasons: other images might have been tested, and others drawn to train on. The first is the
spread of each image's mean over its draws, over subjects. The second is seen between the draws of a fold:
s2, the variance of the fold's accuracy over its draws. Of training images of which a share f is drawn,
draws of one fold share images, so s2 is (1 - f) of the variance v of an accuracy over training sets that
share none; and whatever the number of draws, all folds and draws share what images there are to draw
from, whose part is f v. So the variance of the mean over D draws of K folds of equal size is

    of the images  +  v ((1 - f) / (K D) + f),    v = mean s2 / (1 - f)

tests/analysis/test_label_efficiency.py draws studies in which such intervals are to hold the truth.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.arrays import Doubles
from features.errors import InputError
from features.store.featurefile import UNKNOWN
from features.study.study import Study
from probe.analysis.statistics import Beside, Interval, mean_interval, standard_error
from probe.analysis.training_variance import CrossValidated, cross_validated, widening
from probe.probes.methods import METHODS
from probe.results import predictions
from probe.results.protocol import outdated
from probe.results.rows import BEST, Row

_MOST_DRAWN = 0.9
"""The largest share of the images that counts as drawn: beyond it draws hardly differ."""


@dataclass(frozen=True)
class FewImages:
    """One result with so many training images, over its draws."""

    task: str
    method: str
    backbone: str
    domain: str
    layer: str
    pool: str
    asked: tuple[str, float]
    """`shots` and the images per class, `fraction` and the share of the training images, or `all`."""
    per_class: float
    """Training images of a class, the mean over classes, folds and draws."""
    accuracies: tuple[float, ...]
    """One for each draw."""
    interval: Interval
    """Of the mean over draws; its ends are NaN where no predictions are kept."""
    right: Doubles | None
    """The mean over draws of 1 where right and 0 where wrong, `(n,)`, NaN where not tested."""
    beside: Beside | None
    """The error of the mean that is due to the images drawn; None where the draws do not tell it."""
    tested: tuple[CrossValidated, ...]
    """One for each draw."""
    protocol: str
    """The hash of the protocol that it was made under."""


def few_images(study: Study, rows: Sequence[Row]) -> list[FewImages]:
    """Every result with few training images over its draws, and beside these the one with all.

    Outdated results are left out, as are results of which no draw is there.
    """
    groups: dict[tuple[str, ...], dict[tuple[str, float], dict[int, list[Row]]]] = {}
    for row in rows:
        other = row.repeat or row.views != "center" or row.project is not None
        if row.accuracy is None or other:
            continue
        asked = ("all", 1.0)
        if row.shots is not None:
            asked = ("shots", float(row.shots))
        elif row.fraction is not None:
            asked = ("fraction", row.fraction)
        key = (row.task, row.method, row.backbone, row.layer, row.pool)
        draws = groups.setdefault(key, {}).setdefault(asked, {})
        draws.setdefault(row.draw or 0, []).append(row)
    return [
        made
        for by_size in groups.values()
        if any(kind != "all" for kind, _ in by_size)
        for asked, draws in by_size.items()
        if (made := _over_draws(study, asked, draws, by_size.get(("all", 1.0)))) is not None
    ]


def _over_draws(
    study: Study,
    asked: tuple[str, float],
    draws: Mapping[int, list[Row]],
    whole: Mapping[int, list[Row]] | None,
) -> FewImages | None:
    """The results of some draws together; None where the study has changed since."""
    every = list(draws.values())
    first = every[0][0]
    each = [
        float(np.average([r.accuracy for r in f], weights=[r.n_test for r in f])) for f in every
    ]
    classes = len(study.tasks[first.task].classes) if first.task in study.tasks else 1
    trained = float(np.mean([row.n_train for folds in every for row in folds]))
    interval = Interval(float(np.mean(each)), np.nan, np.nan, np.nan)
    right, beside = None, None
    tested: tuple[CrossValidated, ...] = ()
    stored = _stored(study, first.task, every)
    if stored:
        if any(outdated(study, first.task, p.protocol, p.fold) for p in stored):
            return None
        tested = tuple(
            cross_validated(study, first.task, p, folds)
            for p, folds in zip(stored, every, strict=True)
        )
        all_trained = [row.n_train for folds in (whole or {}).values() for row in folds]
        share = trained / float(np.mean(all_trained)) if all_trained else 0.0
        right = np.mean([one.right for one in tested], axis=0)
        few = asked[0] != "all"
        beside = (
            of_draws(np.stack([one.right for one in tested]), tested[0].fold, share)
            if few
            else None
        )
        interval = _interval(study, right, beside, tested)
    return FewImages(
        first.task,
        first.method,
        first.backbone,
        first.domain,
        first.layer,
        first.pool,
        asked,
        trained / classes,
        tuple(each),
        interval,
        right,
        beside,
        tested,
        first.protocol,
    )


def of_draws(right: Doubles, fold: npt.NDArray[np.integer], share: float) -> Beside | None:
    """The error of the mean over draws that is due to the images drawn; None of one draw.

    Args:
        right: 1 where a draw's probe is right, 0 where it is wrong, NaN where not tested, `(draws, n)`;
            or any other number whose mean is asked, such as a difference.
        fold: The fold that tested each image, `(n,)`.
        share: How much of the training images is drawn, 0 to 1.
    """
    draws = len(right)
    tested = ~np.isnan(right).any(0)
    if draws < 2 or not tested.any():
        return None
    drawn, variance, folds = min(share, _MOST_DRAWN), 0.0, np.unique(fold[tested])
    for number in folds:
        here = tested & (fold == number)
        variance += here.sum() / tested.sum() * float(right[:, here].mean(1).var(ddof=1))
    apart = variance / (1 - drawn)
    error = apart * ((1 - drawn) / (len(folds) * draws) + drawn)
    return Beside(float(np.sqrt(error)), len(folds) * (draws - 1))


def _interval(
    study: Study, right: Doubles, beside: Beside | None, tested: Sequence[CrossValidated]
) -> Interval:
    here = ~np.isnan(right)
    subjects = study.subjects[here]
    # Of all images, or of one draw of few, the mean is that of one cross-validation.
    wider = 1.0 if beside is not None else widening(tested[:1], [1.0], study.subjects)
    made = mean_interval(right[here], subjects, wider, beside)
    return Interval(made.value, max(0.0, made.low), min(1.0, made.high), made.effective)


def _stored(
    study: Study, task: str, draws: Sequence[Sequence[Row]]
) -> list[predictions.Prediction]:
    keys = [folds[0].stored for folds in draws]
    if task not in study.tasks:
        return []
    try:
        made = predictions.read_all(study.folder / predictions.STORE, keys)
    except InputError:
        return []  # without predictions there is nothing per image
    return [made[key] for key in keys]


@dataclass(frozen=True)
class Saved:
    """How many images per class a backbone needs to be as good as another one is with all of its own."""

    task: str
    method: str
    near: str
    far: str
    far_accuracy: float
    """With all images."""
    most: float
    """Images per class that the other has there."""
    needs: float
    """Images per class at which `near` is as good; NaN where it never is, `fewest` where it always is."""
    low: float
    high: float
    """Between these the two are not shown to differ; NaN where that is beyond what was tried."""
    fewest: float
    """The fewest images per class that were tried."""

    def __str__(self) -> str:
        """The saving in a sentence or two."""
        reach = (
            f"{self.far} has {100 * self.far_accuracy:.1f} % with {self.most:.0f} images per class"
        )
        if np.isnan(self.needs):
            return f"{self.task}, {self.method}: {reach}; {self.near} is not as good with as many."
        if self.needs <= self.fewest:
            return (
                f"{self.task}, {self.method}: {reach}; {self.near} is as good with {self.fewest:.0f} or "
                "fewer."
            )
        low = f"{self.low:.0f}" if np.isfinite(self.low) else f"under {self.fewest:.0f}"
        high = f"{self.high:.0f}" if np.isfinite(self.high) else f"over {self.most:.0f}"
        saves = f"saves {100 * (1 - self.needs / self.most):.0f} % of the labels"
        found = f"which {saves}" if np.isfinite(self.high) else f"but that it {saves} is not shown"
        return (
            f"{self.task}, {self.method}: {reach}; {self.near} is as good with about {self.needs:.0f} "
            f"(95 % interval: {low} to {high}), {found}."
        )


def saved(near: Sequence[FewImages], far: FewImages, study: Study) -> Saved | None:
    """What `near`, one backbone with more and more images, saves against `far` with all; None if unknown.

    The interval holds those numbers of images at which the two are not shown to differ, straight lines
    being drawn between the numbers tried, over the logarithm.
    """
    points = []
    for one in sorted(near, key=lambda one: one.per_class):
        apart = _apart(one, far, study)
        if apart is not None:
            points.append((one.per_class, apart))
    if len(points) < 2:
        return None
    sizes = np.log([size for size, _ in points])
    low = _reached(sizes, [apart.high for _, apart in points])
    needs = _reached(sizes, [apart.value for _, apart in points])
    high = _reached(sizes, [apart.low for _, apart in points])
    fewest = points[0][0]
    return Saved(
        far.task,
        far.method,
        near[0].backbone,
        far.backbone,
        far.interval.value,
        far.per_class,
        needs,
        np.nan if low <= fewest else low,
        high,
        fewest,
    )


def _reached(sizes: Doubles, values: Sequence[float]) -> float:
    """The size at which values first reach zero; the first size where they begin there, NaN where never."""
    for i, value in enumerate(values):
        if value >= 0:
            if i == 0:
                return float(np.exp(sizes[0]))
            before = values[i - 1]
            part = -before / (value - before)
            return float(np.exp(sizes[i - 1] + part * (sizes[i] - sizes[i - 1])))
    return np.nan


def _apart(one: FewImages, far: FewImages, study: Study) -> Interval | None:
    """The accuracy of `one` minus that of `far`, which trained on all images, on the same images."""
    if one.right is None or far.right is None or not one.tested or not far.tested:
        return None
    here = ~np.isnan(one.right) & ~np.isnan(far.right)
    if not here.any() or not np.array_equal(one.tested[0].fold[here], far.tested[0].fold[here]):
        return None
    values, subjects = (one.right - far.right)[here], study.subjects[here]
    if one.beside is None:
        wider = widening([one.tested[0], far.tested[0]], [1.0, -1.0], study.subjects)
        return mean_interval(values, subjects, wider)
    whole = widening(far.tested[:1], [1.0], study.subjects)
    of_far = standard_error(far.right[here], subjects) * np.sqrt(max(whole**2 - 1, 0.0))
    error = float(np.hypot(one.beside.error, of_far))
    return mean_interval(values, subjects, 1.0, Beside(error, one.beside.freedom))


def labels_saved(made: Sequence[FewImages], study: Study, seen: Collection[str]) -> list[Saved]:
    """What the best backbone of the closest domain saves against the best of the others, by task.

    At `best` rows, of the first probe that both were fitted with on few images.

    Args:
        made: The results with few images, and with all.
        study: The study, which names its closest domain; without one there is nothing.
        seen: Backbones that have seen the test images, which take no part.
    """
    if not study.closest:
        return []
    best = [
        one
        for one in made
        if one.layer == BEST
        and one.backbone not in seen
        and one.domain not in ("none", "control", "task", UNKNOWN)
    ]
    all_saved = []
    for task in dict.fromkeys(one.task for one in best):
        for method in METHODS:
            whole = [
                one for one in best if (one.task, one.method, one.asked[0]) == (task, method, "all")
            ]
            near = _highest([one for one in whole if one.domain == study.closest])
            far = _highest([one for one in whole if one.domain != study.closest])
            if near is None or far is None or near.protocol != far.protocol:
                continue
            line = [
                one
                for one in best
                if (one.task, one.method, one.backbone) == (task, method, near.backbone)
            ]
            found = saved(line, far, study)
            if found is not None:
                all_saved.append(found)
                break
    return all_saved


def _highest(results: Sequence[FewImages]) -> FewImages | None:
    return max(results, key=lambda one: one.interval.value, default=None)

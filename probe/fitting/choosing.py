"""The choice of C, alpha or k for every fold, by what training sets inside it say of the rest."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from features.arrays import Doubles, Floats, Ints
from probe.folds.splits import Splits
from probe.probes.grid_fit import Scored
from probe.probes.layer import Source
from probe.probes.methods import METHODS
from probe.probes.scorer import Asked, Left, Request, Scorer
from probe.probes.settings import ProbeSettings
from probe.results import label_metrics
from probe.results.label_metrics import LabelledImages
from probe.results.scores import NEVER_SEEN, log_losses, probabilities

_STAGE = 3
"""Points of the grid that are tried together once the path of narrow features goes on beyond its
middle."""
_NARROW = 100
"""Features up to which a point more costs less than beginning anew."""
_LARGE = 1 << 24
"""Numbers in the features from which a pass over them waits for memory: two points cost little more
than one."""
_WORSE = 2
"""Points in a row that must be worse than the best one for a path to end."""
_FAR = 3.0
"""A margin that counts no worse than this: one image far on the wrong side would outvote all others."""
_SURE = 3.0
"""Standard errors by which they must be worse."""


@dataclass(frozen=True)
class Choice:
    """The best point of one fold's path."""

    worth: float
    point: int
    at_edge: bool
    scale: str
    rows: Ints
    """The rows that validated, `(m,)`."""
    told: Ints
    """The class that the chosen point predicted for each of them, `(m,)`."""


@dataclass(frozen=True)
class _Judged:
    """What the choice needs of one point's scores of the rows that one part validates with, `(m,)`."""

    worth: Doubles
    smooth: Doubles | None
    """What the path ends by, where that is another measure."""
    guess: npt.NDArray[np.integer]


@dataclass
class _Judges:
    """Makes of the scores of a training set what the choice needs, so that they need not be kept."""

    y: Ints
    splits: Splits
    settings: ProbeSettings
    pairs: set[tuple[int, Left]]
    """The parts that validate, each with a training set."""
    made: dict[tuple[int, Left], list[_Judged]] = field(default_factory=dict)
    """The points of every pair."""

    def rows(self, part: int, left: Left) -> Ints:
        """The rows that `part` validates with where the parts `left` are left out."""
        rows = self.splits.held_out_rows(left)
        of_part: Ints = rows[self.splits.validating[rows] == part]
        return of_part

    def keep(self, left: Left, made: list[Scored]) -> list[Scored]:
        """The points without their scores."""
        rows = self.splits.held_out_rows(left)
        for part in [part for part, of_left in self.pairs if of_left == left]:
            here = self.splits.validating[rows] == part
            truth = self.y[rows][here]
            self.made[part, left] = [self._judged(point.scores[here], truth) for point in made]
        return [replace(point, scores=point.scores[:0].copy()) for point in made]

    def _judged(self, scores: Floats, truth: Ints) -> _Judged:
        has_hinge = METHODS[self.settings.method].has_hinge
        smooth = _smooth(scores, truth) if has_hinge else None
        return _Judged(_worth(scores, truth, self.settings), smooth, _guess(scores))


def choosing(
    scorer: Scorer, y: Ints, splits: Splits, settings: ProbeSettings, staged: bool, stage: int
) -> Generator[Asked, list[list[Scored]], dict[int, Choice]]:
    """The best point for every fold, from strong penalties to weak ones.

    The path of a fold ends before its last point where two points in a row are worse than the best
    one by three standard errors of the differences: from there on it only overfits. What is compared
    there is smooth: the svm's points are chosen by accuracy, and its path ends by its held-out loss.
    Where training sets are kept (`staged`), the first half of a grid is tried together, then `stage`
    points at a time, begun where the last ones ended.
    """
    points, is_path = len(settings.grid), METHODS[settings.method].is_path
    first = points // 2 + 1 if staged else points
    starts = [0, *range(first, points, stage)]
    inner = {fold: list(splits.inner(fold)) for fold in splits.folds}
    if not any(inner.values()):  # the middle of the grid, or the nearest neighbour alone
        point = points // 2 if is_path else 0
        none = np.empty(0, dtype=np.int64)
        nothing = Choice(np.nan, point, False, settings.scale, none, none)
        return dict.fromkeys(splits.folds, nothing)
    worth: dict[int, list[Doubles]] = {fold: [] for fold in splits.folds}
    has_hinge = METHODS[settings.method].has_hinge
    smooth = {fold: [] for fold in splits.folds} if has_hinge else worth
    told: dict[int, list[npt.NDArray[np.integer]]] = {fold: [] for fold in splits.folds}
    validated: dict[int, Ints] = {}
    going = set(splits.folds)
    last: dict[Left, Scored] = {}
    for start, stop in pairwise([*starts, points]):
        pairs = {pair for fold in going for pair in inner[fold]}
        judges = _Judges(y, splits, settings, pairs)
        sets = sorted({left for _, left in pairs}, key=sorted)
        requests = [
            Request(left, range(start, stop), last.get(left), True, judges.keep) for left in sets
        ]
        scored = yield Asked(scorer, requests)
        last = {left: made[-1] for left, made in zip(sets, scored, strict=True)}
        for fold in sorted(going):
            of_parts = [judges.made[pair] for pair in inner[fold]]
            # As many as all have: a k larger than a training set has no score there.
            for of_all in zip(*of_parts, strict=False):
                worth[fold].append(np.concatenate([of_part.worth for of_part in of_all]))
                if has_hinge:
                    smooth[fold].append(
                        np.concatenate([p.smooth for p in of_all if p.smooth is not None])
                    )
                told[fold].append(np.concatenate([of_part.guess for of_part in of_all]))
            validated[fold] = np.concatenate([judges.rows(*pair) for pair in inner[fold]])
            if _overfits(smooth[fold]):
                going.discard(fold)
        if not going:
            break
    chosen = {}
    for fold, tried in worth.items():
        mean = [float(values.mean()) for values in tried]
        best = int(np.argmax(mean))  # the first of equals: the strongest penalty, the smallest k
        end = points - 1 if is_path else len(tried) - 1
        at_edge = end > 0 and best in (0, end)
        rows, guessed = validated[fold], told[fold][best].astype(np.int64)
        chosen[fold] = Choice(mean[best], best, at_edge, settings.scale, rows, guessed)
    return chosen


def points_at_once(dim: int, n: int) -> int:
    """How many points are tried together once a path goes on beyond its middle."""
    if min(dim, n) <= _NARROW:
        return _STAGE
    return 2 if n > dim and n * dim >= _LARGE else 1


def inner_bytes(source: Source, splits: Splits) -> int:
    """What all inner training sets together hold in memory."""
    sets = {left for fold in splits.folds for _, left in splits.inner(fold)}
    rows = [(splits.training_rows(left), splits.held_out_rows(left)) for left in sets]
    return sum(source.turned(len(train), len(other)) for train, other in rows)


def _overfits(worth: list[Doubles]) -> bool:
    best = max(worth, key=lambda values: float(values.mean()))
    for values in worth[-_WORSE:]:
        lost = best - values
        if not lost.mean() > _SURE * lost.std() / len(lost) ** 0.5:
            return False
    return len(worth) > _WORSE


def _worth(scores: Floats, truth: Ints, settings: ProbeSettings) -> Doubles:
    """The inner score of every row, `(n,)`: minus its log loss, or 1 where it is right, else 0.

    Of several labels an image what logistic does not choose by its loss is chosen by the mean average
    precision, of which these are the values by image.
    """
    method = METHODS[settings.method]
    if truth.ndim == 2 and method.selection == "log_loss":
        return -_over_known(label_metrics.losses(scores, truth, method.scores, NEVER_SEEN), truth)
    if truth.ndim == 2:
        images = LabelledImages(scores, truth, np.zeros(len(truth), dtype=np.int64), method.scores)
        return np.nan_to_num(label_metrics.mean_average_precision_by_image(images))
    if method.selection == "log_loss":
        return -log_losses(probabilities(scores, method.scores), truth, NEVER_SEEN)
    return np.asarray(scores.argmax(1) == truth, dtype=np.float64)


def _guess(scores: Floats) -> npt.NDArray[np.integer]:
    """The number of the largest score of every row, `(n,)`, in few bytes."""
    guessed: npt.NDArray[np.integer] = scores.argmax(1).astype(np.min_scalar_type(scores.shape[1]))
    return guessed


def _smooth(scores: Floats, truth: Ints) -> Doubles:
    """What a path ends by where the loss is the squared hinge, of every row, `(n,)`: larger is better."""
    has = truth == 1 if truth.ndim == 2 else np.arange(scores.shape[1]) == truth[:, None]
    # A class that no training row has scores minus infinity, whatever C.
    short = np.maximum(0, 1 - (2.0 * has - 1) * np.clip(scores, -_FAR, _FAR))
    if truth.ndim == 2:
        return -_over_known(short**2, truth)
    return -np.asarray((short**2).sum(1), dtype=np.float64)


def _over_known(lost: Doubles, truth: Ints) -> Doubles:
    """What the known labels of every image lose, over how many are known in the mean, `(n,)`."""
    known = truth >= 0
    return np.asarray(np.where(known, lost, 0).sum(1) / max(known.sum() / len(known), 1e-9))

"""The answer to the question of a study, as numbers: what leads, by how much, and what is noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from features.store.featurefile import UNKNOWN
from probe.analysis.curves import TaskCurves, difference
from probe.analysis.points import Best, Curve, Point
from probe.analysis.statistics import Interval, band, difference_interval


@dataclass(frozen=True)
class Contrast:
    """The accuracy of one result minus that of another, on the same images.

    Of a number it is the other's mean absolute error minus that of the first, so that more is better.
    """

    a: str
    b: str
    """What each result is of: a backbone, or a method and a backbone."""
    difference: Interval


@dataclass(frozen=True)
class Tuning(Contrast):
    """A fine-tune minus a probe."""

    rate_searched: bool
    """Whether the fine-tune's learning rate was chosen among several."""


FLOOR = ("none", "control")
"""The domains of random weights and controls."""


@dataclass(frozen=True)
class Nested:
    """The choice among backbones, made in every fold on its training images.

    The highest of several accuracies is too high by the luck of the highest; this one is not, since a
    test fold takes no part in the choice (Varma and Simon, BMC Bioinformatics 2006).
    """

    accuracy: Interval
    backbones: int
    """How many there were to choose from."""
    chosen: tuple[str, ...]
    """The backbone chosen in each fold."""


@dataclass(frozen=True)
class Answer:
    """The answer to a study's question for one task; a part is None where the study lacks what it needs."""

    leader: Best
    """The backbone and probe with the highest accuracy at the layer chosen inside the folds, of those that
    have not seen the test images."""
    nested: Nested | None
    """What comes of choosing the backbone inside the training folds too, by the leader's probe."""
    guess: float | None
    """What guessing reaches: chance or the most frequent class; of a number, the error of the median."""
    is_number: bool
    """Whether the task is a number, of which less error is better."""
    behind: tuple[Contrast, ...]
    """The leader minus every other backbone, each at its own best method and layer. The intervals hold
    for all pairs at once and for training on other images too: where all backbones are equally good, a
    winner is named in at most 5 studies of 100, however many backbones are compared."""
    closest: Contrast | None
    """The best backbone of the closest domain minus the best backbone of any other pretraining."""
    gap: tuple[str, Interval | None] | None
    """Where those two are a pair: the layer that the one of the closest domain chose most often, and
    the gap there, which is None unless both have results at that layer."""
    scratch: Contrast | None
    """The best backbone of the closest domain (or the leader) minus training from scratch."""
    random: Contrast | None
    """The same backbone minus the best of random weights and controls."""
    pretraining: Contrast | None
    """The best trained backbone, whatever its domain, minus the best of random weights and controls."""
    tuning: Tuning | None
    """The best fine-tune minus the best probe."""

    @property
    def noise(self) -> tuple[Contrast, ...]:
        """Backbones whose difference from the leader is within noise."""
        return tuple(c for c in self.behind if not c.difference.low > 0)

    @property
    def beats_guessing(self) -> bool:
        """Whether the leader is shown to, by its own interval and by that of the nested choice."""
        shown = [self.leader.headline, *([self.nested.accuracy] if self.nested else [])]
        if self.guess is None:
            return True
        if self.is_number:
            return not any(error.high >= self.guess for error in shown)
        return not any(accuracy.low <= self.guess for accuracy in shown)

    @property
    def helps(self) -> bool:
        """Whether pretraining is shown to be worth more than random weights and controls, or not known."""
        floor = self.pretraining
        return floor is None or np.isnan(floor.difference.low) or floor.difference.low > 0

    @property
    def floor_leads(self) -> bool:
        """Whether the leader is a floor that is ahead of the best trained backbone beyond noise."""
        trained = self.pretraining.a if self.pretraining is not None else None
        return self.leader.domain in FLOOR and any(
            c.b == trained and c.difference.low > 0 for c in self.behind
        )

    @property
    def wins(self) -> bool:
        """Whether the leader is ahead of every other backbone beyond noise."""
        return bool(self.behind) and not self.noise


def answer(task: TaskCurves, closest: str | None) -> Answer | None:
    """The answer for one task; None where no probe has been fitted on a backbone new to its images.

    Args:
        task: The curves of the task.
        closest: The domain nearest to the images, as the user or the data reader named it.
    """
    unseen = [b for b in task.best if b.backbone not in task.have_seen]
    if not unseen:
        return None
    best = sorted(unseen, key=lambda b: -b.worth)
    leader = best[0]
    near = next((b for b in best if b.domain == closest), None)
    trained = [b for b in best if b.domain not in ("none", "control", "task", UNKNOWN, closest)]
    floor = next((b for b in best if b.domain in FLOOR), None)
    top = next((b for b in best if b.domain not in FLOOR), None)
    ours = near or leader
    domain = _contrast(task, ours, trained[0]) if near and trained else None
    return Answer(
        leader=leader,
        nested=_nested(task, best),
        guess=max(task.chance, task.majority or 0.0) if task.chance is not None else task.majority,
        is_number=task.is_number,
        behind=_behind(task, best),
        closest=domain,
        gap=_pair_gap(task, near, trained[0]) if near and trained else None,
        scratch=_against_scratch(task, ours),
        random=_contrast(task, ours, floor) if floor and floor is not ours else None,
        pretraining=_contrast(task, top, floor) if floor and top else None,
        tuning=_tuning(task, best),
    )


def _behind(task: TaskCurves, best: Sequence[Best]) -> tuple[Contrast, ...]:
    """The leader minus the best row of every other backbone, with intervals that hold for all at once.

    `best` is in order of accuracy, the leader first.
    """
    outcomes = task.outcomes
    best = [b for b in best if outcomes.alike(best[0].rows[0].result_name, b.rows[0].result_name)]
    top_of: dict[str, Best] = {}
    for row in best:
        top_of.setdefault(row.backbone, row)
    tops = list(top_of.values())
    if len(tops) < 2:
        return ()
    if not outcomes.has(*(b.rows[0].result_name for b in best)):
        pairs = [(tops[0], other) for other in tops[1:]]
        return tuple(c for c in (_contrast(task, a, b) for a, b in pairs) if c is not None)
    # Every row of one backbone against every row of another, so that the intervals allow for the choice
    # of the method too.
    pairs = [(a, b) for a, b in combinations(best, 2) if a.backbone != b.backbone]
    worth = {id(b): outcomes.worth(b.rows[0].result_name) for b in best}
    values = np.stack([worth[id(a)] - worth[id(b)] for a, b in pairs], axis=1)
    tested = ~np.isnan(values).any(1)
    if not tested.any():
        return ()
    names = [(a.rows[0].result_name, b.rows[0].result_name) for a, b in pairs]
    wider = np.array([outcomes.wider({a: 1.0, b: -1.0}) for a, b in names])
    means = band(values[tested], outcomes.subjects[tested], wider)
    place = {(id(a), id(b)): i for i, (a, b) in enumerate(pairs)}
    contrasts = []
    for other in tops[1:]:
        i = place[id(tops[0]), id(other)]
        ends = (float(means.value[i]), float(means.low[i]), float(means.high[i]))
        apart = Interval(*ends, task.effective_subjects)
        if not task.is_number and not values[tested, i].any():  # no spread to measure
            apart = difference_interval(values[tested, i], outcomes.subjects[tested])
        contrasts.append(Contrast(tops[0].backbone, other.backbone, apart))
    return tuple(contrasts)


def _nested(task: TaskCurves, best: Sequence[Best]) -> Nested | None:
    """The choice among the backbones of the leader's probe and protocol; None where there is none.

    `best` is in order of accuracy, the leader first.
    """
    outcomes, leader = task.outcomes, best[0]
    first = leader.rows[0].result_name
    rivals = [
        b
        for b in best
        if b.method == leader.method and outcomes.alike(first, b.rows[0].result_name)
    ]
    names = [b.rows[0].result_name for b in rivals]
    if len(rivals) < 2 or not task.has_classes or not outcomes.has(*names):
        return None
    inner = [{row.fold: row.selection for row in b.rows} for b in rivals]
    folds = sorted(inner[0])
    if any(of.get(fold) is None for of in inner for fold in folds):
        return None
    chosen = {
        fold: max(range(len(rivals)), key=lambda i: (inner[i][fold] or 0.0, -i)) for fold in folds
    }
    accuracy = outcomes.accuracy_of_choice({fold: names[i] for fold, i in chosen.items()})
    return Nested(accuracy, len(rivals), tuple(rivals[i].backbone for i in chosen.values()))


def _contrast(task: TaskCurves, a: Best, b: Best) -> Contrast | None:
    apart = difference(task.outcomes, a.rows, b.rows)
    return None if apart is None else Contrast(a.backbone, b.backbone, apart)


def _pair_gap(task: TaskCurves, near: Best, far: Best) -> tuple[str, Interval | None] | None:
    """The gap of a pair at the layer (and pooling) that the near one chose most often."""
    if frozenset((near.backbone, far.backbone)) not in task.pairs:
        return None
    choice = max(dict.fromkeys(near.chosen), key=near.chosen.count)
    layer, _, pool = choice.partition(":")
    for panel in task.panels:
        if panel.method == near.method and panel.pool in (pool or "auto", "none"):
            for gap in panel.gaps:
                if (gap.near, gap.far) == (near.backbone, far.backbone):
                    for p in gap.points:
                        if p.layer == layer:
                            return choice, Interval(p.gap, p.low, p.high, task.effective_subjects)
    return choice, None


def whole(curve: Curve) -> Point | None:
    """The point of a fine-tune in which no layer is frozen or copied."""
    return next((p for p in curve.points if not p.layer), None)


def _against_scratch(task: TaskCurves, ours: Best) -> Contrast | None:
    """A `best` row minus the network that reaches most when it is trained from scratch."""
    trained = [
        (curve, point) for curve in task.tuned if curve.kind == "scratch" for point in curve.points
    ]
    if not trained:
        return None
    curve, top = max(trained, key=lambda pair: pair[1].worth)
    name = f"{curve.method} of {curve.backbone}" + (f" at {top.layer}" if top.layer else "")
    apart = difference(task.outcomes, ours.rows, top.rows)
    return None if apart is None else Contrast(ours.backbone, name, apart)


def _tuning(task: TaskCurves, best: Sequence[Best]) -> Tuning | None:
    """The best fine-tune of a whole network minus the best probe on any backbone."""
    whole_network = [
        (curve, point)
        for curve in task.tuned
        if curve.kind not in ("scratch", "frozen", "copied") and (point := whole(curve)) is not None
    ]
    if not whole_network:
        return None
    curve, point = max(whole_network, key=lambda pair: pair[1].worth)
    apart = difference(task.outcomes, point.rows, best[0].rows)
    if apart is None:
        return None
    probe = f"{best[0].method} on {best[0].backbone}"
    searched = all("chosen" in row.recipe for row in point.rows)
    return Tuning(f"{curve.method} of {curve.backbone}", probe, apart, searched)

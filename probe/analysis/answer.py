"""The answer to the question of a study, as numbers: what leads, by how much, and what is noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from features.store.featurefile import UNKNOWN
from probe.analysis.curves import TaskCurves, difference
from probe.analysis.points import Best, Curve, Point
from probe.analysis.statistics import Interval, band


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
class Answer:
    """The answer to a study's question for one task; a part is None where the study lacks what it needs."""

    leader: Best
    """The backbone and probe with the highest accuracy at the layer chosen inside the folds."""
    behind: tuple[Contrast, ...]
    """The leader minus every other backbone, each at its own best layer. The intervals hold for all
    pairs at once and for training on other images too: where all backbones are equally good, a winner
    is named in at most 5 studies of 100, however many backbones are compared."""
    closest: Contrast | None
    """The best backbone of the closest domain minus the best backbone of any other pretraining."""
    gap: tuple[str, Interval | None] | None
    """Where those two are a pair: the layer that the one of the closest domain chose most often, and
    the gap there, which is None unless both have results at that layer."""
    scratch: Contrast | None
    """The best backbone of the closest domain (or the leader) minus training from scratch."""
    random: Contrast | None
    """The same backbone minus the best of random weights and controls."""
    tuning: Contrast | None
    """The best fine-tune minus the best probe."""

    @property
    def noise(self) -> tuple[Contrast, ...]:
        """Backbones whose difference from the leader is within noise."""
        return tuple(c for c in self.behind if not c.difference.low > 0)

    @property
    def wins(self) -> bool:
        """Whether the leader is ahead of every other backbone beyond noise."""
        return bool(self.behind) and not self.noise


def answer(task: TaskCurves, closest: str | None) -> Answer | None:
    """The answer for one task; None where no probe has been fitted.

    Args:
        task: The curves of the task.
        closest: The domain nearest to the images, as the user or the data reader named it.
    """
    if not task.best:
        return None
    best = sorted(task.best, key=lambda b: -b.worth)
    leader = best[0]
    near = next((b for b in best if b.domain == closest), None)
    trained = [b for b in best if b.domain not in ("none", "control", "task", UNKNOWN, closest)]
    floor = next((b for b in best if b.domain in ("none", "control")), None)
    ours = near or leader
    domain = _contrast(task, ours, trained[0]) if near and trained else None
    return Answer(
        leader=leader,
        behind=_behind(task, best),
        closest=domain,
        gap=_pair_gap(task, near, trained[0]) if near and trained else None,
        scratch=_against_scratch(task, ours),
        random=_contrast(task, ours, floor) if floor and floor is not ours else None,
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
        contrasts.append(Contrast(tops[0].backbone, other.backbone, apart))
    return tuple(contrasts)


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


def _tuning(task: TaskCurves, best: Sequence[Best]) -> Contrast | None:
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
    return Contrast(f"{curve.method} of {curve.backbone}", probe, apart)

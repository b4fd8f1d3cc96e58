"""The answer to the question of a study, as numbers: what leads, by how much, and what is noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from features.store.featurefile import UNKNOWN
from probe.analysis.curves import TaskCurves, difference
from probe.analysis.outcomes import name_of
from probe.analysis.points import Best, Curve, Point
from probe.analysis.statistics import Interval, band
from probe.results.rows import Row


@dataclass(frozen=True)
class Contrast:
    """The accuracy of one thing minus that of another, on the same images."""

    a: str
    b: str
    difference: Interval


@dataclass(frozen=True)
class Answer:
    """What a task's numbers say; each part is None where the study does not hold what it needs."""

    leader: Best
    """The backbone and probe with the highest accuracy at the layer chosen inside the folds."""
    behind: tuple[Contrast, ...]
    """The leader minus every other backbone at its own best, with intervals that hold for all pairs
    at once and for training on other images too: among equals a winner is named in at most 5 studies
    of 100, however many are compared."""
    closest: Contrast | None
    """The best backbone of the closest domain minus the best of any other pretraining."""
    gap: tuple[str, Interval | None] | None
    """Where those two are a pair: the layer that the closest chose most often, and the gap there,
    which is None unless both have results at that layer."""
    scratch: Contrast | None
    """The best backbone of the closest domain (or the leader) minus training from scratch."""
    random: Contrast | None
    """The same minus the best of random weights and controls."""
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


def answer(found: TaskCurves, closest: str | None) -> Answer | None:
    """The answer of one task; None where no probe has been fitted.

    Args:
        found: The curves of the task.
        closest: The domain nearest to the images, as the user or the data reader named it.
    """
    if not found.best:
        return None
    best = sorted(found.best, key=lambda b: -b.accuracy.value)
    leader = best[0]
    near = next((b for b in best if b.domain == closest), None)
    trained = [b for b in best if b.domain not in ("none", "control", "task", UNKNOWN, closest)]
    floor = next((b for b in best if b.domain in ("none", "control")), None)
    ours = near or leader
    domain = _contrast(found, ours, trained[0]) if near and trained else None
    return Answer(
        leader=leader,
        behind=_behind(found, best),
        closest=domain,
        gap=_pair_gap(found, near, trained[0]) if near and trained else None,
        scratch=_against_tuned(found, ours, "scratch"),
        random=_contrast(found, ours, floor) if floor and floor is not ours else None,
        tuning=_tuning(found, best),
    )


def _behind(found: TaskCurves, best: Sequence[Best]) -> tuple[Contrast, ...]:
    """The leader minus the best row of every other backbone, all pairs taken at once.

    `best` is in order of accuracy.
    """
    seen = found.outcomes
    best = [b for b in best if seen.alike(name_of(best[0].rows[0]), name_of(b.rows[0]))]
    tops = [b for i, b in enumerate(best) if b.backbone not in {c.backbone for c in best[:i]}]
    if len(tops) < 2:
        return ()
    if not seen.has(*(name_of(b.rows[0]) for b in best)):
        pairs = [(tops[0], other) for other in tops[1:]]
        return tuple(c for c in (_contrast(found, a, b) for a, b in pairs) if c is not None)
    # Every row of one backbone against every row of another: the choice of method is paid for too.
    pairs = [(a, b) for a, b in combinations(best, 2) if a.backbone != b.backbone]
    right = {id(b): seen.correct(name_of(b.rows[0])) for b in best}
    values = np.stack([right[id(a)] - right[id(b)] for a, b in pairs], axis=1)
    tested = ~np.isnan(values).any(1)
    if not tested.any():
        return ()
    wider = seen.wider(*(name_of(b.rows[0]) for b in best))
    made = band(values[tested], seen.subjects[tested], wider)
    place = {(id(a), id(b)): i for i, (a, b) in enumerate(pairs)}
    contrasts = []
    for other in tops[1:]:
        i = place[id(tops[0]), id(other)]
        ends = (float(made.value[i]), float(made.low[i]), float(made.high[i]))
        apart = Interval(*ends, found.effective_subjects)
        contrasts.append(Contrast(tops[0].backbone, other.backbone, apart))
    return tuple(contrasts)


def _contrast(found: TaskCurves, a: Best, b: Best) -> Contrast | None:
    apart = difference(found.outcomes, a.rows, b.rows)
    return None if apart is None else Contrast(a.backbone, b.backbone, apart)


def _pair_gap(found: TaskCurves, near: Best, far: Best) -> tuple[str, Interval | None] | None:
    """The gap of a pair at the layer (and pooling) that the near one chose most often."""
    if frozenset((near.backbone, far.backbone)) not in found.pairs:
        return None
    choice = max(dict.fromkeys(near.chosen), key=near.chosen.count)
    layer, _, pool = choice.partition(":")
    for panel in found.panels:
        if panel.method == near.method and panel.pool in (pool or "auto", "none"):
            for gap in panel.gaps:
                if (gap.near, gap.far) == (near.backbone, far.backbone):
                    for p in gap.points:
                        if p.layer == layer:
                            return choice, Interval(p.gap, p.low, p.high, found.effective_subjects)
    return choice, None


def whole(curve: Curve) -> Point | None:
    """The point of a fine-tune in which no layer is frozen or copied."""
    return next((p for p in curve.points if not p.layer), None)


def _top(found: TaskCurves, methods: Sequence[str]) -> tuple[str, tuple[Row, ...]] | None:
    """The fine-tune of the highest accuracy: its name in words, and its rows."""
    there = [
        (f"{curve.method} of {curve.backbone}" + (f" at {p.layer}" if p.layer else ""), p)
        for curve in found.tuned
        if curve.kind in methods
        for p in curve.points
    ]
    if not there:
        return None
    name, point = max(there, key=lambda one: one[1].accuracy.value)
    return name, point.rows


def _against_tuned(found: TaskCurves, ours: Best, method: str) -> Contrast | None:
    top = _top(found, (method,))
    if top is None:
        return None
    apart = difference(found.outcomes, ours.rows, top[1])
    return None if apart is None else Contrast(ours.backbone, top[0], apart)


def _tuning(found: TaskCurves, best: Sequence[Best]) -> Contrast | None:
    """The best whole-network fine-tune minus the best probe of any backbone."""
    whole_network = [
        (curve, p)
        for curve in found.tuned
        if curve.kind not in ("scratch", "frozen", "copied")
        for p in (whole(curve),)
        if p is not None
    ]
    if not whole_network:
        return None
    curve, point = max(whole_network, key=lambda one: one[1].accuracy.value)
    apart = difference(found.outcomes, point.rows, best[0].rows)
    if apart is None:
        return None
    probe = f"{best[0].method} on {best[0].backbone}"
    return Contrast(f"{curve.method} of {curve.backbone}", probe, apart)

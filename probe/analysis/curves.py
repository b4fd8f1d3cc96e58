"""Transferability curves: every metric over depth, per task, method, pooling and backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from features.errors import InputError
from features.store.featurefile import UNKNOWN
from features.study.alike import unlike_rows
from features.study.study import Study
from probe.analysis.gaps import Gap, Member, gaps, members, pairs
from probe.analysis.majority import NAME as MAJORITY
from probe.analysis.majority import majority
from probe.analysis.outcomes import Outcomes, name_of
from probe.analysis.points import Best, Curve, Point
from probe.analysis.statistics import Interval, mean_interval
from probe.probes.linear import METHODS
from probe.results import predictions
from probe.results import rows as results
from probe.results.protocol import differences
from probe.results.rows import BEST, Row


@dataclass(frozen=True)
class Panel:
    """One method and pooling of a task."""

    method: str
    pool: str
    curves: tuple[Curve, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True)
class TaskCurves:
    """Everything about one task."""

    task: str
    ordered: bool
    classes: tuple[str, ...]
    n: int
    subjects: int
    effective_subjects: float
    folds: int
    chance: float
    majority: float | None
    """None where nothing tells which images were in which fold."""
    floor: Best | None
    """The majority class."""
    panels: tuple[Panel, ...]
    best: tuple[Best, ...]
    differences: tuple[tuple[str, str, str, Interval], ...]
    """Method, backbone, backbone and the first's `best` accuracy minus the second's."""
    pairs: frozenset[frozenset[str]]
    """Every two backbones that are a pair, whether a layer of both gives them a gap or not."""
    tuned: tuple[Curve, ...]
    """Fine-tune variants, by depth of the cut; at depth 0, with no layer, the whole network."""
    metrics: tuple[str, ...]
    outcomes: Outcomes
    """The predictions behind all of it."""


def curves(study: Study) -> list[TaskCurves]:
    """The curves of every task that has results of the study as it is now; others are left out.

    Raises:
        InputError: There are no results, or none of the study as it is now, or rows of one task were
            made under unlike protocols.
    """
    rows = [
        row
        for row in results.read(study.folder / "results.csv")
        if not row.variant and row.backbone != MAJORITY  # which is made for the folds at hand
    ]
    if not rows:
        raise InputError(f"{study.folder}: nothing is fitted yet; run `probe fit` first.")
    known = members(study)
    unknown = {m.name for m in known if m.domain == UNKNOWN}
    # Rows of imported features may still say `none`, the domain of random weights.
    rows = [replace(r, domain=UNKNOWN) if r.backbone in unknown else r for r in rows]
    names = [name for name in study.tasks if any(row.task == name for row in rows)]
    if not names:
        gone = ", ".join(dict.fromkeys(row.task for row in rows))
        raise InputError(
            f"{study.folder / 'results.csv'}: all results are of {gone}, and study.toml has no such "
            "task; put it back there, or run `probe fit` for the tasks that are there."
        )
    found = []
    for name in names:
        mine = [r for r in rows if r.task == name]
        seen = Outcomes(study, name, mine)
        mine = [r for r in mine if name_of(r) not in seen.outdated]
        if mine:
            found.append(_task(study, name, mine, seen, known))
    if not found:
        raise InputError(f"{study.folder}: {seen.left_out}")
    return found


def _task(
    study: Study, task: str, rows: list[Row], seen: Outcomes, known: list[Member]
) -> TaskCurves:
    _check_protocols(study, task, rows)
    methods = [m for m in METHODS if any(r.method == m for r in rows)]
    panels = []
    for method in methods:
        mine = [r for r in rows if r.method == method and r.layer != BEST]
        for pool in _pools(mine):
            drawn = _curves(seen, [r for r in mine if r.pool in (pool, "none", "")], known)
            found = tuple(gaps(seen, drawn, known, study.closest))
            panels.append(Panel(method, pool, tuple(drawn), found))
    best = [b for method in methods for b in _best(seen, method, rows)]
    tuned = [
        curve
        for method in dict.fromkeys(r.method for r in rows if r.method not in METHODS)
        for curve in _curves(seen, [r for r in rows if r.method == method], known)
    ]
    n, subjects, effective = _counts(seen, rows)
    always = majority(seen)
    floor = always and Best(always[0][0].backbone, "control", "majority", always[1], (), always[0])
    return TaskCurves(
        task=task,
        ordered=seen.ordered,
        classes=study.tasks[task].classes,
        n=n,
        subjects=subjects,
        effective_subjects=effective,
        folds=len({row.fold for row in rows}),
        chance=1 / len(study.tasks[task].classes),
        majority=None if floor is None else floor.accuracy.value,
        floor=floor,
        panels=tuple(panels),
        best=tuple(best),
        differences=tuple(_differences(seen, best)),
        pairs=pairs(known, {b.backbone for b in best}),
        tuned=tuple(tuned),
        metrics=seen.metrics,
        outcomes=seen,
    )


def _curves(seen: Outcomes, rows: list[Row], known: list[Member]) -> list[Curve]:
    found = []
    order_of = {m.name: {layer: i for i, layer in enumerate(m.layers)} for m in known}
    for backbone in dict.fromkeys(row.backbone for row in rows):
        mine = [row for row in rows if row.backbone == backbone]
        by_layer: dict[str, list[Row]] = {}
        for row in mine:
            by_layer.setdefault(row.layer, []).append(row)
        points = [
            Point(layer, folds[0].pool, folds[0].depth or 0.0, seen.measure(folds), tuple(folds))
            for layer, folds in by_layer.items()
        ]
        order = order_of.get(backbone, {})
        points.sort(key=lambda p: (p.depth, order.get(p.layer, 0)))
        found.append(Curve(backbone, mine[0].domain, mine[0].method, tuple(points)))
    last = {"control": 2, "none": 1}
    return sorted(found, key=lambda c: (last.get(c.domain, 0), c.domain, c.backbone))


def _best(seen: Outcomes, method: str, rows: list[Row]) -> list[Best]:
    mine = [r for r in rows if r.method == method and r.layer == BEST]
    found = []
    for backbone in dict.fromkeys(row.backbone for row in mine):
        folds = tuple(row for row in mine if row.backbone == backbone)
        chosen = tuple(row.chosen for row in folds)
        metrics = seen.measure(folds)
        found.append(Best(backbone, folds[0].domain, method, metrics, chosen, folds))
    return sorted(found, key=lambda b: -b.accuracy.value)


def difference(seen: Outcomes, a: Sequence[Row], b: Sequence[Row]) -> Interval | None:
    """Accuracy of `a` minus that of `b` on the images that both tested, with its paired interval.

    Without predictions there is no interval; between unlike protocols there is no difference.
    """
    names = name_of(a[0]), name_of(b[0])
    if not seen.has(*names):
        value = seen.measure(a)["accuracy"].value - seen.measure(b)["accuracy"].value
        return Interval(value, np.nan, np.nan, np.nan)
    if not seen.alike(*names):
        return None
    apart = seen.correct(names[0]) - seen.correct(names[1])
    tested = ~np.isnan(apart)
    if not tested.any():
        return None
    return mean_interval(apart[tested], seen.subjects[tested], seen.wider(*names))


def _differences(seen: Outcomes, best: list[Best]) -> list[tuple[str, str, str, Interval]]:
    """Every backbone against the next one of the same method, at their `best` rows."""
    found = []
    for a, b in pairwise(best):
        if a.method == b.method:
            apart = difference(seen, a.rows, b.rows)
            if apart is not None:
                found.append((a.method, a.backbone, b.backbone, apart))
    return found


def _counts(seen: Outcomes, rows: list[Row]) -> tuple[int, int, float]:
    """Images, subjects and effective subjects."""
    if seen.fold is None:
        first = name_of(rows[0])
        n = sum(row.n_test for row in rows if name_of(row) == first)
        return n, n, float(n)
    tested = seen.fold >= 0
    sizes = np.bincount(np.unique(seen.subjects[tested], return_inverse=True)[1])
    effective = float(sizes.sum() ** 2 / (sizes**2).sum())
    return int(tested.sum()), len(sizes), effective


def _pools(rows: list[Row]) -> list[str]:
    """The poolings to draw; a study of flat layers alone has one panel, `none`."""
    named = [pool for pool in dict.fromkeys(row.pool for row in rows) if pool not in ("none", "")]
    return sorted(named, key=lambda pool: (pool != "auto", pool)) or ["none"]


def _check_protocols(study: Study, task: str, rows: list[Row]) -> None:
    for method in METHODS:
        found: dict[str, list[Row]] = {}
        for row in rows:
            if row.method == method:
                found.setdefault(row.protocol, []).append(row)
        if len(found) > 1:
            groups = [", ".join(sorted({row.backbone for row in made})) for made in found.values()]
            held = [name for name in study.backbones() if any(r.backbone == name for r in rows)]
            if (rows_differ := unlike_rows(study, held)) is not None:
                raise InputError(f"{study.folder}: {rows_differ}")
            first, second = (made[0].stored for made in list(found.values())[:2])
            file = study.folder / "predictions.h5"
            said = predictions.protocols(file, [first, second])
            unlike = differences(said[first], said[second]) if len(said) == 2 else []
            raise InputError(
                f"{study.folder / 'results.csv'}: task {task}, {method}: rows of "
                f"{' and '.join(groups)} were made under unlike protocols (other "
                f"{', '.join(unlike) or 'images, folds, scaling or grid'}), so they cannot be "
                "compared; run `probe fit` once for all of them."
            )

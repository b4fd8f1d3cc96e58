"""Transferability curves: accuracy over depth, and the gap between the members of a pair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import InputError
from features.study import Study
from probe import predictions, results
from probe.crossval import METHODS
from probe.protocol import mark
from probe.results import BEST, Row
from probe.statistics import Interval, accuracy_interval, band, mean_interval, slope


@dataclass(frozen=True)
class Point:
    """One layer of a curve."""

    layer: str
    pool: str
    depth: float
    accuracy: Interval
    rows: tuple[Row, ...]
    """Its folds."""


@dataclass(frozen=True)
class Curve:
    """Accuracy over depth of one backbone."""

    backbone: str
    domain: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class GapPoint:
    """The difference at one layer, with its part of the simultaneous band."""

    layer: str
    depth: float
    gap: float
    low: float
    high: float


@dataclass(frozen=True)
class Gap:
    """Accuracy of one member of a pair minus that of the other, layer by layer, on the same images."""

    near: str
    far: str
    far_domain: str
    near_domain: str
    points: tuple[GapPoint, ...]
    slope: Interval
    """Change of the gap from the input to the end of the network."""

    @property
    def title(self) -> str:
        """`near − far`."""
        return f"{self.near} − {self.far}"


@dataclass(frozen=True)
class Best:
    """A backbone at the layer chosen inside the training folds: the number to quote."""

    backbone: str
    domain: str
    method: str
    accuracy: Interval
    chosen: tuple[str, ...]
    """The layer chosen in each fold."""
    rows: tuple[Row, ...]


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
    majority: float
    panels: tuple[Panel, ...]
    best: tuple[Best, ...]
    differences: tuple[tuple[str, str, str, Interval], ...]
    """Method, backbone, backbone and the first's `best` accuracy minus the second's."""


@dataclass(frozen=True)
class _Member:
    """What tells whether two backbones make a pair."""

    name: str
    domain: str
    base: str
    pair: str | None
    random: bool
    layers: dict[str, str]
    """Module by layer, in depth order."""


def curves(study: Study) -> list[TaskCurves]:
    """The curves of every task that has results.

    Raises:
        InputError: There are no results, or rows of one task were made under unlike protocols.
    """
    rows = [row for row in results.read(study.folder / "results.csv") if not row.variant]
    if not rows:
        raise InputError(f"{study.folder}: nothing is fitted yet; run `probe fit` first.")
    members = _members(study)
    names = [name for name in study.tasks if any(row.task == name for row in rows)]
    return [_task(study, name, [r for r in rows if r.task == name], members) for name in names]


def _task(study: Study, task: str, rows: list[Row], members: list[_Member]) -> TaskCurves:
    y = study.labels(task)
    _check_protocols(study, task, rows)
    seen = _Seen(study, task, rows, y)
    methods = [m for m in METHODS if any(r.method == m for r in rows)]
    panels = []
    for method in methods:
        mine = [r for r in rows if r.method == method and r.layer != BEST]
        for pool in _pools(mine):
            drawn = tuple(_curves(seen, [r for r in mine if r.pool in (pool, "none", "")], members))
            gaps = tuple(_gaps(seen, method, drawn, members, study.closest))
            panels.append(Panel(method, pool, drawn, gaps))
    best = [b for method in methods for b in _best(seen, method, rows)]
    fold = next(iter(seen.folds.values()))
    tested = fold >= 0
    sizes = np.bincount(np.unique(study.subjects[tested], return_inverse=True)[1])
    return TaskCurves(
        task=task,
        ordered=study.tasks[task].ordered or rows[0].one_off is not None,
        classes=study.tasks[task].classes,
        n=int(tested.sum()),
        subjects=len(sizes),
        effective_subjects=float(sizes.sum() ** 2 / (sizes**2).sum()),
        folds=int(fold.max()) + 1,
        chance=1 / len(study.tasks[task].classes),
        majority=_majority(y, fold),
        panels=tuple(panels),
        best=tuple(best),
        differences=tuple(_differences(seen, best)),
    )


class _Seen:
    """Which images each row of results got right, read once."""

    def __init__(
        self, study: Study, task: str, rows: Sequence[Row], y: npt.NDArray[np.int64]
    ) -> None:
        self.subjects = study.subjects
        keys = [(task, r.backbone, _key(r), r.method) for r in rows]
        file = study.folder / "predictions.h5"
        stored = predictions.read_all(file, list(dict.fromkeys(keys)))
        for key, row in zip(keys, rows, strict=True):
            if stored[key].protocol and mark(stored[key].protocol) != row.protocol:
                raise InputError(
                    f"{file}: its scores of {row.backbone}/{row.layer}/{row.method} are of another "
                    "run than results.csv, which was not finished; run `probe fit` again."
                )
        self.folds = {key[1:]: p.fold.astype(np.int64) for key, p in stored.items()}
        self.correct = {
            key[1:]: np.where(
                p.fold >= 0, np.nan_to_num(p.scores, nan=-np.inf).argmax(1) == y, np.nan
            )
            for key, p in stored.items()
        }

    def of(self, backbone: str, key: str, method: str) -> npt.NDArray[np.float64]:
        """1 where the image was right, 0 where wrong, NaN where not tested, `(n,)`."""
        return np.asarray(self.correct[backbone, key, method], dtype=np.float64)


def _curves(seen: _Seen, rows: list[Row], members: list[_Member]) -> list[Curve]:
    found = []
    order_of = {m.name: {layer: i for i, layer in enumerate(m.layers)} for m in members}
    for backbone in dict.fromkeys(row.backbone for row in rows):
        mine = [row for row in rows if row.backbone == backbone]
        points = []
        for layer in dict.fromkeys(row.layer for row in mine):
            folds = tuple(row for row in mine if row.layer == layer)
            right = seen.of(backbone, _key(folds[0]), folds[0].method)
            tested = ~np.isnan(right)
            accuracy = accuracy_interval(right[tested], seen.subjects[tested])
            points.append(Point(layer, folds[0].pool, folds[0].depth or 0.0, accuracy, folds))
        order = order_of.get(backbone, {})
        points.sort(key=lambda p: (p.depth, order.get(p.layer, 0)))
        found.append(Curve(backbone, mine[0].domain, tuple(points)))
    last = {"control": 2, "none": 1}
    return sorted(found, key=lambda c: (last.get(c.domain, 0), c.domain, c.backbone))


def _gaps(
    seen: _Seen, method: str, drawn: Sequence[Curve], members: list[_Member], closest: str | None
) -> list[Gap]:
    by_name = {curve.backbone: curve for curve in drawn}
    there = [m for m in members if m.name in by_name]
    trained = [m for m in there if not m.random]
    found = []
    for a, b in combinations(trained, 2):
        if _paired(a, b):
            near, far = sorted((a, b), key=lambda m: (m.domain != closest, m.name))
            found.append(_gap(seen, method, by_name, near, [far], far.name))
    for a in trained:
        draws = [m for m in there if m.random and _paired(a, m)]
        if draws:
            name = "random weights" + (f" (mean of {len(draws)} draws)" if len(draws) > 1 else "")
            found.append(_gap(seen, method, by_name, a, draws, name))
    return [gap for gap in found if gap is not None]


def _gap(
    seen: _Seen, method: str, drawn: dict[str, Curve], near: _Member, far: list[_Member], name: str
) -> Gap | None:
    """Paired differences at the layers that all have; several far members are averaged."""
    points = {p.layer: p for p in drawn[near.name].points}
    others = [{p.layer: p for p in drawn[m.name].points} for m in far]
    layers = [layer for layer in points if all(layer in other for other in others)]
    if not layers:
        return None
    columns = []
    for layer in layers:
        ours = seen.of(near.name, _key(points[layer].rows[0]), method)
        theirs = [
            seen.of(m.name, _key(other[layer].rows[0]), method)
            for m, other in zip(far, others, strict=True)
        ]
        columns.append(ours - np.mean(theirs, axis=0))
    values = np.stack(columns, axis=1)
    tested = ~np.isnan(values).any(1)
    values, subjects = values[tested], seen.subjects[tested]
    depth = np.array([points[layer].depth for layer in layers])
    found = band(values, subjects)
    return Gap(
        near.name,
        name,
        far[0].domain,
        near.domain,
        tuple(
            GapPoint(
                layer, float(depth[i]), *map(float, (found.value[i], found.low[i], found.high[i]))
            )
            for i, layer in enumerate(layers)
        ),
        slope(values, depth, subjects),
    )


def _best(seen: _Seen, method: str, rows: list[Row]) -> list[Best]:
    mine = [r for r in rows if r.method == method and r.layer == BEST]
    found = []
    for backbone in dict.fromkeys(row.backbone for row in mine):
        folds = tuple(row for row in mine if row.backbone == backbone)
        right = seen.of(backbone, BEST, method)
        tested = ~np.isnan(right)
        accuracy = accuracy_interval(right[tested], seen.subjects[tested])
        chosen = tuple(row.chosen for row in folds)
        found.append(Best(backbone, folds[0].domain, method, accuracy, chosen, folds))
    return sorted(found, key=lambda b: -b.accuracy.value)


def _differences(seen: _Seen, best: list[Best]) -> list[tuple[str, str, str, Interval]]:
    """Every backbone against the next one of the same method, at their `best` rows."""
    found = []
    for a, b in pairwise(best):
        if a.method == b.method:
            difference = seen.of(a.backbone, BEST, a.method) - seen.of(b.backbone, BEST, b.method)
            tested = ~np.isnan(difference)
            interval = mean_interval(difference[tested], seen.subjects[tested])
            found.append((a.method, a.backbone, b.backbone, interval))
    return found


def _members(study: Study) -> list[_Member]:
    found = []
    for name in study.backbones():
        with study.features(name) as file:
            card: dict[str, Any] = file.card
            weights = json.loads(file.attributes.get("weights", "{}"))
            layers = {file.about(key)["layer"]: file.about(key)["module"] for key in file.keys}
        found.append(
            _Member(
                name,
                file_domain(card, weights),
                card.get("name", name),
                card.get("pair"),
                bool(weights.get("random")),
                layers,
            )
        )
    return found


def file_domain(card: dict[str, Any], weights: dict[str, Any]) -> str:
    """The domain of a backbone as its feature file tells it."""
    if weights.get("random") and card.get("domain") != "control":
        return "none"
    return str(card.get("domain", "none"))


def _paired(a: _Member, b: _Member) -> bool:
    """Same architecture and layer names: one card, or two cards that name each other as pair."""
    shared = [layer for layer in a.layers if layer in b.layers]
    same = bool(shared) and all(a.layers[layer] == b.layers[layer] for layer in shared)
    linked = a.base == b.base or a.pair == b.base or b.pair == a.base
    return same and linked and "control" not in (a.domain, b.domain)


def _majority(y: npt.NDArray[np.int64], fold: npt.NDArray[np.int64]) -> float:
    """Accuracy of always saying the class most frequent among the training rows."""
    right = total = 0
    for one in range(int(fold.max()) + 1):
        train, test = (fold >= 0) & (fold != one), fold == one
        right += int((y[test] == np.bincount(y[train]).argmax()).sum())
        total += int(test.sum())
    return right / total


def _pools(rows: list[Row]) -> list[str]:
    """The poolings to draw; a study of flat layers alone has one panel, `none`."""
    named = [pool for pool in dict.fromkeys(row.pool for row in rows) if pool not in ("none", "")]
    return sorted(named, key=lambda pool: (pool != "auto", pool)) or ["none"]


def _check_protocols(study: Study, task: str, rows: list[Row]) -> None:
    for method in METHODS:
        found: dict[str, set[str]] = {}
        for row in rows:
            if row.method == method:
                found.setdefault(row.protocol, set()).add(row.backbone)
        if len(found) > 1:
            groups = " and ".join(", ".join(sorted(names)) for names in found.values())
            raise InputError(
                f"{study.folder / 'results.csv'}: task {task}, {method}: rows of {groups} were made "
                "under unlike protocols (other images, folds, scaling or grid), so they cannot be "
                "compared; run `probe fit` once for all of them."
            )


def _key(row: Row) -> str:
    return BEST if row.layer == BEST else row.features_key

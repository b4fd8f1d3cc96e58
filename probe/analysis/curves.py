"""Transferability curves: every metric over depth, per task, method, pooling and backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from features.errors import InputError
from features.store.featurefile import UNKNOWN
from features.study.alike import unlike_rows
from features.study.study import Study
from probe.analysis.floor import NAMES as FLOORS
from probe.analysis.floor import floor
from probe.analysis.gaps import Gap, Member, gaps, members, pairs, seen_unlike
from probe.analysis.outcomes import Outcomes
from probe.analysis.points import HEADLINES, Best, Curve, Point
from probe.analysis.scale import POINTS, Scale
from probe.analysis.statistics import Interval, difference_interval, mean_interval
from probe.counts import count
from probe.probes.methods import METHODS
from probe.results import predictions
from probe.results import rows as results
from probe.results.protocol import differences
from probe.results.rows import BEST, Row


@dataclass(frozen=True)
class Panel:
    """The curves and gaps of a task under one method and pooling."""

    method: str
    pool: str
    curves: tuple[Curve, ...]
    gaps: tuple[Gap, ...]

    @property
    def title(self) -> str:
        """The method, and the pooling where there are several."""
        return self.method if self.pool == "none" else f"{self.method}, pooling {self.pool}"


@dataclass(frozen=True, repr=False)
class TaskCurves:
    """The curves of one task, and everything else that is known of it."""

    task: str
    ordered: bool
    classes: tuple[str, ...]
    n: int
    subjects: int
    whose: str
    """As Study.whose."""
    effective_subjects: float
    folds: int
    chance: float | None
    """None for a number and for several labels an image."""
    majority: float | None
    """The accuracy of predicting the most frequent class, or of a number the mean absolute error of the
    median, of labels the mean average precision of their prevalence; None where no predictions tell the
    folds."""
    floor: Best | None
    """The same with its other metrics and its folds."""
    panels: tuple[Panel, ...]
    best: tuple[Best, ...]
    differences: tuple[tuple[str, str, str, Interval], ...]
    """Method, backbone, backbone and the first's `best` accuracy minus the second's."""
    have_seen: frozenset[str]
    """Backbones that were trained on the images tested; they neither lead nor stand for a domain."""
    pairs: frozenset[frozenset[str]]
    """Every two backbones that are a pair, whether or not they have a layer in common."""
    seen_unlike: tuple[tuple[Member, Member], ...]
    """What would be pairs, did the two not see the images in two ways."""
    tuned: tuple[Curve, ...]
    """Fine-tunes over the depth of their cut; the whole network is at depth 0 and has no layer."""
    metrics: tuple[str, ...]
    outcomes: Outcomes
    """The predictions that all of this is computed from."""
    left_out: tuple[str, ...] = ()
    """Which results are of another protocol than most, and so not shown, in sentences."""
    unit: str = "classes"
    """The unit of errors: classes, or that of a number."""

    def __repr__(self) -> str:
        """The task and what there are curves of."""
        names = dict.fromkeys(curve.backbone for panel in self.panels for curve in panel.curves)
        probes = ", ".join(panel.title for panel in self.panels)
        return f"<curves of {self.task}: {count(self.n, 'image')}; {probes}; {', '.join(names)}>"

    @property
    def is_number(self) -> bool:
        """Whether it predicts a number and not a class."""
        return self.outcomes.is_number

    @property
    def has_labels(self) -> bool:
        """Whether it predicts several labels of an image."""
        return self.outcomes.has_labels

    @property
    def has_classes(self) -> bool:
        """Whether it predicts one class of several."""
        return self.outcomes.has_classes

    @property
    def headline(self) -> str:
        """The metric that is quoted, by its name in `CURVES`."""
        return "mae" if self.is_number else "map" if self.has_labels else "accuracy"

    @property
    def headline_words(self) -> str:
        """What its numbers are, in words."""
        return {
            "mae": "mean absolute error", "map": "mean average precision", "accuracy": "accuracy"
        }[self.headline]  # fmt: skip

    @property
    def floor_words(self) -> str:
        """What its floor guesses by."""
        guess = {"mae": "median", "map": "prevalence", "accuracy": "most frequent class"}
        return guess[self.headline]

    @property
    def scale(self) -> Scale:
        """The words for its values and differences."""
        return Scale(self.unit) if self.is_number else POINTS


def curves(study: Study) -> list[TaskCurves]:
    """The curves of every task that has results of the study as it is now; outdated results are left out.

    Raises:
        InputError: There are no results, or none of the study as it is now.
    """
    rows = [
        row
        for row in results.read(study.folder / "results.csv")
        if not row.variant and row.backbone not in FLOORS  # made for the folds at hand
    ]
    if not rows:
        raise InputError(f"{study.folder}: nothing is fitted yet; run `probe fit` first.")
    networks = members(study)
    unknown = {m.name for m in networks if m.domain == UNKNOWN}
    # Rows of imported features may still say `none`, the domain of random weights.
    rows = [replace(r, domain=UNKNOWN) if r.backbone in unknown else r for r in rows]
    names = [name for name in study.tasks if any(row.task == name for row in rows)]
    if not names:
        gone = ", ".join(dict.fromkeys(row.task for row in rows))
        raise InputError(
            f"{study.folder / 'results.csv'}: all results are of {gone}, and study.toml has no such "
            "task; put it back there, or run `probe fit` for the tasks that are there."
        )
    tasks = []
    for name in names:
        of_task = [row for row in rows if row.task == name]
        outcomes = Outcomes(study, name, of_task)
        current = [row for row in of_task if row.result_name not in outcomes.outdated]
        if current:
            tasks.append(_task(study, current, outcomes, networks))
    if not tasks:
        raise InputError(f"{study.folder}: {outcomes.left_out}")
    return tasks


def _task(study: Study, rows: list[Row], outcomes: Outcomes, networks: list[Member]) -> TaskCurves:
    task = outcomes.task
    rows, left_out = _of_most(study, rows)
    methods = [m for m in METHODS if any(row.method == m for row in rows)]
    best = [b for method in methods for b in _best(outcomes, method, rows)]
    tuned = [
        curve
        for method in dict.fromkeys(row.method for row in rows if row.method not in METHODS)
        for curve in _curves(outcomes, [row for row in rows if row.method == method], networks)
    ]
    n, subjects, effective = _counts(outcomes, rows)
    guess, guessed = floor(outcomes), None
    if guess is not None:
        folds, metrics = guess
        guessed = Best(folds[0].backbone, "control", folds[0].method, metrics, (), folds)
    return TaskCurves(
        task=task,
        ordered=outcomes.ordered,
        classes=study.tasks[task].classes,
        n=n,
        subjects=subjects,
        whose=study.whose,
        effective_subjects=effective,
        folds=len({row.fold for row in rows}),
        chance=1 / len(study.tasks[task].classes) if outcomes.has_classes else None,
        majority=None if guessed is None else guessed.headline.value,
        floor=guessed,
        panels=tuple(_panels(study, methods, rows, outcomes, networks)),
        best=tuple(best),
        differences=tuple(_differences(outcomes, best)),
        have_seen=frozenset(m.name for m in networks if m.has_seen),
        pairs=pairs(networks, {b.backbone for b in best}),
        seen_unlike=seen_unlike(networks, {b.backbone for b in best}),
        tuned=tuple(tuned),
        metrics=outcomes.metrics,
        outcomes=outcomes,
        left_out=tuple(left_out),
        unit=study.tasks[task].unit_words,
    )


def _panels(
    study: Study, methods: list[str], rows: list[Row], outcomes: Outcomes, networks: list[Member]
) -> Iterator[Panel]:
    """A panel for every method and pooling; a layer without a map stands under every pooling."""
    for method in methods:
        layers = [row for row in rows if row.method == method and row.layer != BEST]
        for pool in _pools(layers):
            drawn = _curves(
                outcomes, [row for row in layers if row.pool in (pool, "none", "")], networks
            )
            of_pairs = gaps(outcomes, drawn, networks, study.closest)
            yield Panel(method, pool, tuple(drawn), tuple(of_pairs))


def _curves(outcomes: Outcomes, rows: list[Row], networks: list[Member]) -> list[Curve]:
    """A curve for every backbone of `rows`, trained ones first, then random weights and controls."""
    made = []
    order_of = {m.name: {layer: i for i, layer in enumerate(m.layers)} for m in networks}
    for backbone in dict.fromkeys(row.backbone for row in rows):
        of_backbone = [row for row in rows if row.backbone == backbone]
        by_layer: dict[str, list[Row]] = {}
        for row in of_backbone:
            by_layer.setdefault(row.layer, []).append(row)
        points = [
            Point(
                layer, folds[0].pool, folds[0].depth or 0.0, outcomes.measure(folds), tuple(folds)
            )
            for layer, folds in by_layer.items()
        ]
        order = order_of.get(backbone, {})
        points.sort(key=lambda p: (p.depth, order.get(p.layer, 0)))
        first = of_backbone[0]
        made.append(Curve(backbone, first.domain, first.method, tuple(points)))
    last = {"control": 2, "none": 1}
    return sorted(made, key=lambda c: (last.get(c.domain, 0), c.domain, c.backbone))


def _best(outcomes: Outcomes, method: str, rows: list[Row]) -> list[Best]:
    """The `best` rows of one method, the highest accuracy first."""
    of_method = [row for row in rows if row.method == method and row.layer == BEST]
    made = []
    for backbone in dict.fromkeys(row.backbone for row in of_method):
        folds = tuple(row for row in of_method if row.backbone == backbone)
        chosen = tuple(row.chosen for row in folds)
        metrics = outcomes.measure(folds)
        made.append(Best(backbone, folds[0].domain, method, metrics, chosen, folds))
    return sorted(made, key=lambda b: -b.worth)


def difference(outcomes: Outcomes, a: Sequence[Row], b: Sequence[Row]) -> Interval | None:
    """The accuracy of `a` minus that of `b`, on the images that both tested, with its paired interval.

    Of a number it is the mean absolute error of `b` minus that of `a`: more is better in either case.
    Without predictions it has no interval; between results of different protocols it is None.
    """
    names = a[0].result_name, b[0].result_name
    if not outcomes.has(*names):
        first, second = (outcomes.measure(rows) for rows in (a, b))
        name = next(name for name in HEADLINES if name in outcomes.metrics)
        value = first[name].value - second[name].value
        value = -value if outcomes.is_number else value
        return Interval(value, np.nan, np.nan, np.nan)
    if not outcomes.alike(*names):
        return None
    per_image = outcomes.worth(names[0]) - outcomes.worth(names[1])
    tested = ~np.isnan(per_image)
    if not tested.any():
        return None
    wider = outcomes.wider({names[0]: 1.0, names[1]: -1.0})
    interval = difference_interval if outcomes.has_classes else mean_interval
    return interval(per_image[tested], outcomes.subjects[tested], wider)


def _differences(outcomes: Outcomes, best: list[Best]) -> list[tuple[str, str, str, Interval]]:
    """Every backbone against the next one of the same method, at their `best` rows."""
    made = []
    for a, b in pairwise(best):
        if a.method == b.method:
            apart = difference(outcomes, a.rows, b.rows)
            if apart is not None:
                made.append((a.method, a.backbone, b.backbone, apart))
    return made


def _counts(outcomes: Outcomes, rows: list[Row]) -> tuple[int, int, float]:
    """How many images are tested, of how many subjects, and how many subjects that is effectively."""
    if outcomes.fold is None:
        first = rows[0].result_name
        n = sum(row.n_test for row in rows if row.result_name == first)
        return n, n, float(n)
    tested = outcomes.fold >= 0
    sizes = np.bincount(np.unique(outcomes.subjects[tested], return_inverse=True)[1])
    effective = float(sizes.sum() ** 2 / (sizes**2).sum())
    return int(tested.sum()), len(sizes), effective


def _pools(rows: list[Row]) -> list[str]:
    """The poolings to draw; a study of flat layers alone has one panel, `none`."""
    named = [pool for pool in dict.fromkeys(row.pool for row in rows) if pool not in ("none", "")]
    return sorted(named, key=lambda pool: (pool != "auto", pool)) or ["none"]


def _of_most(study: Study, rows: list[Row]) -> tuple[list[Row], list[str]]:
    """The rows of each method made under the protocol of most of its results; and what is left out.

    Of protocols with equally many results the one that was made last counts. What is left out is told
    in a sentence for each method and protocol. Fine-tunes are results of their own, and all stay.
    """
    kept, sentences = [row for row in rows if row.method not in METHODS], []
    for method in METHODS:
        by_protocol: dict[str, list[Row]] = {}
        for row in rows:
            if row.method == method:
                by_protocol.setdefault(row.protocol, []).append(row)
        if not by_protocol:
            continue
        sizes = {name: len({row.stored for row in group}) for name, group in by_protocol.items()}
        most = max(by_protocol, key=lambda name: (sizes[name], list(by_protocol).index(name)))
        kept += by_protocol.pop(most)
        shown = next(row for row in kept if row.method == method)
        for name, group in by_protocol.items():
            sentences.append(_left_out(study, method, shown, group, sizes[name]))
    order = {id(row): i for i, row in enumerate(rows)}
    return sorted(kept, key=lambda row: order[id(row)]), sentences


def _left_out(study: Study, method: str, shown: Row, group: list[Row], results: int) -> str:
    """Which results of a method are left out, and what sets them apart from those that are shown."""
    names = ", ".join(sorted({row.backbone for row in group}))
    extracted = [name for name in study.backbones() if any(r.backbone == name for r in group)]
    if shown.backbone in study.backbones():
        extracted.append(shown.backbone)
    stored = [shown.stored, group[0].stored]
    protocols = predictions.protocols(study.folder / predictions.STORE, stored)
    unlike = differences(*(protocols[key] for key in stored)) if len(protocols) == 2 else []
    why = unlike_rows(study, extracted) or (
        "made under another protocol, which differs in "
        f"{', '.join(unlike) or 'images, folds, scaling or grid'}; run `probe fit` once with the same "
        "options for all of them."
    )
    return f"{method}: {count(results, 'result')} of {names} left out: {why}"

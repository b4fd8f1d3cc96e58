"""The page's sections on closeness to source domains, and on transfer scores and similarity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from features.errors import InputError
from features.study.study import Study
from probe.analysis.compare import compare
from probe.analysis.curves import TaskCurves
from probe.counts import count
from probe.probes.methods import METHODS
from probe.reporting.charts.chart import Chart, ChartLine, Square, line_chart
from probe.reporting.charts.markers import SHAPES, Markers, slots
from probe.reporting.page.contents import Section
from probe.reporting.tables.table import Column, Table
from probe.scoring import agreement, score_files
from probe.scoring.closeness import Closeness, closeness, correlations, sentences
from probe.scoring.distances import DISTANCES, NAMES
from probe.scoring.rank import COPY
from probe.scoring.score_files import LayerScore
from probe.scoring.score_table import SCORES

PLANNED = "Planned comparisons"
_MOST_ALIKE = 48
"""How many layers the map of similarity shows."""

_CLOSENESS = (
    Column("backbone", "backbone"), Column("layer", "layer"), Column("depth", "depth", "decimal"),
    Column("source", "source"), Column("measure", "measure"), Column("value", "distance", "decimal"),
    Column("range", "95 % interval", "range"), Column("floor", "between halves", "decimal"),
    Column("images", "images", "count"), Column("source_images", "of the source", "count"),
)  # fmt: skip
_CORRELATIONS = (
    Column("task", "task"), Column("method", "method"), Column("pool", "pool"), Column("gap", "gap"),
    Column("source", "source"), Column("measure", "measure"), Column("r", "r", "decimal"),
    Column("range", "95 % interval", "range"), Column("n", "layers", "count"),
)  # fmt: skip
_SCORES = (
    Column("task", "task"), Column("backbone", "backbone"), Column("layer", "layer"),
    Column("depth", "depth", "decimal"),
    *(Column(name, score.heading, "precise") for name, score in SCORES.items()),
    Column("accuracy", "accuracy", "percent"), Column("copy_of", "near copy of"),
)  # fmt: skip
_AGREEMENT = (
    Column("task", "task"), Column("score", "score"), Column("method", "against"),
    Column("over", "over"), Column("tau", "weighted tau", "decimal"),
    Column("pearson", "Pearson", "decimal"), Column("n", "n", "count"),
)  # fmt: skip


def planned_section(study: Study, planned: Sequence[tuple[str, str]]) -> Section | None:
    """The differences that were asked for before the results were seen; None where none was."""
    if not planned:
        return None
    words = [
        "Each was asked for in advance, so its interval is for this comparison alone, and not for the best "
        "of many."
    ]
    for a, b in planned:
        try:
            words += [str(made) for made in compare(study.folder, a, b)]
        except InputError as error:  # which may come hours after it was asked for
            words.append(f"{a} and {b} are not compared: {error}")
    return Section(PLANNED, words, [], [])


def closeness_section(
    study: Study,
    tasks: Sequence[TaskCurves],
    looks: Markers,
    progress: Callable[[int, int, str], None] = lambda _done, _all, _now: None,
) -> Section | None:
    """The distances to the source domains over depth; None where the study has no samples of any."""
    lines = closeness(study, progress)
    if not lines:
        return None
    related = correlations(tasks, lines)
    words = [
        "The distance between this study's images and samples of source domains in the features of each "
        "layer, on the first 64 principal axes of all sets together; smaller is closer. A distance no "
        "larger than that between two halves of the study's own images (in the table) counts as none.",
        *sentences(related),
    ]
    charts = [
        line_chart(f"{NAMES[measure]}, {_pool_words(pool)}", NAMES[measure], drawn)
        for measure in DISTANCES
        for pool in dict.fromkeys(_pool(c) for c in lines)
        if (drawn := _distance_lines(lines, measure, pool, looks))
    ]
    rows = tuple(
        (
            c.backbone, c.key, c.depth, c.source, NAMES[c.measure], c.value, (c.low, c.high), c.floor,
            c.images, c.source_images,
        )
        for c in lines
    )  # fmt: skip
    tables = [Table("closeness", "Distances", _CLOSENESS, rows)]
    if related:
        cells = tuple(
            (
                c.task, c.method, c.pool, c.gap, c.source, NAMES[c.measure], c.r, (c.low, c.high), c.n,
            )
            for c in related
        )  # fmt: skip
        note = "Layers are not independent of each other, so the intervals are too narrow."
        tables.append(Table("closeness-gap", "Distance and gap", _CORRELATIONS, cells, note))
    return Section("How close the source domains are", words, charts, tables)


def scores_section(study: Study) -> tuple[Section | None, list[str]]:
    """The transfer scores and similarity that `probe rank` computed; without any, what is missing."""
    lines, missing = score_files.read(study)
    if not lines:
        return None, missing
    accuracy = agreement.measured(study)
    scored = {(line.task, line.backbone, line.key) for line in lines}
    fitted = {key[:3] for key in accuracy if key[3] in METHODS}
    if late := len(fitted - scored):
        missing.append(
            f"{count(late, 'layer')} without transfer scores, fitted since; `probe rank` scores them too."
        )
    words = [
        "Transfer scores tell without a probe how well a layer suits a task; only their order means "
        "anything. Weighted Kendall tau is 1 where they order layers as the measured accuracy does, and "
        f"about 0 for an order by chance. A layer whose debiased CKA with an earlier one is above {COPY} "
        "is a near copy of it.",
        *missing,
    ]
    tables = [_score_table(lines, accuracy)]
    if agreed := agreement.agreements(lines, accuracy):
        cells = tuple((a.task, a.score, a.method, a.over, a.tau, a.pearson, a.n) for a in agreed)
        tables.append(Table("agreement", "Scores against measured accuracy", _AGREEMENT, cells))
    return Section("Transfer scores and similarity", words, _similarity_charts(study), tables), []


def _score_table(
    lines: Sequence[LayerScore], accuracy: Mapping[agreement.LayerMethod, float]
) -> Table:
    """The scores of every layer beside the accuracy of its best probe."""
    best: dict[tuple[str, str, str], float] = {}
    for (task, backbone, layer, _), value in accuracy.items():
        best[task, backbone, layer] = max(value, best.get((task, backbone, layer), 0.0))
    rows = tuple(
        (
            line.task, line.backbone, line.key, line.depth,
            *(getattr(line, name) for name in SCORES),
            best.get((line.task, line.backbone, line.key)), line.copy_of,
        )
        for line in sorted(lines, key=lambda line: (line.task, -line.logme))
    )  # fmt: skip
    note = "The accuracy is that of the layer's best probe, the mean over folds."
    return Table("scores", "Transfer scores", _SCORES, rows, note)


def _similarity_charts(study: Study) -> list[Chart]:
    """The map of similarity between layers, evenly thinned where there are many; none for one layer."""
    names, alike = score_files.read_alike(study)
    shown = [i for i, name in enumerate(names) if ":" not in name.rpartition("/")[2]]
    if len(shown) > _MOST_ALIKE:
        shown = [shown[i] for i in np.linspace(0, len(shown) - 1, _MOST_ALIKE).round().astype(int)]
    if len(shown) < 2:
        return []
    square = Square([names[i] for i in shown], alike[np.ix_(shown, shown)])
    return [Chart("How alike layers are (debiased linear CKA)", square, "similarity", unit="")]


def _distance_lines(
    lines: Sequence[Closeness], measure: str, pool: str, looks: Markers
) -> list[ChartLine]:
    """A line for every backbone and source domain: its colour is the source's, its shape the backbone's."""
    colour = slots([c.source for c in lines])
    shape = {name: number for (name, _), (_, number) in looks.items()}
    drawn = []
    measured = [c for c in lines if c.measure == measure and _pool(c) in (pool, "")]
    if not any(_pool(c) == pool for c in measured):
        return []
    for backbone, source in dict.fromkeys((c.backbone, c.source) for c in measured):
        here = [c for c in measured if (c.backbone, c.source) == (backbone, source)]
        pooled = {c.key.partition(":")[0] for c in here if _pool(c) == pool}
        # A layer without a map is the same under every pooling, and stands in every chart.
        here = [c for c in here if _pool(c) == pool or c.key not in pooled]
        here.sort(key=lambda c: c.depth)
        drawn.append(
            ChartLine(
                backbone,
                f"{backbone} to {source}",
                (colour[source], shape.get(backbone, 0) % SHAPES),
                here[0].domain == "none",
                [(c.key.partition(":")[0], c.depth, c.value, c.low, c.high) for c in here],
            )
        )
    return drawn


def _pool(c: Closeness) -> str:
    return c.key.partition(":")[2]


def _pool_words(pool: str) -> str:
    return f"pooling {pool}" if pool else "pooling auto or none"

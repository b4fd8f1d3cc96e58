"""The report of a study: a folder with the page, the figures and the tables."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import InputError, OptionError, nearest
from features.machine.files import file_name, sweep_folder, write_text
from features.machine.locks import locked
from features.study.study import Study, open_study
from probe.analysis.answer import answer
from probe.analysis.curves import TaskCurves, curves
from probe.analysis.label_efficiency import few_images
from probe.reporting.charts.figure_frame import save
from probe.reporting.charts.figures import curve_figure, gap_figure, tuned_figure
from probe.reporting.charts.labels_figure import labels_figure
from probe.reporting.charts.legend import tuned_signs
from probe.reporting.charts.standing_chart import standing_chart
from probe.reporting.charts.task_charts import answer_chart, charts
from probe.reporting.first_look import first_look
from probe.reporting.page.contents import Contents, TaskSection
from probe.reporting.page.labels_section import labels_section
from probe.reporting.page.page import looks, page
from probe.reporting.page.published_section import published_section
from probe.reporting.page.study_sections import closeness_section, planned_section, scores_section
from probe.reporting.page.training_section import training_section
from probe.reporting.short_answer import facts, sentence
from probe.reporting.tables.best import best_table
from probe.reporting.tables.cost import backbone_tables
from probe.reporting.tables.cumulative import cumulative_table
from probe.reporting.tables.failures import (
    class_table,
    confusion_matrices,
    confusion_table,
    hardest_classes,
    subgroup_table,
)
from probe.reporting.tables.labels import each_label_table, labels_fold_table, labels_table
from probe.reporting.tables.layers import fold_table, layer_table
from probe.reporting.tables.literature import literature_table
from probe.reporting.tables.numbers import number_fold_table, number_table
from probe.reporting.tables.reference import reference
from probe.reporting.tables.table import Table, to_csv, to_latex, to_markdown
from probe.reporting.tables.variations import repeats_table, views_table
from probe.reporting.tables.width import width_table
from probe.reporting.words import contaminations, findings, headline
from probe.results import rows as results
from probe.results.metrics import CURVES
from probe.results.one_state import of_one_state
from probe.results.rows import BEST

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_FOLDS = 500
"""A table per fold with more rows than this shows best rows only, since it would make the page slow."""


_MOST_LAYERS = 300
_PATIENCE = 120.0  # seconds, in which another process can write its report


@dataclass(frozen=True)
class Report:
    """A report: what it shows, and the folder that it was written to."""

    study: Study
    folder: Path
    tasks: tuple[TaskCurves, ...]
    contents: Contents
    tables: tuple[Table, ...]

    @property
    def index(self) -> Path:
        """The file of the page."""
        return self.folder / "index.html"


def report(
    study: Study | Path | str,
    metrics: Sequence[str] = ("accuracy",),
    by: Sequence[str] = (),
    progress: Callable[[int, int, str], None] = lambda _done, _all, _now: None,
    planned: Sequence[tuple[str, str]] = (),
    published: str | None = None,
    shortened: str = "",
) -> Report:
    """Write the report of a study into its folder `report/`: the page, figures and tables.

    Args:
        study: The study, or its folder.
        metrics: The metrics that are drawn as figures; the page has charts of all of them.
        by: Columns of images.csv whose values are subgroups; by default all with few values.
        progress: Is called with layers done, and in all, while distances to sources are measured.
        planned: Pairs of results, as `compare` takes them, whose differences were asked for in advance.
        published: A file of published numbers, which then stand first beside this study's: `paper`, or a
            path (reference.py).
        shortened: What shortened the study, which the page then says.

    Raises:
        InputError: Nothing is fitted yet, or the results cannot be compared, or a metric or column is
            unknown.
    """
    made = of_one_state(
        study.folder if isinstance(study, Study) else Path(study),
        lambda: _gathered(study, metrics, by, progress, planned, published, shortened),
    )
    opened, folder, contents, tables = made.study, made.folder, made.contents, made.tables
    folder.mkdir(exist_ok=True)
    with locked(opened.folder / ".report.lock", str(folder), _PATIENCE):
        sweep_folder(folder)
        figures = {
            name: figure
            for stem, task in _stems(made.tasks).items()
            for name, figure in _figures(stem, task, metrics, contents).items()
        }
        for name, figure in figures.items():
            save(figure, folder / name)
        for table in tables:
            if table.rows:
                write_text(folder / f"{table.name}.csv", to_csv(table))
                write_text(folder / f"{table.name}.md", to_markdown(table, opened.synthetic))
                write_text(folder / f"{table.name}.tex", to_latex(table, opened.synthetic))
        files = {table.name: ("csv", "md", "tex") for table in tables if table.rows}
        files |= dict.fromkeys(figures, ("svg", "png", "pdf"))
        contents = replace(contents, files=files)
        write_text(folder / "index.html", page(contents))
    return replace(made, contents=contents)


def _gathered(
    study: Study | Path | str,
    metrics: Sequence[str],
    by: Sequence[str],
    progress: Callable[[int, int, str], None],
    planned: Sequence[tuple[str, str]],
    published: str | None,
    shortened: str,
) -> Report:
    """All that a report shows, read from the study; the arguments are those of `report`."""
    opened = study if isinstance(study, Study) else open_study(study)
    folder = opened.folder / "report"
    _check_folder(folder)
    tasks = curves(opened)
    for metric in metrics:
        if metric not in CURVES:
            raise OptionError(f"--metric {metric}: not a metric; {nearest(metric, CURVES)}")
    beside = None if published is None else reference(published)
    contents = contents_of(opened, tasks, by, progress, planned)
    if beside is not None:
        rows = results.read(opened.folder / "results.csv")
        contents = replace(contents, first=published_section(opened, rows, beside))
    if shortened:
        words = f"Shortened by {shortened}: these are not the numbers of the whole study."
        contents = replace(contents, warnings=[words, *contents.warnings])
    classes = [task for task in tasks if task.has_classes]
    several = [task for task in tasks if task.has_labels]
    numbers = [task for task in tasks if task.is_number]
    tables = (
        *(contents.first.tables if contents.first else ()),
        best_table(classes),
        layer_table(classes),
        fold_table(classes),
        number_table(numbers),
        number_fold_table(numbers),
        labels_table(several),
        labels_fold_table(several),
        each_label_table(several),
        cumulative_table(tasks),
        class_table(classes),
        confusion_table(classes),
        subgroup_table(opened, classes, by),
        *contents.tables,
        *(table for section in contents.more for table in section.tables),
    )
    return Report(opened, folder, tuple(tasks), contents, tables)


def _check_folder(folder: Path) -> None:
    """Refuse a folder in which a file of the report could not take its place, before any is written."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder}: a file where the report's folder belongs; move it away.")
    for path in folder.glob("*.*"):
        if path.is_dir():
            raise InputError(f"{path}: a folder where the report writes a file; move it away.")


def _figures(
    stem: str, task: TaskCurves, metrics: Sequence[str], contents: Contents
) -> dict[str, Figure]:
    """The figures of a task that there is something to draw for, by the stems of their files."""
    headline, synthetic = task.headline, contents.study.synthetic
    figures = {
        f"curves-{stem}" + ("" if m == headline else f"-{m}"): curve_figure(task, synthetic, m)
        for m in (headline if m == "accuracy" else m for m in metrics)
        if m in task.metrics
    }
    figures[f"gap-{stem}"] = gap_figure(task, synthetic)
    figures[f"tuned-{stem}"] = tuned_figure(task, synthetic, headline)
    figures[f"labels-{stem}"] = labels_figure(contents.few, task.task, synthetic)
    return {name: figure for name, figure in figures.items() if figure is not None}


def contents_of(
    study: Study,
    tasks: Sequence[TaskCurves],
    by: Sequence[str] = (),
    progress: Callable[[int, int, str], None] = lambda _done, _all, _now: None,
    planned: Sequence[tuple[str, str]] = (),
) -> Contents:
    """What stands on the page of a study; the arguments are those of `report`."""
    drawn = [
        (curve.backbone, curve.domain)
        for task in tasks
        for curve in (*(c for p in task.panels for c in p.curves), *task.tuned)
    ]
    chosen = [(best.backbone, best.domain) for task in tasks for best in task.best]
    backbones = list(dict.fromkeys([*drawn, *chosen]))
    look = looks(backbones)
    sections = [
        TaskSection(
            task.task,
            sentence(task, made := answer(task, study.closest)),
            facts(task, made, study.closest),
            standing_chart(task, look),
            answer_chart(task, look),
            headline(task, study.closest),
            findings(task),
            charts(task, look),
            _tables(study, task, by),
            tuned_signs(task),
            bool(task.pairs),
        )
        for task in tasks
    ]
    rows = results.read(study.folder / "results.csv")
    several = (repeats_table(study, rows), views_table(rows), width_table(study, rows))
    whole = [literature_table(study.source, tasks), *several, *backbone_tables(study)]
    tables = [table for table in whole if table is not None]
    closeness = closeness_section(study, tasks, look, progress)
    scores, missing = scores_section(study)
    if closeness is None:
        missing.append(
            "The distance to source domains: `probe extract --backbone NAME --source DOMAIN=DIR` takes "
            "samples of them."
        )
    shown = {task.task for task in tasks}
    look_only = first_look(study, tasks)
    warnings = [look_only] if look_only else []
    warnings += contaminations(study) + [
        f"{name}: left out, since the study changed after its results were made; `probe fit` makes them "
        "again, and `probe finetune` those of a fine-tune."
        for name in study.tasks
        if name not in shown and any(row.task == name for row in rows)
    ]
    warnings += [f"{task.task}, {words}" for task in tasks for words in task.left_out]
    seen = {name for task in tasks for name in task.have_seen}
    few = few_images(study, rows)
    labels = labels_section(study, few, look, seen)
    more = (planned_section(study, planned), labels, closeness, training_section(study), scores)
    most = max(task.n for task in tasks)
    images = f"{most:,} of {len(study):,}" if most < len(study) else f"{most:,}"
    return Contents(
        study,
        sections,
        backbones,
        images,
        tables,
        warnings,
        missing,
        _origin(study, tasks),
        more=[section for section in more if section is not None],
        few=few,
    )


def _origin(study: Study, tasks: Sequence[TaskCurves]) -> list[tuple[str, str]]:
    """The day of the results, the toolkit's version, and the hashes of the protocols."""
    day = datetime.fromtimestamp((study.folder / "results.csv").stat().st_mtime, UTC)
    protocols = {
        row.protocol for task in tasks for row in (*(r for b in task.best for r in b.rows),)
    }
    origin = [("results of", f"{day:%Y-%m-%d}"), ("transfer-probe", version("transfer-probe"))]
    return origin + [("protocol", name) for name in sorted(protocols)]


def _of_highest(layers: Table) -> Table:
    """The table of all layers; of very many rows those of highest accuracy, for the page to open fast."""
    if len(layers.rows) <= _MOST_LAYERS:
        return layers
    place = [column.name for column in layers.columns].index("accuracy")
    order = sorted(range(len(layers.rows)), key=lambda i: -float(str(layers.rows[i][place])))
    rows = tuple(layers.rows[i] for i in sorted(order[:_MOST_LAYERS]))
    note = (
        f"The {_MOST_LAYERS} rows of highest accuracy; all {len(layers.rows):,} are in table.csv."
    )
    return replace(layers, rows=rows, note=note)


def _tables(study: Study, task: TaskCurves, by: Sequence[str]) -> list[Table]:
    """The tables of one task, without those that have no rows."""
    if task.is_number:
        made = [number_table([task]), number_fold_table([task]), cumulative_table([task])]
        return [table for table in made if table.rows]
    if task.has_labels:
        made = [labels_table([task]), each_label_table([task]), labels_fold_table([task])]
        return [table for table in made if table.rows]
    folds = fold_table([task])
    if len(folds.rows) > _MOST_FOLDS:
        best = tuple(row for row in folds.rows if BEST in row)
        note = f"Only best rows are shown; all {len(folds.rows):,} rows are in folds.csv."
        folds = replace(folds, rows=best, note=note)
    tables = [
        _of_highest(layer_table([task])),
        folds,
        cumulative_table([task]),
        hardest_classes(task),
        *confusion_matrices(task),
        subgroup_table(study, [task], by),
    ]
    return [table for table in tables if table.rows]


def _stems(tasks: Sequence[TaskCurves]) -> dict[str, TaskCurves]:
    """The tasks by the stem of their files' names; tasks that would share a stem have a hash in it."""
    names = [file_name(task.task) for task in tasks]
    stems = {}
    for name, task in zip(names, tasks, strict=True):
        digest = hashlib.sha256(task.task.encode("utf-8", "replace")).hexdigest()[:6]
        stems[name if names.count(name) == 1 else f"{name}-{digest}"] = task
    return stems

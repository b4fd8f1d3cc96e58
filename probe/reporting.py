"""The report folder: the page, the figures and the tables of a study."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError
from features.files import file_name, write_text
from features.study import Study, open_study
from probe.cost import backbone_tables
from probe.curves import TaskCurves, curves
from probe.drawing import charts
from probe.figures import curve_figure, gap_figure, save, tuned_figure
from probe.listing import fold_table, layer_table
from probe.page import Contents, TaskSection, looks, page
from probe.tables import Table, to_csv, to_latex, to_markdown
from probe.words import contaminations, findings, headline


@dataclass(frozen=True)
class Report:
    """What was drawn and where it lies."""

    study: Study
    folder: Path
    tasks: tuple[TaskCurves, ...]
    contents: Contents
    tables: tuple[Table, ...]

    @property
    def index(self) -> Path:
        """The page."""
        return self.folder / "index.html"


def report(study: Study | Path | str, metrics: Sequence[str] = ("accuracy",)) -> Report:
    """Draw the report of a study into its folder `report/`.

    Args:
        study: The study, or its folder.
        metrics: Which figures to draw as files; the page has all of them.

    Raises:
        InputError: Nothing is fitted yet, or the results cannot be compared.
    """
    opened = study if isinstance(study, Study) else open_study(study)
    found = curves(opened)
    if not found:
        raise InputError(f"{opened.folder}: no task of study.toml has results; run `probe fit`.")
    tables = (layer_table(found), fold_table(found))
    contents = contents_of(opened, found)
    folder = opened.folder / "report"
    folder.mkdir(exist_ok=True)
    for stem, task in _stems(found).items():
        drawn = {
            f"curves-{stem}" + ("" if m == "accuracy" else f"-{m}"): curve_figure(
                task, opened.synthetic, m
            )
            for m in metrics
            if m in task.metrics
        }
        drawn[f"gap-{stem}"] = gap_figure(task, opened.synthetic)
        drawn[f"tuned-{stem}"] = tuned_figure(task, opened.synthetic)
        for name, figure in drawn.items():
            if figure is not None:
                save(figure, folder / name)
    for table in tables:
        write_text(folder / f"{table.name}.csv", to_csv(table))
    write_text(folder / "table.md", to_markdown(tables[0], opened.synthetic))
    write_text(folder / "table.tex", to_latex(tables[0], opened.synthetic))
    write_text(folder / "index.html", page(contents))
    return Report(opened, folder, tuple(found), contents, tables)


def contents_of(study: Study, found: Sequence[TaskCurves]) -> Contents:
    """What stands on the page of a study."""
    backbones = list(
        dict.fromkeys(
            (curve.backbone, curve.domain)
            for task in found
            for curve in (*(c for p in task.panels for c in p.curves), *task.tuned)
        )
    )
    look = looks(backbones)
    sections = [
        TaskSection(
            task.task,
            headline(task, study.closest),
            findings(task),
            charts(task, look),
            [layer_table([task])],
        )
        for task in found
    ]
    return Contents(study, sections, backbones, backbone_tables(study), contaminations(study))


def _stems(found: Sequence[TaskCurves]) -> dict[str, TaskCurves]:
    """A file name for every task; those that would share one get a mark of their own."""
    names = [file_name(task.task) for task in found]
    stems = {}
    for name, task in zip(names, found, strict=True):
        mark = hashlib.sha256(task.task.encode("utf-8", "replace")).hexdigest()[:6]
        stems[name if names.count(name) == 1 else f"{name}-{mark}"] = task
    return stems

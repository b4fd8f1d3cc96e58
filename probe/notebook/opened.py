"""A study as Python opens it: with its results as a table and its curves as figures."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from shlex import quote

import numpy as np

from features.data.tasks import Task
from features.errors import InputError, OptionError, nearest
from features.study.study import Study
from features.study.study import open_study as opened
from probe.analysis.curves import curves
from probe.html_table import html_table
from probe.notebook.drawn_curve import DrawnCurve
from probe.notebook.results_table import ResultsTable
from probe.results import rows


@dataclass(frozen=True, repr=False)
class OpenedStudy(Study):
    """A study, its results and its curves."""

    def results(self) -> ResultsTable:
        """All rows of results.csv; of a study that nothing is fitted in, none.

        Raises:
            InputError: The file does not read.
        """
        return ResultsTable(tuple(rows.read(self.folder / "results.csv")))

    def curve(self, task: str, metric: str | None = None) -> DrawnCurve:
        """A metric of a task over depth, which draws itself in a notebook.

        Args:
            task: The task.
            metric: A metric that has a curve, such as `balanced`; by default the accuracy, or
                the mean absolute error of a number.

        Raises:
            InputError: There is no such task, or nothing is fitted for it.
            OptionError: The task has no curve of such a metric.
        """
        now = opened(self.folder)  # a fit since this was opened may have found copies
        if task not in now.tasks:
            raise InputError(f"{self.folder}: no task {task}; {nearest(task, now.tasks)}")
        found = next((each for each in curves(now) if each.task == task), None)
        if found is None or not found.panels:
            raise InputError(
                f"task {task}: no probe is fitted for it; run `probe fit --task {quote(task)}`."
            )
        if metric is not None and metric not in found.metrics:
            raise OptionError(
                f"metric {metric}: task {task} has no curve of it; {nearest(metric, found.metrics)}"
            )
        return DrawnCurve(found, metric or found.headline, self.synthetic)

    def _repr_html_(self) -> str:
        """Data, images, tasks and backbones, for a notebook."""
        tasks = (f"{task.name} ({_kind(task)})" for task in self.tasks.values())
        told = {
            "study": str(self.folder),
            "data": self.source + (", SYNTHETIC: drawn images" if self.synthetic else ""),
            "images": f"{len(self):,}, of {len(np.unique(self.subjects)):,} subjects",
            "tasks": ", ".join(tasks),
            "backbones": ", ".join(self.backbones()) or "none extracted yet",
        }
        return html_table(told)


def _kind(task: Task) -> str:
    if task.is_number:
        return "a number"
    return f"{len(task.classes)} {'labels' if task.has_labels else 'classes'}"


def open_study(folder: Path | str) -> OpenedStudy:
    """Open the study in `folder`.

    `study.features("vggface")["fc6"]` is an array `(images, dim)`, `study.labels("age")` the class numbers
    `(images,)`, `study.results()` a table and `study.curve("age")` a figure.

    Raises:
        InputError: There is none, or its study.toml or images.csv cannot be used.
    """
    study = opened(folder)
    return OpenedStudy(**{each.name: getattr(study, each.name) for each in fields(study)})

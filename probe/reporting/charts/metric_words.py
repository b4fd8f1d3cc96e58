"""A metric as people read it of a task: its name there, and its unit."""

from __future__ import annotations

from dataclasses import replace

from probe.analysis.curves import TaskCurves
from probe.results.metrics import CURVES, Metric


def of_task(task: TaskCurves, metric: str) -> Metric:
    """The metric called so in `CURVES`, with the words for the kind of the task."""
    about = CURVES[metric]
    if task.is_number:
        return about.in_unit(task.unit)
    return replace(about, words=about.labels_words or about.words) if task.has_labels else about

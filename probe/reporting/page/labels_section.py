"""The page's section on how many labelled images it takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from features.study.study import Study
from probe.analysis.label_efficiency import FewImages, labels_saved
from probe.reporting.charts.chart import Chart, ChartLine, line_chart
from probe.reporting.charts.markers import Markers
from probe.reporting.page.contents import Section
from probe.reporting.tables.variations import few_shot_table
from probe.results.rows import BEST


def labels_section(
    study: Study, made: Sequence[FewImages], looks: Markers, seen: Collection[str]
) -> Section | None:
    """Accuracy over the training images per class; None where nothing was fitted on few of them.

    Args:
        study: The study.
        made: What was fitted on few of the training images.
        looks: Colour and shape of every backbone.
        seen: Backbones that have seen the test images.
    """
    table = few_shot_table(made)
    if table is None:
        return None
    best = [one for one in made if one.layer == BEST]
    charts = [
        _chart(
            task, method, [one for one in best if (one.task, one.method) == (task, method)], looks
        )
        for task, method in dict.fromkeys((one.task, one.method) for one in best)
    ]
    words = [str(each) for each in labels_saved(made, study, seen)]
    return Section("How many labels it takes", words, charts, [table])


def _chart(task: str, method: str, made: Sequence[FewImages], looks: Markers) -> Chart:
    """A line for every backbone at its `best` rows; sizes stand beside each other, at equal distances."""
    sizes = sorted({round(one.per_class) for one in made})
    lines = [
        ChartLine(
            name,
            name,
            looks.get((name, domain), (0, 0)),
            domain == "none",
            [
                (
                    str(round(one.per_class)),
                    0.0,
                    one.interval.value,
                    one.interval.low,
                    one.interval.high,
                )
                for one in sorted(made, key=lambda one: one.per_class)
                if one.backbone == name
            ],
        )
        for name, domain in dict.fromkeys((one.backbone, one.domain) for one in made)
    ]
    title = f"accuracy over training images per class: {task}, {method}"
    return line_chart(title, "accuracy", lines, "%", along=[str(size) for size in sizes])

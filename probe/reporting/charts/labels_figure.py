"""The figure of how many labels it takes: accuracy over training images per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from probe.analysis.label_efficiency import FewImages
from probe.reporting.charts.figure_frame import (
    add_title_and_legend,
    figure_style,
    label_axes,
    new_figure,
)
from probe.reporting.charts.markers import LIGHT, shapes, slots
from probe.results.rows import BEST

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

_SHAPES = "osD^vPX*"


def labels_figure(made: Sequence[FewImages], task: str, synthetic: bool) -> Figure | None:
    """A panel for each method, a line with its band for each backbone at its best layer; None without any.

    Numbers of images stand at equal distances, the fewest first.
    """
    best = [one for one in made if one.task == task and one.layer == BEST]
    methods = list(dict.fromkeys(one.method for one in best))
    if not methods:
        return None
    sizes = {round(one.per_class): "" for one in sorted(best, key=lambda one: one.per_class)}
    ticks = {str(size): place for place, size in enumerate(sizes)}
    colours = slots([one.domain for one in best])
    marks = shapes([one.backbone for one in best])
    handles: dict[str, Artist] = {}
    with figure_style():
        figure, axes = new_figure(1, len(methods))
        for ax, method in zip(axes[0], methods, strict=True):
            of_method = [one for one in best if one.method == method]
            for name, domain in dict.fromkeys((one.backbone, one.domain) for one in of_method):
                line = sorted(
                    (one for one in of_method if one.backbone == name),
                    key=lambda one: one.per_class,
                )
                x = [ticks[str(round(one.per_class))] for one in line]
                low, high, y = (
                    [100 * getattr(one.interval, part) for one in line]
                    for part in ("low", "high", "value")
                )
                colour = LIGHT[colours[domain]]
                if np.isfinite(low).all():
                    ax.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
                (drawn,) = ax.plot(
                    x, y, color=colour, marker=_SHAPES[marks[name]], markersize=3.5,
                    linestyle="--" if domain == "none" else "-",
                )  # fmt: skip
                handles.setdefault(f"{name} ({domain})", drawn)
            label_axes(ax, method, ticks, "accuracy", "training images per class")
        add_title_and_legend(
            figure, axes, handles, f"{task}: accuracy over training images", synthetic
        )
    return figure

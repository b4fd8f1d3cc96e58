"""A metric of a task over depth, which draws itself in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from probe.analysis.curves import TaskCurves
from probe.analysis.points import Curve, Point
from probe.counts import count
from probe.reporting.charts.figure_frame import render
from probe.reporting.charts.figures import curve_figure
from probe.results.metrics import CURVES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class DrawnCurve:
    """The curves of a task's backbones, under every probe and pooling."""

    task: TaskCurves
    """Everything that is known of them."""
    metric: str
    synthetic: bool = False

    @property
    def _points(self) -> list[tuple[str, Curve, Point]]:
        return [
            (panel.pool, curve, point)
            for panel in self.task.panels
            for curve in panel.curves
            for point in curve.points
            if self.metric in point.metrics
        ]

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        """The points as arrays: backbone, method, pool, layer, depth, value and its 95 % interval."""
        points = self._points
        values = [point.metrics[self.metric] for _, _, point in points]
        return {
            "backbone": np.array([curve.backbone for _, curve, _ in points], dtype=np.str_),
            "method": np.array([curve.method for _, curve, _ in points], dtype=np.str_),
            "pool": np.array([pool for pool, _, _ in points], dtype=np.str_),
            "layer": np.array([point.layer for _, _, point in points], dtype=np.str_),
            "depth": np.array([point.depth for _, _, point in points]),
            "value": np.array([value.value for value in values]),
            "low": np.array([value.low for value in values]),
            "high": np.array([value.high for value in values]),
        }

    def figure(self) -> Figure:
        """A figure of matplotlib: a row per probe, a column per pooling, a line per backbone."""
        made = curve_figure(self.task, self.synthetic, self.metric)
        assert made is not None  # there is a panel
        return made

    def __repr__(self) -> str:
        """The task, the metric and how many points the lines of backbones have."""
        numbers: dict[str, int] = {}
        for _, curve, _ in self._points:
            numbers[curve.backbone] = numbers.get(curve.backbone, 0) + 1
        lines = ", ".join(f"{name} ({count(n, 'point')})" for name, n in numbers.items())
        return f"<{self.task.task}: {CURVES[self.metric].words} over depth; {lines}>"

    def _repr_svg_(self) -> str:
        """The figure."""
        return render(self.figure(), "svg").decode()

    def _repr_html_(self) -> str:
        """The figure, and what it is of, for a notebook."""
        svg = self._repr_svg_()
        task = self.task
        told = (
            f"{task.task}: {task.n:,} images, {count(task.folds, 'fold')}; bands are 95 % intervals"
        )
        return f"<figure>{svg[svg.index('<svg') :]}<figcaption>{escape(told)}</figcaption></figure>"

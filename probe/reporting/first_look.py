"""Whether the results of a study are a first look, as `--quick` of `extract` and `fit` makes one."""

from __future__ import annotations

from collections.abc import Sequence

from features.study.study import Study
from probe.analysis.curves import TaskCurves
from probe.counts import count

_PROBE, _POOLS = "ridge", {"avg", "none"}
"""What `fit --quick` fits: one probe, on maps that are averaged."""


def first_look(study: Study, tasks: Sequence[TaskCurves]) -> str | None:
    """That everything fitted is a first look, and what would make it whole; None for any other study.

    Any other probe, or any other pooling of a map, is a sign that more was fitted.
    """
    panels = [panel for task in tasks for panel in task.panels]
    if not any(panel.pool == "avg" for panel in panels):
        return None
    if any(panel.method != _PROBE or panel.pool not in _POOLS for panel in panels):
        return None
    fitted: dict[str, set[str]] = {}
    for panel in panels:
        for curve in panel.curves:
            if curve.domain != "control":
                fitted.setdefault(curve.backbone, set()).update(p.layer for p in curve.points)
    most = max(len(layers) for layers in fitted.values()) if fitted else 0
    images = max(task.n for task in tasks)
    drawn = f", {images:,} of {len(study):,} images" if images < int(study.used.sum()) else ""
    return (
        f"A first look: ridge alone, at up to {count(most, 'layer')} of a network, maps averaged{drawn}. "
        "Averages lose the layout of a map, so random weights read low, and the order may change: "
        "`probe extract` and `probe fit` without --quick fill in the rest."
    )

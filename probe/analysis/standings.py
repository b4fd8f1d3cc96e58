"""How everything that was tried on a task stands: an accuracy for each backbone and fine-tune.

Of a number it is the mean absolute error throughout, of several labels the mean average precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probe.analysis.answer import FLOOR, whole
from probe.analysis.curves import TaskCurves
from probe.analysis.points import Best
from probe.analysis.random_draws import network_of, spread
from probe.analysis.shorten import shorten
from probe.analysis.statistics import Interval

_SAME = 5e-4
"""Accuracies that differ by less are one line: with balanced classes the most frequent is chance."""


@dataclass(frozen=True)
class Standing:
    """A backbone at its best layer, or a fine-tune of a whole network."""

    backbone: str
    domain: str
    method: str
    layers: tuple[str, ...]
    """The layer chosen in each fold; empty for a fine-tune."""
    accuracy: Interval
    has_seen: bool = False
    """Whether its weights were trained on the test images, so that its accuracy is too high."""
    unlike: tuple[str, ...] = ()
    """What of its protocol differs from that of the leading probe, so that the two cannot be compared."""


@dataclass(frozen=True)
class Reference:
    """What an accuracy is held against: guessing, or features that no training made."""

    name: str
    accuracy: Interval
    """For several draws of random weights their mean, from the smallest to the largest."""


def standings(task: TaskCurves) -> list[Standing]:
    """Every trained backbone at its highest `best` row, and every fine-tune; the highest accuracy first."""
    tops = _top_of_each(task)
    rows = [
        Standing(
            best.backbone,
            best.domain,
            best.method,
            best.chosen,
            best.headline,
            best.backbone in task.have_seen,
        )
        for best in tops
        if best.domain not in FLOOR
    ]
    leading = tops[0].rows[0].result_name if tops else None
    for curve in task.tuned:
        point = whole(curve)
        if point is not None:
            unlike = task.outcomes.unlike(point.rows[0].result_name, leading) if leading else []
            rows.append(
                Standing(
                    curve.backbone,
                    curve.domain,
                    curve.method,
                    (),
                    point.headline,
                    curve.backbone in task.have_seen,
                    tuple(unlike),
                )
            )
    best_first = 1 if task.is_number else -1
    # What has seen the test images does not lead: it stands below.
    return sorted(rows, key=lambda row: (row.has_seen, best_first * row.accuracy.value))


def references(task: TaskCurves) -> list[Reference]:
    """Chance, the most frequent class (or the median), controls and random weights; the lowest first."""
    made = []
    if task.chance is not None:
        made.append(Reference("chance", _alone(task.chance)))
    if task.majority is not None and abs(task.majority - (task.chance or 0.0)) > _SAME:
        made.append(Reference(task.floor_words, _alone(task.majority)))
    floor = [best for best in _top_of_each(task) if best.domain in FLOOR]
    networks: dict[str, list[Best]] = {}
    for best in floor:
        networks.setdefault(network_of(best.backbone), []).append(best)
    for network, draws in networks.items():
        if len(draws) == 1:
            made.append(Reference(network.removeprefix("control:"), draws[0].headline))
        else:
            accuracy = spread([best.headline.value for best in draws])
            made.append(Reference(f"{network}, {len(draws)} draws", accuracy))
    return sorted(made, key=lambda reference: reference.accuracy.value)


def _alone(value: float) -> Interval:
    return Interval(value, float("nan"), float("nan"), float("nan"))


def leader_of(task: TaskCurves) -> str | None:
    """The trained backbone of the highest `best` row, of those that have not seen the test images."""
    rows = [best for best in _top_of_each(task) if best.domain not in FLOOR]
    unseen = [best for best in rows if best.backbone not in task.have_seen]
    return unseen[0].backbone if unseen else None


def layers_words(
    task: TaskCurves, backbone: str, chosen: Sequence[str], longest: int | None = None
) -> str:
    """The layer that the folds chose, or `varies (FIRST to LAST)` by depth where they differ.

    Of names of more than `longest` characters the middle is left out.
    """
    depth = {
        point.layer: point.depth
        for panel in task.panels
        for curve in panel.curves
        if curve.backbone == backbone
        for point in curve.points
    }
    layers = dict.fromkeys(key.partition(":")[0] for key in chosen)
    pools = dict.fromkeys(key.partition(":")[2] or "auto" for key in chosen)
    ordered = sorted(layers, key=lambda layer: depth.get(layer, 0.0))
    if longest is not None:
        ordered = [shorten(layer, longest) for layer in ordered]
    if len(ordered) < 2:
        pool = next(iter(pools), "")
        pooling = f":{pool}" if pool not in ("", "auto") else ""
        return "".join(ordered) + (pooling if len(pools) < 2 else ", pooling varies")
    return f"varies ({ordered[0]} to {ordered[-1]})"


def _top_of_each(task: TaskCurves) -> list[Best]:
    """The `best` row of highest accuracy of every backbone, whatever its method."""
    top: dict[tuple[str, str], Best] = {}
    for best in sorted(task.best, key=lambda b: -b.worth):
        top.setdefault((best.backbone, best.domain), best)
    return list(top.values())

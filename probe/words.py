"""The findings of a study in sentences, made from the numbers and nothing else."""

from __future__ import annotations

import json

from features.study import Study
from probe.curves import Gap, TaskCurves
from probe.statistics import Interval


def contaminations(study: Study) -> list[str]:
    """Which backbones' weights were trained on this study's own data, one sentence each."""
    said = []
    for name in study.backbones():
        with study.features(name) as file:
            data = json.loads(file.attributes.get("trained_on_this", "[]"))
        if data:
            said.append(
                f"The weights of {name} were trained on {' and '.join(data)}, which this study seems "
                "to be of: their frozen features have seen the test images, so that accuracy "
                "flatters them."
            )
    return said


def findings(found: TaskCurves) -> list[str]:
    """What the curves of one task say, one sentence each."""
    said = [
        f"{found.n} images of {found.subjects} subjects (effectively "
        f"{found.effective_subjects:.0f}), {found.folds} folds, {len(found.classes)} classes; chance "
        f"is {_percent(found.chance)}, always saying the most frequent class "
        f"{_percent(found.majority)}."
    ]
    for method in dict.fromkeys(best.method for best in found.best):
        mine = [best for best in found.best if best.method == method]
        ranks = "; ".join(f"{b.backbone} ({b.domain}) {b.accuracy}" for b in mine)
        said.append(f"{method}, layer chosen inside the training folds: {ranks}.")
    for method, a, b, difference in found.differences:
        said.append(f"{method}: {a} against {b}: {verdict(difference)}.")
    titles = dict.fromkeys((p.method, g.title) for p in found.panels for g in p.gaps)
    for method, title in titles:
        gaps = {
            p.pool: g
            for p in found.panels
            if p.method == method
            for g in p.gaps
            if g.title == title
        }
        said.append(gap_sentence(method, gaps))
    return said


def verdict(difference: Interval) -> str:
    """A difference in points, and whether the interval leaves its sign open."""
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]" + (
        ", within noise" if difference.low <= 0 <= difference.high else ""
    )


def gap_sentence(method: str, gaps: dict[str, Gap]) -> str:
    """The gap of one pair at its ends and its slope, under each pooling."""
    parts = []
    signs = set()
    for pool, gap in gaps.items():
        first, last = gap.points[0], gap.points[-1]
        trend = gap.slope
        sign = 0 if trend.low <= 0 <= trend.high else (1 if trend.low > 0 else -1)
        signs.add(sign)
        grows = {0: "no clear trend", 1: "it grows with depth", -1: "it shrinks with depth"}[sign]
        parts.append(
            ("" if pool == "none" else f"pooling {pool}: ")
            + f"{100 * first.gap:+.1f} points at {first.layer}, {100 * last.gap:+.1f} at {last.layer}, "
            f"{grows} (slope {100 * trend.value:+.1f} [{100 * trend.low:+.1f}, {100 * trend.high:+.1f}])"
        )
    title = next(iter(gaps.values())).title
    tail = "; the trend depends on the pooling" if len(signs) > 1 else ""
    return f"{method}, domain gap {title}: " + "; ".join(parts) + tail + "."


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"

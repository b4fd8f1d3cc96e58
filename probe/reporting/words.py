"""The findings of a study in sentences, made from the numbers and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from features.study.study import Study
from probe.analysis.answer import Answer, answer, whole
from probe.analysis.curves import TaskCurves
from probe.analysis.gaps import Gap
from probe.analysis.outcomes import name_of
from probe.analysis.points import Best
from probe.analysis.statistics import Interval


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


def headline(found: TaskCurves, closest: str | None) -> list[str]:
    """The answer first: what to use, what the closest domain buys, what fine-tuning adds, what is noise."""
    made = answer(found, closest)
    if made is None:
        return [
            "No probe has been fitted on this task: `probe fit` makes the curves of its layers."
        ]
    said = [_leader(found, made)]
    said += _closest(found, made, closest)
    if made.scratch is not None:
        c = made.scratch
        said.append(f"Against training from scratch: {c.a} over {c.b}: {verdict(c.difference)}.")
    if made.random is not None:
        c = made.random
        said.append(f"Over the floor: {c.a} over {c.b}: {verdict(c.difference)}.")
    if made.tuning is not None:
        c = made.tuning
        adds = "adds to" if c.difference.low > 0 else "against"
        said.append(f"Fine-tuning: {c.a} {adds} the best probe, {c.b}: {verdict(c.difference)}.")
    else:
        said.append("Not in this study: fine-tuning, so whether a probe is enough is not answered.")
    if made.scratch is None:
        said.append("Not in this study: a network trained from scratch.")
    return said


def findings(found: TaskCurves) -> list[str]:
    """What the curves of one task say in detail, one sentence each."""
    said = [_counts(found)]
    for method in dict.fromkeys(best.method for best in found.best):
        mine = [best for best in found.best if best.method == method]
        ranks = "; ".join(f"{b.backbone} ({b.domain}) {percent(b.accuracy)}" for b in mine)
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
    said += _tuned(found)
    if found.outcomes.outdated:
        said.append(found.outcomes.left_out[0].upper() + found.outcomes.left_out[1:])
    if found.outcomes.missing:
        said.append(
            f"predictions.h5 lacks {len(found.outcomes.missing)} of the layers in results.csv: their "
            "numbers are means over folds, without an interval."
        )
    return said


def verdict(difference: Interval) -> str:
    """A difference in points, and whether the interval leaves its sign open."""
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    if np.isnan(low):
        return f"{value:+.1f} points"
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]" + (
        ", within noise" if difference.low <= 0 <= difference.high else ""
    )


def percent(accuracy: Interval) -> str:
    """In per cent, with the interval where one is known."""
    return f"{100 * accuracy.value:.1f} %" if np.isnan(accuracy.low) else str(accuracy)


def gap_sentence(method: str, gaps: Mapping[str, Gap]) -> str:
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


def layers_of(best: Best) -> str:
    """The layers a backbone chose, most frequent first, with how many folds chose each."""
    counts = {name: best.chosen.count(name) for name in dict.fromkeys(best.chosen)}
    ranked = sorted(counts, key=lambda name: -counts[name])
    if len(ranked) == 1:
        return ranked[0]
    return ", ".join(f"{name} ({counts[name]} of {len(best.chosen)} folds)" for name in ranked)


def _leader(found: TaskCurves, made: Answer) -> str:
    top = made.leader
    score = f"{percent(top.accuracy)} at {layers_of(top)}"
    if not made.behind:
        return f"{top.backbone} ({top.domain}) with {top.method} reaches {score}."
    if made.wins:
        second = made.behind[0]
        return (
            f"Transfer from {top.backbone} ({top.domain}): {top.method} reaches {score}, ahead of every "
            f"other backbone beyond noise; of the next, {second.b}, by {verdict(second.difference)}."
        )
    names = ", ".join(
        f"{c.b} ({verdict(c.difference).removesuffix(', within noise')})" for c in made.noise
    )
    others = len(made.behind) - len(made.noise)
    return (
        f"No single winner: {top.backbone} ({top.domain}) with {top.method} reaches {score}; within "
        f"noise of it: {names}"
        + (f"; {others} more are behind it beyond noise." if others else ".")
    )


def _closest(found: TaskCurves, made: Answer, closest: str | None) -> list[str]:
    if closest is None:
        return [
            'Which domain is closest is not said: `closest = "DOMAIN"` in study.toml names it, and '
            "this page then says what it buys."
        ]
    if made.closest is None:
        return [
            f"What the closest domain, {closest}, buys is not answered: the study has no two trained "
            "backbones of which one is of that domain."
        ]
    c = made.closest
    said = (
        f"The closest domain, {closest}: {c.a} against {c.b}, each at its own best layer: "
        f"{verdict(c.difference)}"
    )
    if made.gap is not None:
        layer, gap = made.gap
        if gap is None:
            return [
                f"{said}; they are a pair, but the domain gap at {layer} is not known: not both have "
                "results there."
            ]
        return [f"{said}; they are a pair, and at {layer} the domain gap is {verdict(gap)}."]
    return [f"{said}. They differ in architecture, input and width too, so this is no domain gap."]


def _counts(found: TaskCurves) -> str:
    majority = (
        f", always saying the most frequent class {100 * found.majority:.1f} %"
        if found.majority is not None
        else ""
    )
    return (
        f"{found.n} images of {found.subjects} subjects (effectively "
        f"{found.effective_subjects:.0f}), {found.folds} folds, {len(found.classes)} classes; chance "
        f"is {100 * found.chance:.1f} %{majority}."
    )


def _tuned(found: TaskCurves) -> list[str]:
    """Every frozen or copied curve at its deepest cut, against the network that has none."""
    said = []
    for curve in found.tuned:
        point = whole(curve)
        if point is not None:
            probes = [name_of(best.rows[0]) for best in found.best[:1]]
            apart = [
                w for one in probes for w in found.outcomes.unlike(name_of(point.rows[0]), one)
            ]
            why = f"; not compared with the probes, of other {', '.join(apart)}" if apart else ""
            said.append(f"{curve.method} of {curve.backbone}: {percent(point.accuracy)}{why}.")
    scratch = {
        c.backbone: p.accuracy.value
        for c in found.tuned
        if c.kind == "scratch"
        for p in (whole(c),)
        if p is not None
    }
    for curve in found.tuned:
        cuts = [p for p in curve.points if p.layer]
        if not cuts:
            continue
        base = scratch.get(curve.backbone, max(scratch.values(), default=None))
        last = cuts[-1]
        against = (
            f", {100 * (last.accuracy.value - base):+.1f} points against training from scratch"
            if base is not None
            else ""
        )
        said.append(
            f"{curve.backbone} {curve.method} through {cuts[0].layer}: {percent(cuts[0].accuracy)}; "
            f"through {last.layer}: {percent(last.accuracy)}{against}."
        )
    return said

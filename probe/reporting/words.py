"""The findings of a study in sentences, made from its numbers alone."""

from __future__ import annotations

import json
from collections.abc import Mapping

from features.study.study import Study
from probe.analysis.answer import Answer, Contrast, answer, whole
from probe.analysis.curves import TaskCurves
from probe.analysis.gaps import Gap
from probe.analysis.points import Best
from probe.analysis.scale import POINTS, Scale
from probe.analysis.statistics import Interval
from probe.counts import count

_NOISE = ", within noise"


def contaminations(study: Study) -> list[str]:
    """Which backbones' weights were trained on this study's own data, one sentence each."""
    sentences = []
    for name in study.backbones():
        with study.features(name) as file:
            data = json.loads(file.attributes.get("trained_on_this", "[]"))
        if data:
            sentences.append(
                f"The weights of {name} were trained on {' and '.join(data)}, which seems to be this "
                "study's data: the network has seen the test images, so its accuracy is too high."
            )
    return sentences


def headline(task: TaskCurves, closest: str | None) -> list[str]:
    """The answer first: what to use, what the closest domain buys, what fine-tuning adds, what is noise."""
    made = answer(task, closest)
    if made is None:
        return [
            "No probe has been fitted on this task; run `probe fit` for the curves of its layers."
        ]
    scale = task.scale
    sentences = [_leader(made, scale)]
    sentences += _closest(made, closest, scale)
    if made.scratch is not None:
        sentences.append(f"Training from scratch: {contrast(made.scratch, scale)}.")
    if made.random is not None:
        sentences.append(f"Random weights and controls: {contrast(made.random, scale)}.")
    if made.tuning is not None:
        c = made.tuning
        sentences.append(
            f"Fine-tuning: {c.a} against the best probe, {c.b}: {verdict(c.difference, scale)}."
        )
    else:
        sentences.append(
            "This study has no fine-tuning, so it does not tell whether a probe is enough."
        )
    if made.scratch is None:
        sentences.append("This study has no network trained from scratch.")
    return sentences


def findings(task: TaskCurves) -> list[str]:
    """What the curves of one task show in detail, one sentence each."""
    sentences, scale = [_counts(task)], task.scale
    for method in dict.fromkeys(best.method for best in task.best):
        of_method = [best for best in task.best if best.method == method]
        ranks = "; ".join(f"{b.backbone} ({b.domain}) {scale.value(b.headline)}" for b in of_method)
        what = ", mean absolute error" if task.is_number else ""
        sentences.append(f"{method}{what}, at the layer chosen inside the training folds: {ranks}.")
    for method, a, b, difference in task.differences:
        sentences.append(f"{method}: {contrast(Contrast(a, b, difference), scale)}.")
    titles = dict.fromkeys((p.method, g.title) for p in task.panels for g in p.gaps)
    for method, title in titles:
        gaps = {
            p.pool: g for p in task.panels if p.method == method for g in p.gaps if g.title == title
        }
        sentences.append(gap_sentence(method, gaps, scale))
    sentences += _tuned(task)
    if task.outcomes.outdated:
        sentences.append(task.outcomes.left_out[0].upper() + task.outcomes.left_out[1:])
    if task.outcomes.missing:
        sentences.append(
            f"The scores of {count(len(task.outcomes.missing), 'result')} in results.csv are missing: "
            "they are shown as means over folds, without an interval."
        )
    return sentences


def contrast(made: Contrast, scale: Scale) -> str:
    """What is compared with what, and the difference."""
    return f"{made.a} against {made.b}: {verdict(made.difference, scale)}"


def verdict(difference: Interval, scale: Scale) -> str:
    """A difference with its interval, and whether it is within noise."""
    noise = _NOISE if difference.low <= 0 <= difference.high else ""
    return scale.difference(difference) + noise


def gap_sentence(method: str, gaps: Mapping[str, Gap], scale: Scale = POINTS) -> str:
    """The gap of one pair at its first and last layer and its slope, under each pooling."""
    parts = []
    signs = set()
    for pool, gap in gaps.items():
        first, last = gap.points[0], gap.points[-1]
        pooling = "" if pool == "none" else f"pooling {pool}: "
        if first is last:  # one layer makes no trend
            ends = scale.ends(first.low, first.high)
            parts.append(f"{pooling}{scale.size(first.gap)} {ends} at {first.layer}")
            continue
        trend = gap.slope
        interval = scale.ends(trend.low, trend.high)
        sign = 0 if trend.low <= 0 <= trend.high else (1 if trend.low > 0 else -1)
        signs.add(sign)
        grows = {0: "no clear trend", 1: "it grows with depth", -1: "it shrinks with depth"}[sign]
        parts.append(
            f"{pooling}{scale.size(first.gap)} at {first.layer}, {scale.signed(last.gap)} at "
            f"{last.layer}, {grows} (slope {scale.signed(trend.value)} {interval})"
        )
    gap = next(iter(gaps.values()))
    kind = "pretraining gap" if gap.far_domain == "none" else "domain gap"
    tail = "; the trend depends on the pooling" if len(signs) > 1 else ""
    return f"{method}, {kind} {gap.title}: {'; '.join(parts)}{tail}."


def layers_of(best: Best) -> str:
    """The layers a backbone chose, most frequent first, with how many folds chose each."""
    counts = {name: best.chosen.count(name) for name in dict.fromkeys(best.chosen)}
    ranked = sorted(counts, key=lambda name: -counts[name])
    if len(ranked) == 1:
        return ranked[0]
    return ", ".join(f"{name} ({counts[name]} of {len(best.chosen)} folds)" for name in ranked)


def _leader(made: Answer, scale: Scale) -> str:
    top = made.leader
    what = "a mean absolute error of " if scale.unit else ""
    score = f"{what}{scale.value(top.headline)} at {layers_of(top)}"
    if not made.behind:
        return f"{top.backbone} ({top.domain}) with {top.method} reaches {score}."
    if made.wins:
        second = made.behind[0]
        return (
            f"Transfer from {top.backbone} ({top.domain}): {top.method} reaches {score}, ahead of every "
            f"other backbone beyond noise, and of the next, {second.b}, by "
            f"{scale.difference(second.difference)}."
        )
    names = ", ".join(f"{c.b} ({scale.difference(c.difference)})" for c in made.noise)
    others = len(made.behind) - len(made.noise)
    return (
        f"No single winner: {top.backbone} ({top.domain}) with {top.method} reaches {score}; within "
        f"noise of it: {names}"
        + (
            f"; {others} more {'is' if others == 1 else 'are'} behind it beyond noise."
            if others
            else "."
        )
    )


def _closest(made: Answer, closest: str | None, scale: Scale) -> list[str]:
    """What the closest domain buys, or why that is not known."""
    if closest is None:
        return [
            'study.toml does not name the closest domain; add `closest = "DOMAIN"` there, and the '
            "report says how much that domain gains."
        ]
    if made.closest is None:
        return [
            f"How much the closest domain, {closest}, gains is not known: that takes a trained backbone "
            "of this domain and one of another."
        ]
    c = made.closest
    sentence = (
        f"The closest domain, {closest}: {c.a} against {c.b}, each at its own best layer: "
        f"{verdict(c.difference, scale)}"
    )
    if made.gap is None:
        return [
            f"{sentence}. They differ in architecture, input and width too, so this is no domain gap."
        ]
    layer, gap = made.gap
    if gap is None:
        return [
            f"{sentence}; they are a pair, but the domain gap at {layer} is not known: not both have "
            "results there."
        ]
    return [f"{sentence}; they are a pair, and at {layer} the domain gap is {verdict(gap, scale)}."]


def _counts(task: TaskCurves) -> str:
    images = (
        f"{task.n} images of {task.subjects} subjects (effectively "
        f"{task.effective_subjects:.0f}), {task.folds} folds"
    )
    if task.chance is None:
        floor = "" if task.floor is None else f"; {_floor(task.floor, task.scale)}"
        return f"{images}{floor}."
    majority = (
        f", and always predicting the most frequent class reaches {100 * task.majority:.1f} %"
        if task.majority is not None
        else ""
    )
    return f"{images}, {len(task.classes)} classes; chance is {100 * task.chance:.1f} %{majority}."


def _floor(floor: Best, scale: Scale) -> str:
    return f"the median of the training images is off by {scale.value(floor.headline)} in the mean"


def _tuned(task: TaskCurves) -> list[str]:
    """Every fine-tune of a whole network; then those with a cut, at the first cut and at the deepest."""
    sentences, scale = [], task.scale
    for curve in task.tuned:
        point = whole(curve)
        if point is not None:
            apart = [
                words
                for best in task.best[:1]
                for words in task.outcomes.unlike(
                    point.rows[0].result_name, best.rows[0].result_name
                )
            ]
            why = (
                f"; not compared with the probes, which have other {', '.join(apart)}"
                if apart
                else ""
            )
            score = scale.value(point.headline)
            sentences.append(f"{curve.method} of {curve.backbone}: {score}{why}.")
    scratch = {
        curve.backbone: point.worth
        for curve in task.tuned
        if curve.kind == "scratch" and (point := whole(curve)) is not None
    }
    for curve in task.tuned:
        cuts = [p for p in curve.points if p.layer]
        if not cuts:
            continue
        base = scratch.get(curve.backbone, max(scratch.values(), default=None))
        last = cuts[-1]
        against = (
            f", {scale.size(last.worth - base)} against training from scratch"
            if base is not None
            else ""
        )
        sentences.append(
            f"{curve.backbone} {curve.method} through {cuts[0].layer}: "
            f"{scale.value(cuts[0].headline)}; through {last.layer}: {scale.value(last.headline)}{against}."
        )
    return sentences

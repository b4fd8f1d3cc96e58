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
                "study's data: it has seen the test images, so its accuracy is too high and not ranked."
            )
    return sentences


def headline(task: TaskCurves, closest: str | None) -> list[str]:
    """The answer first: what to use, what the closest domain buys, what fine-tuning adds, what is noise."""
    made = answer(task, closest)
    if made is None and task.best:
        return ["Every backbone fitted here has seen the test images, so none is ranked."]
    if made is None:
        return [
            "No probe has been fitted on this task; run `probe fit` for the curves of its layers."
        ]
    scale = task.scale
    if not made.beats_guessing:
        return [_no_better_than_guessing(task, made, scale)]
    sentences = [] if made.helps else [_no_help(made, scale)]
    sentences.append(_leader(made, scale))
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
        what = "" if task.has_classes else f", {task.headline_words}"
        sentences.append(f"{method}{what}, at the layer chosen inside the training folds: {ranks}.")
    for method, a, b, difference in task.differences:
        words = contrast(Contrast(a, b, difference), scale)
        sentences.append(f"{method}: {words}, for this comparison alone.")
    titles = dict.fromkeys((p.method, g.title) for p in task.panels for g in p.gaps)
    for method, title in titles:
        gaps = {
            p.pool: g for p in task.panels if p.method == method for g in p.gaps if g.title == title
        }
        sentences.append(gap_sentence(method, gaps, scale))
    for one, two in task.seen_unlike:
        sentences.append(
            f"{one.name} and {two.name} are of one architecture but see the images in two ways "
            f"({one.geometry}; {two.geometry}), so they are not compared by depth; `probe extract "
            f"--backbone {one.base} --geometry {two.base}` gives one the other's."
        )
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
        signs.add(sign_of(trend))
        grows = trend_words(gap)
        parts.append(
            f"{pooling}{scale.size(first.gap)} at {first.layer}, {scale.signed(last.gap)} at "
            f"{last.layer}, {grows} (slope {scale.signed(trend.value)} {interval})"
        )
    gap = next(iter(gaps.values()))
    kind = f"{gap.kind} {gap.title}"
    if gap.far_domain == "none":
        kind += ", trained minus random"
    tail = "; the trend depends on the pooling" if len(signs) > 1 else ""
    return f"{method}, {kind}: {'; '.join(parts)}{tail}."


def sign_of(difference: Interval) -> int:
    """1 or -1 as a difference is shown to be more or less than nothing, 0 within noise."""
    return 0 if difference.low <= 0 <= difference.high else 1 if difference.low > 0 else -1


def trend_words(gap: Gap) -> str:
    """How the size of a gap changes with depth."""
    sign = sign_of(gap.slope)
    if not sign:
        return "no clear trend"
    first, last = gap.points[0].gap, gap.points[-1].gap
    if sign > 0:
        if last <= 0:
            return f"{gap.near} catches up with depth"
        return "the gap grows with depth" if first >= 0 else f"{gap.near} passes it with depth"
    if last >= 0:
        return "the gap shrinks with depth"
    return f"{gap.near} falls {'further ' if first < 0 else ''}behind with depth"


def layers_of(best: Best) -> str:
    """The layers a backbone chose, most frequent first, with how many folds chose each."""
    counts = {name: best.chosen.count(name) for name in dict.fromkeys(best.chosen)}
    ranked = sorted(counts, key=lambda name: -counts[name])
    if len(ranked) == 1:
        return ranked[0]
    return ", ".join(f"{name} ({counts[name]} of {len(best.chosen)} folds)" for name in ranked)


def _leader(made: Answer, scale: Scale) -> str:
    top = made.leader
    labels = "map" in top.metrics
    what = "a mean absolute error of " if scale.unit else "a mean average precision of " * labels
    score = f"{what}{scale.value(top.headline)} at {layers_of(top)}{_nested(made, scale)}"
    if not made.behind:
        return f"{top.backbone} ({top.domain}) with {top.method} reaches {score}."
    every = "both" if len(made.behind) == 1 else f"all {len(made.behind) + 1}"
    if made.wins:
        second = made.behind[0]
        return (
            f"Transfer from {top.backbone} ({top.domain}): {top.method} reaches {score}. It is ahead of "
            f"every other ranked backbone beyond noise, and of the next, {second.b}, by "
            f"{scale.difference(second.difference)} when {every} are compared at once by every method."
        )
    names = ", ".join(f"{c.b} ({scale.difference(c.difference)})" for c in made.noise)
    others = len(made.behind) - len(made.noise)
    return (
        f"No single winner: {top.backbone} ({top.domain}) with {top.method} reaches {score}. Within "
        f"noise of it when {every} backbones are compared at once by every method: {names}"
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
        f"The closest domain, {closest}: {c.a} against {c.b}, each at its own best method and layer: "
        f"{_held(made, c, scale)}"
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


def _held(made: Answer, c: Contrast, scale: Scale) -> str:
    """A difference by its own interval and, where that is known, by the one that holds for all at once."""
    family = next((b for b in made.behind if (made.leader.backbone, b.b) == (c.a, c.b)), None)
    if family is None or c.difference.low != c.difference.low or len(made.behind) < 2:
        return verdict(c.difference, scale)
    alone, all_at_once = (scale.ends(d.low, d.high) for d in (c.difference, family.difference))
    planned, picked = c.difference.low > 0, family.difference.low > 0
    if planned and not picked:
        tail = "shown if it was planned in advance, undecided if it was picked from the table"
    else:
        found = "shown" if picked else "undecided"
        tail = f"{found}, whether it was planned in advance or picked from the table"
    return (
        f"{scale.size(c.difference.value)} {alone} for this comparison alone, {all_at_once} when "
        f"all {len(made.behind) + 1} backbones are compared at once by every method: {tail}"
    )


def _nested(made: Answer, scale: Scale) -> str:
    """What the choice of the backbone costs, in brackets; nothing where there was no choice."""
    nested = made.nested
    if nested is None:
        return ""
    same = set(nested.chosen) == {made.leader.backbone}
    if same:
        return (
            f" (of {nested.backbones} backbones, the training images of every fold choose this one)"
        )
    number = scale.value(nested.accuracy)
    return (
        f" ({number} where each fold's training images choose among {nested.backbones} backbones)"
    )


def _no_better_than_guessing(task: TaskCurves, made: Answer, scale: Scale) -> str:
    """That nothing beats guessing, which is then all that can be said."""
    top = made.leader
    guess = Interval(made.guess or 0.0, float("nan"), float("nan"), float("nan"))
    if not task.has_classes:
        against = "always giving the median" if task.is_number else "the prevalence of the labels"
    else:
        by_chance = guess.value <= (task.chance or 0.0) + 5e-4
        against = "chance" if by_chance else "the most frequent class"
    return (
        f"No backbone is shown to beat {against} ({scale.value(guess)}) on {task.task}; the best, "
        f"{top.backbone}, has {scale.value(top.headline)}. Do not rank them."
    )


def _no_help(made: Answer, scale: Scale) -> str:
    """That pretraining is not shown to help, against the best of random weights and controls."""
    assert made.pretraining is not None
    c = made.pretraining
    floor = {"control:pixels": "the raw 32 x 32 pixels", "control:tiny": "a tiny grey image"}
    value, against = c.difference.value, floor.get(c.b, c.b)
    if scale.unit:
        size = f"{scale.size(value)} than"
    else:
        size = f"{abs(100 * value):.1f} points {'above' if value >= 0 else 'below'}"
    ends = scale.ends(c.difference.low, c.difference.high)
    helps = "does not help" if made.floor_leads else "is not shown to help"
    return f"Pretraining {helps}: {c.a} is {size} {against} {ends}."


def _counts(task: TaskCurves) -> str:
    worth = f"(worth {task.effective_subjects:,.0f} of equal size)"
    named = task.whose == "subjects"
    whose = f"{' of' if named else ', in'} {task.subjects:,} {task.whose} {worth}"
    if task.subjects == task.n:
        whose = ", each a subject of its own" if named else ", of no named subjects"
    images = f"{task.n:,} images{whose}, {task.folds} folds"
    if task.chance is None:
        floor = "" if task.floor is None else f"; {_floor(task.floor, task.scale)}"
        if task.has_labels:
            floor = f", {len(task.classes)} labels{floor}"
        return f"{images}{floor}."
    majority = (
        f", and always predicting the most frequent class reaches {100 * task.majority:.1f} %"
        if task.majority is not None
        else ""
    )
    return f"{images}, {len(task.classes)} classes; chance is {100 * task.chance:.1f} %{majority}."


def _floor(floor: Best, scale: Scale) -> str:
    if not scale.unit:
        return f"by prevalence alone the mean average precision is {scale.value(floor.headline)}"
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
        both = cuts[:1] if len(cuts) == 1 else [cuts[0], last]
        ends = [f"through {p.layer}: {scale.value(p.headline)}" for p in both]
        sentences.append(f"{curve.backbone} {curve.method} {'; '.join(ends)}{against}.")
    return sentences

"""The answer of a task as it is read in ten seconds: one sentence, and a line for each question."""

from __future__ import annotations

import re
from dataclasses import replace
from shlex import quote

import numpy as np

from probe.analysis.answer import FLOOR, Answer, Contrast
from probe.analysis.curves import TaskCurves
from probe.analysis.outcomes import CALIBRATION
from probe.analysis.points import Best
from probe.analysis.rival_methods import rival_methods
from probe.analysis.scale import Scale
from probe.analysis.standings import layers_words
from probe.analysis.statistics import Interval
from probe.probes.methods import METHODS
from probe.reporting.words import sign_of, trend_words
from probe.results.metrics import CURVES
from probe.results.rows import BEST

_PLAIN = {"control:pixels": "the raw pixels", "control:tiny": "a tiny grey image"}
_TRAINED = {"finetune": "fine-tuning", "scratch": "training from scratch"}
_RANDOM = re.compile(r"(.+)@random.*")
"""What controls are called in sentences."""


def sentence(task: TaskCurves, made: Answer | None) -> str:
    """The answer in at most fifteen words, without brackets; names count as a word each."""
    name = task.task
    if made is None and task.best:
        return f"Every backbone fitted on {name} has seen its test images."
    if made is None:
        return f"No probe is fitted on {name} yet."
    top = made.leader
    scale = task.scale
    score = scale.value(replace(top.headline, low=float("nan"))) + " mAP" * task.has_labels
    if not made.beats_guessing:
        return f"No backbone is shown to beat guessing on {name}."
    if made.pretraining is None and top.domain in FLOOR:
        return f"No trained network is fitted on {name} yet."
    if made.pretraining is not None and (top.domain in FLOOR or not made.helps):
        floor = _plain(made.pretraining.b).partition(" of ")[0]
        if made.floor_leads:
            return f"Pretraining does not help on {name}: {floor} did better."
        return f"Pretraining is not shown to help on {name}: {floor} may do as well."
    if not made.behind:
        return f"{top.backbone} reaches {score} on {name}; guessing reaches {_guess(task)}."
    if made.wins and any(b.backbone in task.have_seen for b in task.best):
        return f"{top.backbone} leads on {name} among networks new to its images: {score}."
    if made.wins:
        ahead = made.behind[0].difference.value
        lead = scale.size(ahead) if task.is_number else f"{100 * ahead:.1f} points ahead"
        than = "than" if task.is_number else "of"
        second = made.behind[0].b
        is_floor = second.startswith("control:") or "@random" in second
        who = _plain(second).partition(" of ")[0] if is_floor else "the next"
        return f"{top.backbone} leads on {name}: {score}, {lead} {than} {who}."
    if len(made.noise) == 1 and _closest_leads(made):
        return f"The closer domain helps on {name}, though no backbone stands out among all."
    if len(made.noise) == 1:
        return f"No single winner on {name}: {top.backbone} and {made.noise[0].b} are within noise."
    return f"No single winner on {name}: {len(made.noise) + 1} backbones are within noise."


def _closest_leads(made: Answer) -> bool:
    """Whether the leader, of the closest domain, is shown to be ahead of its pair, within noise of it.

    That is one planned comparison, whose interval is narrower than that of the leader among all.
    """
    planned = made.closest
    if planned is None or made.gap is None:  # between two architectures it may not be the domain
        return False
    pair = (made.leader.backbone, made.noise[0].b)
    return (planned.a, planned.b) == pair and planned.difference.low > 0


def _guess(task: TaskCurves) -> str:
    """What guessing reaches: the more of chance and the most frequent class, or the median's error."""
    if task.chance is None:
        return (
            "an unknown share" if task.majority is None else task.scale.value(_alone(task.majority))
        )
    return f"{100 * max(task.chance, task.majority or 0.0):.1f} %"


def _alone(value: float) -> Interval:
    return Interval(value, float("nan"), float("nan"), float("nan"))


def facts(task: TaskCurves, made: Answer | None, closest: str | None) -> list[tuple[str, str]]:
    """The answers to what a reader asks next, each as a question and a few words."""
    if made is None:
        return []
    top = made.leader
    layer = f"{layers_words(task, top.backbone, top.chosen)} of {top.backbone}"
    if not made.beats_guessing:
        layer = "none is shown to beat guessing"
    elif top.domain in FLOOR:
        layer = f"none is shown to beat {_plain(top.backbone)}"
    lines = [("Which layer?", layer)]
    if closest is None:
        lines.append(
            (
                "Does the closer domain help?",
                "not known: name the images' domain as closest in study.toml",
            )
        )
    elif made.closest is None:
        lines.append(
            ("Does the closer domain help?", f"not known: it takes {closest} and another domain")
        )
    else:
        apart = "" if made.gap else ", between two architectures"
        gain = _gain(made.closest.difference, task.scale) + apart + _by_depth(task, made.closest)
        lines.append(("Does the closer domain help?", gain))
    if made.tuning is None:
        tried = "no whole network" if task.tuned else "nothing"
        lines.append(("Is fine-tuning needed?", f"not known: {tried} is fine-tuned"))
    else:
        # A fine-tune that ends behind may have been cut short, so it is no proof that none is needed.
        gain = _gain(made.tuning.difference, task.scale).replace(
            "no:", "no gain as it was trained:"
        )
        if not made.tuning.rate_searched:
            gain += "; one learning rate was tried (--search tries three)"
        lines.append(("Is fine-tuning needed?", gain))
    if words := _by_method(task, made):
        lines.append(("Does the method matter?", words))
    if others := _other_measures(task, top):
        lines.append((f"{top.backbone} by other measures?", others))
    if made.random is not None:
        network = made.random.a.partition("@")[0]
        floor = _plain(made.random.b)
        gain = _gain(made.random.difference, task.scale)
        if floor.endswith(f" of {network}"):
            floor, gain = floor.removesuffix(f" of {network}"), f"{gain}, of the same architecture"
        elif "@random" in made.random.b:
            gain += ", between two architectures"
        lines.append((f"Is {made.random.a} better than {floor}?", gain))
    named = made.beats_guessing and top.domain not in FLOOR  # a result worth a file
    if named and not task.has_labels and METHODS[top.method].is_linear:
        result = quote(f"{top.backbone}/{BEST}/{top.method}")
        command = f"probe export {result} --task {quote(task.task)}"
        lines.append(("As one file for new images?", command))
    return lines


def _by_depth(task: TaskCurves, closest: Contrast) -> str:
    """How the gap of a pair changes over depth, where every pooling shows it to; else nothing."""
    best = max((b for b in task.best if b.backbone == closest.a), key=lambda b: b.worth)
    gaps = [
        gap
        for panel in task.panels
        for gap in panel.gaps
        if panel.method == best.method and (gap.near, gap.far) == (closest.a, closest.b)
    ]
    if {sign_of(gap.slope) for gap in gaps if len(gap.points) > 1} not in ({1}, {-1}):
        return ""
    gap = next(gap for gap in gaps if len(gap.points) > 1)
    last = gap.points[-1]
    size, ends = task.scale.size(last.gap), task.scale.ends(last.low, last.high)
    return f"; {trend_words(gap)}: {size} {ends} at {last.layer}"


def _by_method(task: TaskCurves, made: Answer) -> str:
    """How the leader's backbone fares by other methods, in a few words; nothing without another probe."""
    ahead, level, behind = [], [], []
    rivals = rival_methods(task, made)
    if not any(rival.b in METHODS for rival in rivals):
        return ""
    for rival in rivals:
        gap = rival.difference
        size = task.scale.size(abs(gap.value))
        size = size.removesuffix(" closer") if task.is_number else size.removeprefix("+")
        if gap.high < 0:
            ahead.append(f"{_method(rival.b)} by {size}")
        elif gap.low > 0:
            behind.append(f"{_method(rival.b)} by {size}")
        else:
            level.append(_method(rival.b))
    parts = (("ahead", ahead), ("within noise", level), ("behind", behind))
    words = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
    if level and not (ahead or behind):
        return f"not shown: {' and '.join(level)} within noise of {made.leader.method}"
    return words and f"against {made.leader.method}, {words}"


def _method(name: str) -> str:
    kind, plus, recipe = name.partition("+")
    return _TRAINED.get(kind, kind) + plus + recipe


def _other_measures(task: TaskCurves, top: Best) -> str:
    """What else is measured of the leader, in a few words: the measures that fit the task."""
    if task.is_number:
        names = ("rmse", "r2")
        return ", ".join(
            f"{CURVES[name].heading} {top.metrics[name].value:.2f}"
            + (f" {task.unit}" if CURVES[name].unit else "")
            for name in names
            if name in top.metrics and np.isfinite(top.metrics[name].value)
        )
    if task.has_labels:
        names = ("auc", "macro_f1")
        return ", ".join(
            f"{CURVES[name].heading} {100 * top.metrics[name].value:.1f} %"
            for name in names
            if name in top.metrics and np.isfinite(top.metrics[name].value)
        )
    words = []
    for name in ("balanced", "top5"):
        if name in top.metrics:
            words.append(f"{CURVES[name].heading} {100 * top.metrics[name].value:.1f} %")
    if task.ordered and "mae" in top.metrics:
        words.append(f"MAE {top.metrics['mae'].value:.2f} classes")
    if task.ordered and "one_off" in top.metrics:
        words.append(f"at most one class off {100 * top.metrics['one_off'].value:.1f} %")
    images = [row.n_test for row in top.rows]
    for column, heading, factor, unit in (
        ("auc", "AUC", 100.0, " %"),
        ("log_loss", "log loss", 1.0, ""),
    ):
        values = [getattr(row, column) for row in top.rows]
        if None not in values:
            mean = factor * float(np.average(values, weights=images))
            words.append(f"{heading} {mean:.{1 if unit else 2}f}{unit}")
    if CALIBRATION in top.metrics:
        words.append(f"calibration error {100 * top.metrics[CALIBRATION].value:.1f} %")
    return ", ".join(words)


def _plain(backbone: str) -> str:
    if random := _RANDOM.fullmatch(backbone):
        return f"random weights of {random[1]}"
    return _PLAIN.get(backbone, backbone)


def _gain(difference: Interval, scale: Scale) -> str:
    if np.isnan(difference.low):
        return f"{scale.difference(difference)}, without an interval"
    words = "yes" if difference.low > 0 else "no" if difference.high < 0 else "not shown"
    return f"{words}: {scale.difference(difference)}"

"""The demonstration: what was planted in the sample, and what a study of it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError
from features.extraction.extract import extract
from features.sample.dataset import PLANTED
from features.study.study import has_study, open_study
from probe.analysis.answer import answer
from probe.analysis.curves import TaskCurves
from probe.finetuning.finetune import finetune
from probe.fitting.fit import fit
from probe.fitting.job import ProbeJob
from probe.reporting.report import Report, report
from probe.reporting.short_answer import facts, sentence
from probe.reporting.words import gap_sentence
from probe.training.recipes import recipe

BACKBONES = (
    ("sample-faces", None),
    ("sample-objects", None),
    ("sample-faces", "random"),
    ("control:pixels", None),
)
LAYERS = ("conv1", "conv2", "conv5", "pool5", "fc7")
"""Those that `probe extract --quick` takes: the ends of every stage."""
TUNED, CUTS = "age", ("pool5",)


@dataclass(frozen=True)
class Planted:
    """One task of the sample: what was put in, and what came out."""

    task: str
    planted: str
    seen: tuple[str, ...]


def run(folder: Path, progress: Callable[[int, int, str], None]) -> tuple[Report, list[Planted]]:
    """Extract, fit and report the sample in `folder`.

    Raises:
        InputError: The folder holds a study of other data.
    """
    if has_study(folder) and open_study(folder).source != "sample":
        raise InputError(f"{folder}: holds a study of other data; give another --study.")
    steps = len(BACKBONES) + 4
    for number, (name, weights) in enumerate(BACKBONES):
        progress(number, steps, f"extracting {name}")
        layers = ("all",) if name.startswith("control") else LAYERS
        # One pooling, for the time: a study of one's own has two by default.
        extract(folder, name, data="sample", layers=layers, weights=weights, pool=("auto",))

    def step(done: int, total: int, job: ProbeJob | None) -> None:
        now = f"fitting {done}/{total}" if job else "drawing the report"
        progress(len(BACKBONES), steps, now)

    fit(folder, probes=("logistic",), progress=step)
    _tune(folder, (), lambda now: progress(len(BACKBONES) + 1, steps, now))
    _tune(folder, CUTS, lambda now: progress(len(BACKBONES) + 2, steps, now))
    progress(steps - 1, steps, "drawing the report")
    made = report(folder)
    return made, [
        Planted(t.task, PLANTED[t.task], _seen(t, made.study.closest)) for t in made.tasks
    ]


def _tune(folder: Path, cuts: tuple[str, ...], say: Callable[[str], None]) -> None:
    """The network of faces tuned as a whole, or above a frozen part: two epochs, for the time."""
    few = recipe("modern", epochs=2, patience=0, crop=False, mirror=False, colour=0.0)
    finetune(
        folder,
        BACKBONES[0][0],
        tasks=[TUNED],
        freeze_through=cuts,
        recipe=few,
        views=["center"],
        progress=lambda _done, _all, now: say(f"training: {now}"),
    )


def _is_shown(question: str) -> bool:
    return question.startswith(("Does the closer domain", "Is "))


def _seen(task: TaskCurves, closest: str | None) -> tuple[str, ...]:
    made = answer(task, closest)
    best = [sentence(task, made)]
    if made is not None and made.beats_guessing:
        asked = facts(task, made, closest)
        best += [f"{question} {words}" for question, words in asked if _is_shown(question)]
    best.append("; ".join(f"{b.backbone} {b.accuracy}" for b in task.best))
    for panel in task.panels[:1]:
        best += [gap_sentence(panel.method, {panel.pool: gap}) for gap in panel.gaps]
    return tuple(best)

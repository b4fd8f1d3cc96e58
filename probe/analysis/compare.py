"""Two rows of results on the same images: the difference, its interval and its test, in words too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.arrays import Doubles
from features.data.named_task import choose
from features.errors import InputError, nearest
from features.study.study import Study, open_study
from probe.analysis.scale import Scale
from probe.analysis.statistics import (
    Interval,
    accuracy_interval,
    difference_interval,
    mean_interval,
    sign_flip,
)
from probe.analysis.training_variance import cross_validated, precision_of_images, widening
from probe.probes.methods import METHODS
from probe.results import predictions
from probe.results import rows as results
from probe.results.one_state import of_one_state
from probe.results.protocol import differences, outdated
from probe.results.rows import BEST, Row


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two results of one task on the same images; accuracies and their difference are fractions.

    Of a number they are mean absolute errors, and the difference is how much closer `a` is, in its unit.
    """

    task: str
    a: str
    b: str
    accuracy_a: Interval
    accuracy_b: Interval
    difference: Interval
    """The accuracy of `a` minus that of `b`; the interval allows for training on other images."""
    p: float
    """The p-value of the sign-flip test over subjects, which is of the trained models as they are."""
    only_a: int
    """How many images `a` alone gets right, or predicts closer than `b`."""
    only_b: int
    images: int
    subjects: int
    whose: str = "subjects"
    """What the images are kept together by: `groups of copies` where no subject is named."""
    unit: str = ""
    """That of a number; empty for classes."""
    better: str = "right"
    """What one alone is on an image that it gets right; of labels it is `better`."""

    def __repr__(self) -> str:
        """The same as in words."""
        return f"<{self}>"

    def __str__(self) -> str:
        """The comparison in one sentence."""
        gap, scale = self.difference, Scale(self.unit)
        points = f"{scale.difference(gap)}, sign-flip p = {self.p:.2g}"
        better = "closer" if self.unit else self.better
        if gap.low <= 0 <= gap.high or self.p > 0.05:
            verdict = f"the difference is within noise ({points})"
        else:
            ahead = self.a if gap.value > 0 else self.b
            verdict = f"{ahead} is ahead ({points})"
        whose = f" of {self.subjects} {self.whose} (effectively {gap.effective:.0f})"
        same = f"on the same {self.images} images{'' if self.subjects == self.images else whose}"
        return (
            f"{self.task}: {self.a} {scale.value(self.accuracy_a)}, {self.b} "
            f"{scale.value(self.accuracy_b)}: {verdict}; {same}, the first alone is "
            f"{better} on {self.only_a} and the second alone on {self.only_b}."
        )


def compare(study: Path | str, a: str, b: str, *, tasks: Sequence[str] = ()) -> list[Comparison]:
    """Two results compared on the images that both were tested on, task by task.

    Args:
        study: The study's folder.
        a: BACKBONE/LAYER/METHOD; the layer may be `best`. BACKBONE alone is its `best` row; of
            several methods that both have, the first counts.
        b: Likewise.
        tasks: Their names; by default all that both have results for.

    Raises:
        InputError: There is no such result, or the two were made under different protocols.
    """
    return of_one_state(Path(study), lambda: _all_compared(Path(study), a, b, tasks))


def _all_compared(folder: Path, a: str, b: str, tasks: Sequence[str]) -> list[Comparison]:
    opened = open_study(folder)
    rows = _rows(opened)
    a, b = _whole_names(rows, a, b)
    for task in tasks:
        choose(opened.tasks, opened.columns, task)
    shared = [t for t in opened.tasks if all(any(r.task == t for r in rows[n]) for n in (a, b))]
    chosen = [t for t in shared if not tasks or t in tasks]
    if not chosen:
        raise InputError(f"{a} and {b} have no task in common; run `probe fit` for both.")
    return [_compared(opened, task, a, b, rows) for task in chosen]


def _rows(study: Study) -> dict[str, list[Row]]:
    """The rows of results.csv by BACKBONE/LAYER/METHOD."""
    rows = results.read(study.folder / "results.csv")
    if not rows:
        raise InputError(f"{study.folder}: nothing is fitted yet; run `probe fit` first.")
    named: dict[str, list[Row]] = {}
    for row in rows:
        named.setdefault(typed_name(row), []).append(row)
    return named


def typed_name(row: Row) -> str:
    """BACKBONE/LAYER/METHOD, as a person types it; `-` stands for no layer."""
    _, backbone, layer, method = row.stored
    return "/".join((backbone, layer or "-", method))


def _whole_names(rows: Mapping[str, list[Row]], a: str, b: str) -> tuple[str, str]:
    """Both names in full: BACKBONE alone is its `best` row, and a method that is left out one of both.

    Of several methods that both have it is the first in METHODS.

    Raises:
        InputError: There is no such result, or there are several methods to choose from.
    """
    fitting = [[name for name in rows if _means(typed, name)] for typed in (a, b)]
    for typed, names in zip((a, b), fitting, strict=True):
        if not names:
            raise InputError(f"{typed}: no such result; {nearest(typed, rows)}")
    methods = [{name.rpartition("/")[2] for name in names} for names in fitting]
    # Where several probes fit both, the first of them counts, whatever the results are.
    shared = next((method for method in METHODS if all(method in each for each in methods)), None)
    chosen = []
    for typed, names in zip((a, b), fitting, strict=True):
        left = [name for name in names if name.rpartition("/")[2] == shared] if shared else names
        if len(left) > 1:
            raise InputError(f"{typed}: which of {', '.join(left)}? Name the method too.")
        chosen += left
    return chosen[0], chosen[1]


def _means(typed: str, name: str) -> bool:
    """Whether `typed`, with or without its layer and method, means the result `name`."""
    backbone, layer, _ = name.rsplit("/", 2)
    return typed in (name, f"{backbone}/{layer}") or (typed == backbone and layer == BEST)


def _compared(study: Study, task: str, a: str, b: str, rows: dict[str, list[Row]]) -> Comparison:
    row_a, row_b = (next(r for r in rows[name] if r.task == task) for name in (a, b))
    file = study.folder / predictions.STORE
    stored = predictions.read_all(file, list(dict.fromkeys([row_a.stored, row_b.stored])))
    first, second = stored[row_a.stored], stored[row_b.stored]
    unlike = [what for what in differences(first.protocol, second.protocol) if what != "method"]
    if unlike:
        raise InputError(
            f"{a} and {b}, task {task}: made under protocols that differ in "
            f"{', '.join(unlike)}; run `probe fit` for both with the same options."
        )
    for name, prediction in ((a, first), (b, second)):
        changed = outdated(study, task, prediction.protocol, prediction.fold)
        if changed is not None:
            raise InputError(
                f"{study.folder}: {changed} changed after the scores of {name} were made; run `probe fit` "
                "again, or `probe finetune` for a fine-tune."
            )
    both = (first.fold >= 0) & (second.fold >= 0)
    number = study.tasks[task] if study.tasks[task].is_number else None
    worth_a, worth_b = (_worth(study, task, p)[both] for p in (first, second))
    subjects = study.subjects[both]
    tested = [
        cross_validated(study, task, prediction, [r for r in rows[name] if r.task == task])
        for name, prediction in ((a, first), (b, second))
    ]

    def wider(weight_a: float, weight_b: float) -> float:
        weighted = [(t, w) for t, w in zip(tested, (weight_a, weight_b), strict=True) if w]
        return widening([t for t, _ in weighted], [w for _, w in weighted], study.subjects)

    apart = worth_a - worth_b
    first_alone, second_alone = (
        mean_interval(-worth, subjects, factor)
        if number
        else mean_interval(worth, subjects, factor)
        if study.tasks[task].has_labels
        else accuracy_interval(worth, subjects, factor)
        for worth, factor in ((worth_a, wider(1, 0)), (worth_b, wider(0, 1)))
    )
    difference = difference_interval if study.tasks[task].has_classes else mean_interval
    return Comparison(
        task,
        a,
        b,
        first_alone,
        second_alone,
        difference(apart, subjects, wider(1, -1)),
        sign_flip(apart, subjects),
        int((apart > 0).sum()),
        int((apart < 0).sum()),
        int(both.sum()),
        len(np.unique(subjects)),
        study.whose,
        number.unit_words if number else "",
        "better" if study.tasks[task].has_labels else "right",
    )


def _worth(study: Study, task: str, prediction: predictions.Prediction) -> Doubles:
    """What every image counts for, `(n,)`: 1 where right, else 0; minus the error of a number.

    Of several labels an image it is the image's part in the mean average precision.
    """
    if study.tasks[task].has_labels:
        return precision_of_images(study, task, prediction)
    if study.tasks[task].is_number:
        return -np.abs(prediction.scores[:, 0] - study.numbers(task))
    return prediction.correct(study.labels(task))

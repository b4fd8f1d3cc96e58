"""Which result of a study is exported: the one that is named, or the leading `best` row that may lead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

import numpy as np

from features.data.named_task import choose
from features.errors import InputError, OptionError, nearest
from features.study.study import Study
from probe.analysis.answer import answer
from probe.analysis.compare import typed_name
from probe.analysis.curves import TaskCurves, curves
from probe.analysis.points import Best
from probe.probes.methods import METHODS
from probe.results import predictions
from probe.results import rows as results
from probe.results.protocol import outdated
from probe.results.rows import BEST, Row
from probe.results.scores import NEVER_SEEN, log_losses, probabilities

_NOT_TRAINED = ("none", "control")


@dataclass(frozen=True)
class ChosenResult:
    """A result to export."""

    task: str
    name: str
    """BACKBONE/LAYER/METHOD, as a person writes it."""
    rows: tuple[Row, ...]
    """A row for every fold, whose scores are the promise."""
    fitted: tuple[Row, ...]
    """The rows of the layer that is fitted anew: those of `rows` unless its layer is `best`."""
    notes: tuple[str, ...] = ()
    """What a person should know of the choice, in sentences."""

    @property
    def is_probe(self) -> bool:
        """Whether it is a probe; else a fine-tune."""
        return self.rows[0].method in METHODS


def chosen_results(
    study: Study, name: str | None = None, tasks: Sequence[str] = ()
) -> list[ChosenResult]:
    """The result to export for every task.

    Args:
        study: The study.
        name: BACKBONE/LAYER/METHOD; by default the leading `best` row of a linear probe, among trained
            backbones whose weights were not trained on the study's images.
        tasks: Their names; by default all that have such a result.

    Raises:
        InputError: There is none, or what is named cannot be exported.
    """
    wanted = [choose(study.tasks, study.columns, task).name for task in tasks]
    for task in wanted:
        _check_exported(study, task)
    rows = [row for row in results.read(study.folder / "results.csv") if not row.variant]
    if not rows:
        raise InputError(f"{study.folder}: nothing is fitted yet; run `probe fit` first.")
    if name is None:
        return [_highest(study, task, rows) for task in _with_curves(study, wanted)]
    return _named(study, name, wanted, rows)


def _with_curves(study: Study, wanted: Sequence[str]) -> list[TaskCurves]:
    every = curves(study)
    for name in wanted:
        if name not in [task.task for task in every]:
            raise InputError(
                f"task {name}: nothing is fitted for it; run `probe fit --task {quote(name)}`."
            )
    able = [task for task in every if not task.has_labels]
    if not able:
        _check_exported(study, every[0].task)
    return [task for task in able if not wanted or task.task in wanted]


def _check_exported(study: Study, task: str) -> None:
    if task in study.tasks and study.tasks[task].has_labels:
        raise InputError(
            f"task {task}: several labels an image, of which no probe is exported yet; name another task, "
            "such as one of its labels that has a column of its own."
        )


def _highest(study: Study, task: TaskCurves, rows: Sequence[Row]) -> ChosenResult:
    """The leading `best` row of a task that may be exported, and how sure it is that it leads."""
    saw = _backbones_that_saw(study)
    notes = []
    able = []
    for best in task.best:
        if best.domain in _NOT_TRAINED or not study.file_is_there(best.backbone):
            continue
        if best.backbone in saw:
            notes.append(
                f"{best.backbone} is passed over: its weights were trained on "
                f"{' and '.join(saw[best.backbone])}, which seems to be this study's data"
            )
        elif not (METHODS[best.method].is_linear if best.method in METHODS else not task.is_number):
            continue  # a fine-tune of a number too
        elif _is_imported(study, best.backbone):
            notes.append(f"{best.backbone} is passed over: its features were made elsewhere")
        else:
            able.append(best)
    if not able:
        raise InputError(
            f"task {task.task}: no linear probe on a trained backbone has a best row that could be "
            "exported; fit one, or name a result as BACKBONE/LAYER/METHOD."
        )
    top = max(able, key=lambda best: best.worth)
    notes = list(dict.fromkeys(notes)) + _standing(study, task, top)
    name = f"{top.backbone}/{BEST}/{top.method}"
    return _chosen(study, task.task, name, tuple(top.rows), rows, tuple(notes))


def _standing(study: Study, task: TaskCurves, top: Best) -> list[str]:
    """Whether the answer names what is exported as the winner."""
    made = answer(task, study.closest)
    name = f"{top.backbone}/{BEST}/{top.method}"
    if made is None or not made.behind:
        return [f"{name} has the leading best row; there is no other backbone to compare it with"]
    if made.leader is top and made.wins:
        return [f"{name} has the leading best row, ahead of every other backbone beyond noise"]
    if made.leader is not top:
        leader = f"{made.leader.backbone}/{BEST}/{made.leader.method}"
        return [
            f"{name} has the leading best row that can be exported, and is no proven winner: {leader} "
            "is higher"
        ]
    others = ", ".join(contrast.b for contrast in made.noise)
    return [
        f"{name} has the leading best row, and is no proven winner: within noise of it "
        f"{'is' if len(made.noise) == 1 else 'are'} {others}"
    ]


def _backbones_that_saw(study: Study) -> dict[str, list[str]]:
    """The data that a backbone's weights were trained on, where they seem to be the study's."""
    saw = {}
    for name in study.backbones():
        with study.features(name) as file:
            data = json.loads(file.attributes.get("trained_on_this", "[]"))
        if data:
            saw[name] = list(data)
    return saw


def _is_imported(study: Study, backbone: str) -> bool:
    with study.features(backbone) as file:
        return file.imported


def _named(
    study: Study, name: str, wanted: Sequence[str], rows: Sequence[Row]
) -> list[ChosenResult]:
    """The result called `name`, for every task that has it."""
    by_name: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        by_name.setdefault(typed_name(row), {}).setdefault(row.task, []).append(row)
    if name.count("/") < 2:
        raise OptionError(f"{name}: not BACKBONE/LAYER/METHOD; {nearest(name, by_name)}")
    if name not in by_name:
        raise InputError(f"{name}: no such result; {nearest(name, by_name)}")
    method = next(iter(by_name[name].values()))[0].method
    if method in METHODS and not METHODS[method].is_linear:
        is_number = all(row.mae is not None for each in by_name[name].values() for row in each)
        linear = next(
            other.name
            for other in METHODS.values()
            if other.is_linear and (other.numbers is not None or not is_number)
        )
        raise InputError(
            f"{name}: a probe by {METHODS[method].words} has no weights, so it cannot be exported; name "
            f"a linear probe, such as {name.removesuffix(method)}{linear}."
        )
    if method == "majority":
        raise InputError(f"{name}: looks at no image, so there is nothing to export; name a probe.")
    lacking = [task for task in wanted if task not in by_name[name]]
    if lacking:
        raise InputError(
            f"task {lacking[0]}: has no result {name}; run `probe fit --task {quote(lacking[0])}` first."
        )
    tasks = [
        task for task in study.tasks if task in by_name[name] and (not wanted or task in wanted)
    ]
    if all(study.tasks[task].has_labels for task in tasks):
        _check_exported(study, next(iter(tasks), ""))
    tasks = [task for task in tasks if not study.tasks[task].has_labels]
    if not tasks:
        raise InputError(
            f"{name}: its results are of {', '.join(by_name[name])}, and study.toml has no such task; "
            "put it back there."
        )
    if method not in METHODS:
        numbers = [task for task in tasks if study.tasks[task].is_number]
        if numbers:
            raise InputError(
                f"task {numbers[0]}: a number, of which no fine-tune is exported yet; name a linear probe."
            )
    return [_chosen(study, task, name, tuple(by_name[name][task]), rows, ()) for task in tasks]


def _chosen(
    study: Study,
    task: str,
    name: str,
    own: tuple[Row, ...],
    rows: Sequence[Row],
    notes: tuple[str, ...],
) -> ChosenResult:
    """The result with the rows of the layer to fit; outdated results are refused."""
    fitted = own
    if own[0].layer == BEST:
        alike = [
            row
            for row in rows
            if (row.task, row.backbone, row.method, row.protocol)
            == (task, own[0].backbone, own[0].method, own[0].protocol)
            and row.layer != BEST
        ]
        if not alike:
            raise InputError(
                f"{name}: results.csv has no row of the layers that it was chosen from; run `probe fit` "
                "again."
            )
        fitted, note = _layer_over_all_folds(study, task, alike)
        notes = (*notes, note)
    store = study.folder / predictions.STORE
    (prediction,) = predictions.read_all(store, [fitted[0].stored]).values()
    changed = outdated(study, task, prediction.protocol, prediction.fold)
    if changed is not None:
        raise InputError(
            f"{study.folder}: {changed} changed after the scores of {name} were made; run `probe fit` "
            "again, or `probe finetune` for a fine-tune."
        )
    return ChosenResult(task, name, own, fitted, notes)


def _layer_over_all_folds(
    study: Study, task: str, rows: Sequence[Row]
) -> tuple[tuple[Row, ...], str]:
    """The rows of the layer with the best cross-validated scores over all folds together.

    The scores are those of the test folds, each by a probe whose C was chosen without it; the measure is
    the one that chooses inside the folds: log loss for logistic, else accuracy; of a number
    the squared error. Among equals it is the shallowest, then the first by name.
    """
    is_number = study.tasks[task].is_number
    y = study.numbers(task) if is_number else study.labels(task)
    labelled = study.labelled(task)
    by_key: dict[predictions.Key, list[Row]] = {}
    for row in rows:
        by_key.setdefault(row.stored, []).append(row)
    ranked = []
    for key, prediction in predictions.read_all(
        study.folder / predictions.STORE, list(by_key)
    ).items():
        tested = (prediction.fold >= 0) & labelled if len(prediction.fold) == len(y) else None
        if tested is None or not tested.any():
            continue
        if is_number:
            worth = -float(np.square(prediction.scores[tested, 0] - y[tested]).mean())
        else:
            worth = _worth(
                prediction.scores[tested], y[tested].astype(np.int64), by_key[key][0].method
            )
        first = by_key[key][0]
        ranked.append((-worth, first.depth or 0.0, first.features_key, key))
    if not ranked:
        raise InputError(
            f"{study.folder}: its images changed after the fit; run `probe fit` again."
        )
    *_, layer, key = min(ranked)
    several = f"of {len(by_key)} layers and poolings " if len(by_key) > 1 else ""
    return tuple(by_key[key]), f"{several}{layer} is the best over all folds together"


def _worth(
    scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    y: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    method: str,
) -> float:
    about = METHODS[method]
    if about.selection == "log_loss":
        p = probabilities(scores, about.scores)
        return -float(log_losses(p, y, NEVER_SEEN).mean())
    return float((scores.argmax(1) == y).mean())

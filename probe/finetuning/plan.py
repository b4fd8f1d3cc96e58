"""What a fine-tune is asked to train: the rows that decode, the folds of its tasks, its protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.data.tasks import Task
from features.errors import InputError
from features.extraction.provenance import network_of
from features.machine.files import file_name
from features.store.featurefile import DONE, PENDING
from features.study.study import Study
from probe.finetuning.job import Asked, Run, base_of
from probe.finetuning.saved_network import digest
from probe.folds import Splits, in_several, kept_together, make_splits, unlike
from probe.results.protocol import protocol
from probe.training.feed import ImageFeed
from probe.training.recipes import Recipe
from probe.training.setup import Goal
from probe.training.variants import Variant


@dataclass(frozen=True)
class Settings:
    """What decides the numbers of a fine-tune besides network, folds and seed."""

    recipe: Recipe
    tasks: tuple[str, ...]
    keep_above: bool
    accumulate: int
    precision: str
    base: str
    probe_first: bool
    rates: tuple[float, ...]
    readable: str
    """Hash of which rows decode."""
    start: str
    """Hash of what training begins with: network, input, weights, and the networks of `--from`."""


def extracted_rows(study: Study) -> npt.NDArray[np.bool_]:
    """The rows that an extraction has come to, `(n,)`, so that probes and fine-tunes see the same images.

    Those of the backbone that has come to most; all of them where nothing is extracted yet.
    """
    found = []
    for name in study.backbones():
        with study.features(name) as file:
            found.append(np.asarray(file.status != PENDING))
    return max(found, key=np.count_nonzero, default=np.ones(len(study), dtype=np.bool_))


def readable_rows(
    study: Study, feed: ImageFeed, asked: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Those of the rows `asked` that decode, `(n,)`: as an extraction found them, else tried now."""
    if feed.pictures.kept is None:
        for name in study.backbones():
            with study.features(name) as file:
                status = file.status
            if (status[asked] != PENDING).all():
                return np.asarray((status == DONE) & asked)
    found = np.zeros(len(study), dtype=np.bool_)
    found[asked] = feed.pictures.readable(np.flatnonzero(asked))
    if not found.any():
        raise InputError(
            f"{study.source}: none of its {asked.sum()} images can be read; check the paths."
        )
    return found


def plan(
    run: Run, variants: Sequence[Variant], tasks: tuple[Task, ...], folds: int | None
) -> list[Asked]:
    """The results to be trained, one a variant: folds, protocol and the folder of the checkpoints.

    Raises:
        InputError: The folds of the tasks differ or cannot be made, or a network to begin with is
            not there.
    """
    each = [make_splits(run.study, task, run.readable, folds, run.seed) for task in tasks]
    splits = _together(run.study, tasks, each, folds)
    labels = np.stack([run.study.labels(task.name) for task in tasks], axis=1)
    goal = Goal(labels, tuple(len(task.classes) for task in tasks))
    bases = [
        digest(run.study.folder, base_of(run, tasks, fold)) for fold in splits.folds if run.base
    ]
    found = []
    for variant in variants:
        settings = _settings(run, variant, tasks, bases)
        said = {
            task.name: protocol(run.study, task, own, settings, run.seed)
            for task, own in zip(tasks, each, strict=True)
        }
        found.append(Asked(variant, tasks, splits, goal, said, _folder(run, variant, said)))
    return found


def _settings(
    run: Run, variant: Variant, tasks: tuple[Task, ...], bases: Sequence[str]
) -> Settings:
    start = {**network_of(run.backbone), "bases": bases}
    if variant.layer:
        start["cut"] = variant.layer.module
    if variant.method == "scratch":
        del start["weights"]
    return Settings(
        run.recipe,
        tuple(task.name for task in tasks),
        variant.keep_above,
        run.accumulate,
        run.precision,
        run.base,
        run.probe_first,
        run.rates,
        hashlib.sha256(run.readable.tobytes()).hexdigest(),
        hashlib.sha256(json.dumps(start, sort_keys=True).encode()).hexdigest(),
    )


def _folder(run: Run, variant: Variant, said: dict[str, str]) -> Path:
    """Where the checkpoints of a result lie; of another protocol they lie elsewhere."""
    whole = json.dumps([said, run.name, str(variant)])
    return (
        run.study.folder
        / "training"
        / file_name(run.backbone.name)
        / f"{file_name('+'.join(said))}-{variant.method}-{file_name(variant.cut or 'whole')}-"
        f"{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    )


def _together(
    study: Study, tasks: tuple[Task, ...], each: list[Splits], folds: int | None
) -> Splits:
    """The splits of tasks that share a network: a subject is in the same part for all of them."""
    first, *others = each
    part = first.part.copy()
    for task, other in zip(tasks[1:], others, strict=True):
        both = (part >= 0) & (other.part >= 0)
        alike = (
            np.array_equal(other.fold_of_part, first.fold_of_part)
            and other.choosing == first.choosing
        )
        if (part[both] != other.part[both]).any() or not alike:
            raise InputError(
                f"tasks {tasks[0].name} and {task.name}: their folds differ, so that one network "
                "would be tested on what it was trained on; fine-tune them one by one, or give the "
                "data a column fold."
            )
        part = np.where(part < 0, other.part, part)
    if others:
        _check_apart(study, tasks, part, folds)
    return Splits(part, first.fold_of_part, first.choosing)


def _check_apart(
    study: Study, tasks: tuple[Task, ...], part: npt.NDArray[np.int64], folds: int | None
) -> None:
    """Each task keeps its own images of a subject together, but not those that another task labels."""
    rows = np.flatnonzero(part >= 0)
    across = in_several(kept_together(study, folds)[rows], part[rows])
    if across:
        one, other = (study.paths[rows[place]] for place in unlike(across[0], part[rows]))
        raise InputError(
            f"tasks {' and '.join(task.name for task in tasks)}: {len(across)} subjects or copies have "
            f"images in several folds (first: {one} and {other}), labelled for unlike tasks, so that "
            "one network would be tested on subjects it was trained on; fine-tune the tasks one by "
            "one, or give the data a column fold with every subject in one."
        )

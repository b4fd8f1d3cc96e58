"""What a probe was cross-validated on, as its protocol has it, and as the study still is."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from features.arrays import Doubles, Ints
from features.data.tasks import Task
from features.errors import InputError
from features.store.featurefile import DONE, FeatureFile
from features.study.study import Study
from probe.exported.choice import ChosenResult
from probe.fitting.job import ProbeJob
from probe.fitting.probe_job import features_of
from probe.folds.make_splits import make_splits
from probe.folds.splits import Splits
from probe.probes.settings import ProbeSettings
from probe.results import predictions
from probe.results.protocol import protocol


@dataclass(frozen=True)
class Training:
    """What a probe was cross-validated on, and is fitted on now."""

    task: Task
    y: Ints | Doubles
    """Class numbers, or the numbers that are predicted, `(n,)`."""
    splits: Splits
    settings: ProbeSettings
    features: str
    """The digest of the features that are read."""


def training_of(study: Study, chosen: ChosenResult, file: FeatureFile) -> Training:
    """Folds and settings as the protocol of the result has them.

    Raises:
        InputError: The study as it is now would have others.
    """
    row = chosen.fitted[0]
    (stored,) = predictions.read_all(study.folder / predictions.STORE, [row.stored]).values()
    again = f"{study.folder}: {chosen.name} was fitted"
    try:
        under = json.loads(stored.protocol)
        settings = ProbeSettings(**{**under["settings"], "grid": tuple(under["settings"]["grid"])})
        seed, folds, ordered = int(under["seed"]), int(under["folds"]), bool(under["ordered"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{again} by another version of this toolkit; run `probe fit` again first."
        ) from error
    task = replace(study.tasks[chosen.task], ordered=ordered)
    for wanted in (None, folds):
        try:
            splits = make_splits(study, task, file.status == DONE, wanted, seed)
        except InputError:
            continue
        if protocol(study, task, splits, settings, seed) == stored.protocol:
            break
    else:
        raise InputError(f"{again} on other images, labels or folds; run `probe fit` again first.")
    job = ProbeJob(task, row.backbone, row.features_key, row.method)
    digest = features_of(job, file, splits)
    if stored.features not in ("", digest):
        raise InputError(
            f"{again} before its features were made anew; run `probe fit` again first."
        )
    y = study.numbers(task.name) if task.is_number else study.labels(task.name)
    return Training(task, y, splits, settings, digest)

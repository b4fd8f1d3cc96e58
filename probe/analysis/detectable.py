"""The smallest difference in accuracy that a study can find."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy import special

from features.arrays import Ints
from features.data.tasks import Task
from features.errors import InputError
from features.study.study import Study
from probe.analysis.outcomes import Outcomes
from probe.analysis.statistics import LEVEL
from probe.analysis.training_variance import UNKNOWN, of_split
from probe.folds.splits import Splits
from probe.results import rows as results
from probe.results.rows import BEST

_WITHIN, _POWER = 0.1, 0.8
_SUPPOSED = (0.2, 0.3)
"""Shares of images on which exactly one of two probes is right, where none has been observed."""


def detectable(subjects: Ints, apart: float, wider: float = 1.0) -> float:
    """The difference in accuracy that a study of these images finds with a probability of 80 %.

    This is for a test at 5 % and differences that correlate by 0.1 within a subject (the design effect
    of Kish, Survey Sampling, 1965).

    Args:
        subjects: The subject of every image, `(n,)`.
        apart: The share of images on which exactly one of the two methods is right.
        wider: What standard errors are multiplied by, for which see training_variance.py.
    """
    sizes = np.unique(subjects, return_counts=True)[1].astype(np.float64)
    n = sizes.sum()
    inflated = 1 + (float((sizes**2).sum() / n) - 1) * _WITHIN
    freedom = max(float(n**2 / (sizes**2).sum()) - 1, 1.0)
    reach = special.stdtrit(freedom, 0.5 + LEVEL / 2) + special.stdtrit(freedom, _POWER)
    return float(wider * reach * np.sqrt(apart * inflated / n))


def detectable_sentence(study: Study, task: Task, splits: Splits) -> str:
    """What difference is found four times in five, at the disagreement observed so far or supposed."""
    tested = splits.fold >= 0
    subjects = study.subjects[tested]
    n = len(subjects)
    observed = _observed(study, task)
    if observed is not None:
        apart, wider = observed
        return (
            f"{task.name}: with {n:,} images a true difference of {_points(subjects, apart, wider)} "
            "points is found with 80 % probability; so far exactly one of two probes is right on "
            f"{100 * apart:.0f} % of images"
        )
    trained = [len(splits.training_rows(splits.tested(fold))) for fold in splits.folds]
    share = of_split(n, float(np.mean(trained))) if len(splits.folds) == 1 else UNKNOWN
    low, high = (_points(subjects, apart, np.sqrt(1 + share)) for apart in _SUPPOSED)
    return (
        f"{task.name}: with {n:,} images a true difference of {low} points is found with 80 % probability "
        f"if exactly one of the two probes is right on {100 * _SUPPOSED[0]:.0f} % of images, {high} points "
        f"at {100 * _SUPPOSED[1]:.0f} %"
    )


def _points(subjects: Ints, apart: float, wider: float) -> str:
    return f"{100 * detectable(subjects, apart, wider):.1f}"


def _observed(study: Study, task: Task) -> tuple[float, float] | None:
    """The mean disagreement between backbones at their `best` rows, and what widens its errors."""
    try:
        rows = [
            row
            for row in results.read(study.folder / "results.csv")
            if row.task == task.name and row.layer == BEST and not row.variant
        ]
        outcomes = Outcomes(study, task.name, rows)
    except InputError:
        return None
    names = [name for name in dict.fromkeys(row.result_name for row in rows) if outcomes.has(name)]
    apart, wider = [], []
    for a, b in combinations(names, 2):
        if a[0] != b[0] and outcomes.alike(a, b):
            apart.append(float(np.nanmean(np.abs(outcomes.correct(a) - outcomes.correct(b)))))
            wider.append(outcomes.wider({a: 1.0, b: -1.0}))
    return (float(np.mean(apart)), float(np.mean(wider))) if apart else None

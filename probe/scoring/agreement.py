"""How well transfer scores agree with measured accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from features.study.study import Study
from probe.analysis.majority import NAME as MAJORITY
from probe.results import rows as results
from probe.results.rows import BEST
from probe.scoring.rank import SCORES
from probe.scoring.score_files import Scored


@dataclass(frozen=True)
class Agreement:
    """How well a score orders what was measured."""

    task: str
    score: str
    method: str
    over: str
    """`layers`: all of them; `backbones`: each at its highest score and at its highest accuracy."""
    tau: float
    """Weighted Kendall tau (Vigna 2015), in which exchanges among the best count most."""
    pearson: float
    n: int


def measured(study: Study) -> dict[tuple[str, str, str, str], float]:
    """Accuracy by task, backbone, key and method, mean over folds, of the probes that are fitted."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for row in results.read(study.folder / "results.csv"):
        if row.layer not in (BEST, "") and row.backbone != MAJORITY and not row.variant:
            found.setdefault((row.task, row.backbone, row.features_key, row.method), []).append(
                row.accuracy
            )
    return {key: float(np.mean(values)) for key, values in found.items()}


def agreements(
    lines: Sequence[Scored], accuracy: dict[tuple[str, str, str, str], float]
) -> list[Agreement]:
    """How well every score orders the measured accuracy, per task and method."""
    found = []
    for task in dict.fromkeys(line.task for line in lines):
        for method in dict.fromkeys(key[3] for key in accuracy if key[0] == task):
            for score in SCORES:
                pairs = [
                    (line.backbone, value, accuracy[task, line.backbone, line.key, method])
                    for line in lines
                    if line.task == task
                    and (value := getattr(line, score)) is not None
                    and (task, line.backbone, line.key, method) in accuracy
                ]
                tops = {
                    name: tuple(max(p[i] for p in pairs if p[0] == name) for i in (1, 2))
                    for name, *_ in pairs
                }
                for over, two in (
                    ("layers", [p[1:] for p in pairs]),
                    ("backbones", list(tops.values())),
                ):
                    if len(two) > 2:
                        tau, pearson = agree(*zip(*two, strict=True))
                        found.append(Agreement(task, score, method, over, tau, pearson, len(two)))
    return found


def agree(score: Sequence[float], accuracy: Sequence[float]) -> tuple[float, float]:
    """Weighted Kendall tau and Pearson's correlation; not a number where one of them is constant."""
    if len(set(score)) < 2 or len(set(accuracy)) < 2:
        return float("nan"), float("nan")
    tau = float(stats.weightedtau(score, accuracy).statistic)
    return tau, float(stats.pearsonr(score, accuracy).statistic)

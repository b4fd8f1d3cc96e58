"""How well transfer scores agree with measured accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from features.study.study import Study
from probe.analysis.floor import NAMES as FLOORS
from probe.results import rows as results
from probe.results.rows import BEST
from probe.scoring.score_files import LayerScore
from probe.scoring.score_table import SCORES

LayerMethod = tuple[str, str, str, str]
"""Task, backbone, key of the layer, and method."""


@dataclass(frozen=True)
class Agreement:
    """How well a score orders layers, or backbones, by their measured accuracy."""

    task: str
    score: str
    method: str
    over: str
    """`layers`: all of them; `backbones`: each at its highest score and at its highest accuracy."""
    tau: float
    """Weighted Kendall tau (Vigna 2015), in which exchanges among the best count most."""
    pearson: float
    n: int


def measured(study: Study) -> dict[LayerMethod, float]:
    """The accuracy of every fitted probe, the mean over folds."""
    folds: dict[LayerMethod, list[float]] = {}
    for row in results.read(study.folder / "results.csv"):
        if row.layer not in (BEST, "") and row.backbone not in FLOORS and not row.variant:
            key = (row.task, row.backbone, row.features_key, row.method)
            if row.accuracy is not None:
                folds.setdefault(key, []).append(row.accuracy)
    return {key: float(np.mean(accuracies)) for key, accuracies in folds.items()}


def agreements(scores: Sequence[LayerScore], accuracy: dict[LayerMethod, float]) -> list[Agreement]:
    """How well every transfer score orders the measured accuracy, per task and method."""
    made = []
    for task in dict.fromkeys(line.task for line in scores):
        for method in dict.fromkeys(key[3] for key in accuracy if key[0] == task):
            for score in SCORES:
                layers = [
                    (line.backbone, value, accuracy[task, line.backbone, line.key, method])
                    for line in scores
                    if line.task == task
                    and (value := getattr(line, score)) is not None
                    and (task, line.backbone, line.key, method) in accuracy
                ]
                backbones = {
                    name: tuple(
                        max(layer[i] for layer in layers if layer[0] == name) for i in (1, 2)
                    )
                    for name, *_ in layers
                }
                for over, pairs in (
                    ("layers", [layer[1:] for layer in layers]),
                    ("backbones", list(backbones.values())),
                ):
                    if len(pairs) > 2:
                        tau, pearson = agree(*zip(*pairs, strict=True))
                        made.append(Agreement(task, score, method, over, tau, pearson, len(pairs)))
    return made


def agree(score: Sequence[float], accuracy: Sequence[float]) -> tuple[float, float]:
    """Weighted Kendall tau and Pearson's correlation; NaN where the scores or accuracies are all equal."""
    if len(set(score)) < 2 or len(set(accuracy)) < 2:
        return float("nan"), float("nan")
    tau = float(stats.weightedtau(score, accuracy).statistic)
    return tau, float(stats.pearsonr(score, accuracy).statistic)

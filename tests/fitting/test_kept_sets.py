"""What a fit keeps in memory beside what it works on."""

from __future__ import annotations

import torch

from features.machine.device import cores
from features.study.study import Study
from probe.fitting.job import ProbeJob
from probe.fitting.options import FitOptions
from probe.fitting.probe_job import ProbeRun
from probe.probes.grid_fit import column_bytes


def test_training_sets_are_kept_beside_the_columns_that_are_solved(study: Study) -> None:
    """With more values of C side by side less is left for them, by just what those take."""
    kept = {}
    for points in (1, 3):
        options = FitOptions(study.folder, c=[10.0**i for i in range(points)])
        run = ProbeRun(study, options, 1 << 30, torch.device("cpu"))
        job = ProbeJob(study.tasks["label"], "net", "high", "logistic")
        with study.features("net") as file:
            kept[points] = run.layer(job, file).shared.limit
    three_classes = column_bytes(90, 3, 3) - column_bytes(90, 3, 1)
    assert kept[1] - kept[3] == cores() * three_classes > 0

"""Faults that only an accelerator shows, planted one by one: the simulated device shows each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from devices.conftest import features_in
from devices.test_finetune_there import card as network_with_dropout
from devices.test_finetune_there import trained
from devices.test_fit_there import GRID, study_of
from finetuning.brighthalves import write_data
from planted import planted

from features.extraction.extract import extract
from probe.fitting.fit import fit

AWAY = "same device"
EXTRACTION = {
    "images stay here": (
        "features.extraction.pipeline",
        ".to(job.device, non_blocking=beside)",
        "",
        AWAY,
    ),
    "features are read too soon": (
        "features.extraction.pipeline",
        "wait(job.device)\n            return",
        "return",
        "NaN",
    ),
    "lanes do not wait for the weights": (
        "features.extraction.pipeline",
        "wait(job.device)  #",
        "#",
        "had not waited",
    ),
    "pixels are overwritten while they are copied": (
        "features.extraction.pipeline",
        "x = x.permute(0, 3, 1, 2).to(job.device, non_blocking=beside)",
        "held, x = x, x.permute(0, 3, 1, 2).to(job.device, non_blocking=beside)\n"
        "                    held.zero_()",
        "changed before",
    ),
    "the mean stays here": (
        "features.images.preprocess",
        "sent(mean_of(wanted), x.device)",
        "mean_of(wanted)",
        AWAY,
    ),
    "the deviation stays here": (
        "features.images.preprocess",
        "sent(torch.tensor(wanted.std), x.device)",
        "torch.tensor(wanted.std)",
        AWAY,
    ),
}
"""By what is wrong: the module, its text, the text in its place, and words of the error."""
FIT = {
    "rows stay here": (
        "probe.probes.layer",
        "torch.from_numpy(self.rows(rows)).to(self.device)",
        "torch.from_numpy(self.rows(rows))",
        None,
    ),
    "columns stay here": (
        "probe.probes.layer",
        "torch.from_numpy(source.columns(start, stop)).to(source.device)",
        "torch.from_numpy(source.columns(start, stop))",
        AWAY,
    ),
    "labels stay here": (
        "probe.probes.linear",
        "torch.from_numpy(codes).to(device)",
        "torch.from_numpy(codes)",
        AWAY,
    ),
    "values of C stay here": (
        "probe.probes.solver",
        "c = kind.c.to(device)",
        "c = kind.c.clone()",
        AWAY,
    ),
    "problems are numbered here": (
        "probe.probes.solver",
        "torch.arange(sum(columns.counts), device=device)",
        "torch.arange(sum(columns.counts))",
        AWAY,
    ),
    "scores are read there": (
        "probe.probes.grid_fit",
        ".float().cpu().numpy()",
        ".float().numpy()",
        "numpy",
    ),
}
"""None in the place of words: what the run gives is not as it should be."""
TRAINING = {
    "images stay here": (
        "probe.training.augment",
        "sent(torch.stack(cut), device)",
        "torch.stack(cut)",
        AWAY,
    ),
    "mirrors stay here": ("probe.training.augment", "sent(mirrored, device)", "mirrored", AWAY),
    "labels stay here": (
        "probe.training.epoch",
        "y = sent(here, device)",
        "y = here",
        AWAY,
    ),
    "weights of classes stay here": (
        "probe.training.epoch",
        "moved = [sent(w, device) for w in weights]",
        "moved = weights",
        AWAY,
    ),
    "a generator of the processor draws": (
        "probe.training.epoch",
        "scores = job.network(x).float()",
        "scores = job.network(x * torch.rand(x.shape, generator=torch.Generator(), device=device))",
        "generator",
    ),
    "dropout has no seed there": (
        "features.machine.device",
        "        torch.manual_seed(seed)\n        try",
        "        torch.default_generator.manual_seed(seed)\n        try",
        None,
    ),
    "a checkpoint holds tensors of the device": (
        "probe.training.checkpoint",
        "_on_processor(state)",
        "state",
        None,
    ),
}


def shown(fault: tuple[str, str, str, str | None], run: Callable[[], bool]) -> None:
    """The fault is seen: by an error with its words, or `run` says that something is not right."""
    module, old, new, words = fault
    assert run()
    with planted(importlib.import_module(module), old, new):
        if words is None:
            assert not run()
        else:
            assert words in _why_not(run)


def _why_not(run: Callable[[], bool]) -> str:
    """What the error of `run`, and those that led to it, say."""
    try:
        run()
    except Exception as error:  # of any kind
        causes: list[BaseException | None] = [error]
        while (last := causes[-1]) is not None:
            causes.append(last.__cause__ or last.__context__)
        return " ".join(map(str, causes))
    return ""


@pytest.mark.parametrize("fault", EXTRACTION.values(), ids=EXTRACTION)
def test_a_fault_of_extraction_is_seen(
    tmp_path: Path, tiny_card: Callable[..., Path], simulated: Any, fault: Any
) -> None:
    card = tiny_card("[8, 8]", "[8, 8]\nmean = [90.0, 100.0, 110.0]\nstd = [60.0, 61.0, 62.0]")
    images = toys.write_images(tmp_path / "images", 6)
    turns = iter(range(2))

    def run() -> bool:
        study = tmp_path / str(next(turns))
        extract(study, str(card), data=str(images), device="simulated", batch_size=3, lanes=2)
        return bool(np.isfinite(features_in(study)["fc"]).all())

    shown(fault, run)


@pytest.mark.parametrize("fault", FIT.values(), ids=FIT)
def test_a_fault_of_a_fit_is_seen(tmp_path: Path, simulated: Any, fault: Any) -> None:
    turns = iter(range(2))

    def run() -> bool:
        study = study_of(tmp_path / str(next(turns)))
        simulated.counts.clear()
        fit(
            study.folder, device="simulated", c=GRID[:1], probes=("logistic",), tasks=("label",),
            layers=("wide" if "columns" in fault[1] else "tall",),
        )  # fmt: skip
        return simulated.counts["to"] > 0  # or all is done here

    shown(fault, run)


card = network_with_dropout


@pytest.mark.parametrize("fault", TRAINING.values(), ids=TRAINING)
def test_a_fault_of_training_is_seen(tmp_path: Path, card: str, simulated: Any, fault: Any) -> None:
    data = str(write_data(tmp_path / "data", folds=2))
    turns = iter("ab")
    wanted: list[Any] = []

    def stop(*_: object) -> None:
        if list(tmp_path.rglob("*.pt")):
            raise KeyboardInterrupt

    def run() -> bool:
        """Whether a training that was stopped comes to one that was not."""
        here = tmp_path / next(turns)
        if not wanted:
            wanted.append(trained(here, card, "simulated", data=data))
            return True
        with suppress(KeyboardInterrupt):
            trained(here, card, "simulated", data=data, progress=stop)
        try:
            made = trained(here, card, "simulated", data=data)
        except ValueError as error:
            if "not a checkpoint" in str(error):
                return False
            raise
        return all(np.array_equal(made[key], x) for key, x in wanted[0].items())

    shown(fault, run)

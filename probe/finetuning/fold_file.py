"""The result of one fold of a fine-tune, and the file that keeps it until all folds are finished."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from features.arrays import Floats
from features.machine.files import replacing
from features.machine.regular_files import is_of_the_disk, open_regular
from probe.training.setup import Epoch


@dataclass(frozen=True)
class FoldResult:
    """A fold that is trained and tested."""

    fold: int
    epochs: int
    stopped_early: bool
    selection: float | None
    n_train: int
    kept_prefix: bool
    rate: float
    scores: dict[str, Floats]
    """Log probabilities by view, `(rows of the fold, classes of all tasks)`."""
    inner: list[tuple[float, Epoch]]
    """The epochs that chose epochs and rate, each with the rate that was tried."""
    whole: list[Epoch]
    """The epochs on all training rows."""


def write_fold(file: Path, result: FoldResult) -> None:
    """Write a fold's result in one step."""
    about = asdict(replace(result, scores={}))
    with replacing(file) as written:
        np.savez(written, about=np.array(json.dumps(about)), **result.scores)  # type: ignore[arg-type]


def read_fold(file: Path) -> FoldResult | None:
    """The result that `write_fold` wrote; None where there is none, or it does not read and is removed."""
    if not file.is_file():
        return None
    try:
        with open_regular(file) as held, np.load(held, allow_pickle=False) as opened:
            about = json.loads(str(opened["about"]))
            scores = {name: opened[name] for name in opened.files if name != "about"}
        about |= {
            "scores": scores,
            "inner": [(rate, Epoch(**epoch)) for rate, epoch in about["inner"]],
            "whole": [Epoch(**epoch) for epoch in about["whole"]],
        }
        return FoldResult(**about)
    except Exception as error:  # a damaged archive can raise anything
        if is_of_the_disk(error):
            raise
        file.unlink(missing_ok=True)
        return None

"""What one fold of a fine-tune came to, and the file that keeps it until all folds are there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.errors import InputError
from features.machine.files import replacing
from probe.training.setup import Epoch

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fold:
    """What one fold came to."""

    fold: int
    epochs: int
    stopped_early: bool
    selection: float | None
    n_train: int
    kept_prefix: bool
    rate: float
    scores: dict[str, Floats]
    """By view, `(rows of the fold, classes of all tasks)`: log probabilities."""
    inner: list[tuple[float, Epoch]]
    """With the rate that was tried."""
    whole: list[Epoch]


def write_fold(file: Path, one: Fold) -> None:
    """Write it in one step."""
    about = asdict(replace(one, scores={}))
    with replacing(file) as written:
        np.savez(written, about=np.array(json.dumps(about)), **one.scores)  # type: ignore[arg-type]


def read_fold(file: Path) -> Fold:
    """Read it again.

    Raises:
        InputError: It is damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as opened:
            about = json.loads(str(opened["about"]))
            scores = {name: opened[name] for name in opened.files if name != "about"}
        about |= {
            "scores": scores,
            "inner": [(rate, Epoch(**epoch)) for rate, epoch in about["inner"]],
            "whole": [Epoch(**epoch) for epoch in about["whole"]],
        }
        return Fold(**about)
    except Exception as error:  # a damaged archive raises what it likes
        raise InputError(f"{file}: damaged; delete it to train this fold again.") from error

"""The results that shares of a fit have made, each a file in `STUDY/fitting/` until they are collected."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from features.machine.strict_json import from_json
from probe.results import predictions
from probe.results.predictions import Key, Prediction
from probe.results.rows import Row

_AT_WORK = 3600.0  # seconds

FOLDER = "fitting"
"""The folder's name within a study."""


@dataclass(frozen=True)
class FitPart:
    """What a probe on a layer came to, as `fit` puts it into the study."""

    prediction: Prediction
    rows: list[Row]
    notes: list[str]


def part_of(study: Path, key: Key, protocol: str, features: str) -> Path:
    """The file of a result under a protocol, of features with this digest."""
    about = json.dumps([key, protocol, features])
    return study / FOLDER / f"{hashlib.sha256(about.encode()).hexdigest()[:24]}.npz"


def write_part(file: Path, part: FitPart) -> None:
    """Write a result in one step."""
    about = json.dumps({"rows": [asdict(row) for row in part.rows], "notes": part.notes})
    predictions.write_file(file, part.prediction, about=about)


def read_part(file: Path) -> FitPart | None:
    """The result in a file; None where there is none, or it does not read and is removed."""
    if not file.is_file():
        return None
    try:
        prediction, about = predictions.read_file(file)
        told = from_json(about)
        return FitPart(prediction, [Row(**row) for row in told["rows"]], list(told["notes"]))
    except predictions.DAMAGED:
        file.unlink()
        return None


def discard(study: Path, files: Sequence[Path]) -> None:
    """Remove files that were collected, and the folder when it is empty."""
    for file in files:
        file.unlink(missing_ok=True)
    folder = study / FOLDER
    for left in folder.glob(".*"):  # of a share that was killed; one at work writes for seconds
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _AT_WORK:
                left.unlink()
    with suppress(OSError):
        folder.rmdir()

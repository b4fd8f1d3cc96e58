"""The results that shares of a fit have made, each a file in `STUDY/fitting/` until they are collected."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from features.errors import InputError
from features.machine.regular_files import is_of_the_disk
from features.machine.strict_json import from_json
from features.store.paths import fit_parts_of
from probe.results import predictions
from probe.results.predictions import Key, Prediction
from probe.results.rows import Row

_AT_WORK = 3600.0  # seconds
_BEFORE = re.compile(r"[0-9a-f]{24}\.npz")  # names of earlier toolkits, whose results nothing takes


@dataclass(frozen=True)
class FitPart:
    """What a probe on a layer came to, as `fit` puts it into the study."""

    prediction: Prediction
    rows: list[Row]
    notes: list[str]


def part_of(study: Path, key: Key, protocol: str, features: str) -> Path:
    """The file of a result under a protocol, of features with this digest.

    Files of the same result that other protocols or features made begin alike.
    """
    result, made_of = _digest([*key]), _digest([protocol, features])
    return fit_parts_of(study, key[1]) / f"{result}-{made_of}.npz"


def _digest(words: list[str]) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


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
    except predictions.DAMAGED as error:
        if is_of_the_disk(error):
            raise
        file.unlink()
        return None


def check_places(study: Path) -> None:
    """Make sure that every result of a share can be read, written and removed.

    Raises:
        InputError: There is a folder where one belongs.
    """
    for file in fit_parts_of(study).rglob("*.npz"):
        if file.is_dir():
            raise InputError(f"{file}: a folder where a file belongs; remove it.")


def discard(study: Path, made: Collection[Path]) -> int:
    """Remove the files of results that the study has, and what other settings or features made of these.

    Args:
        study: The study's folder.
        made: The files of these results as `part_of` names them, whether they are there or not.

    Returns:
        How many files of other settings or features, or of an earlier toolkit, went.
    """
    folder, now = fit_parts_of(study), set(made)
    results = {_result(file) for file in now}
    others = 0
    for file in folder.glob("*/*.npz"):
        if _result(file) in results:
            file.unlink(missing_ok=True)
            others += file not in now
    for file in folder.glob("*.npz"):
        if _BEFORE.fullmatch(file.name):
            file.unlink(missing_ok=True)
            others += 1
    for left in folder.glob("*/.*"):  # of a share that was killed; one at work writes for seconds
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _AT_WORK:
                left.unlink()
    for emptied in (*folder.glob("*/"), folder):
        with suppress(OSError):
            emptied.rmdir()
    return others


def _result(file: Path) -> tuple[str, str]:
    return file.parent.name, file.name.partition("-")[0]

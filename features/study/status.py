"""The features in a study, their verification, and removing a backbone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from features.errors import InputError, nearest
from features.machine.locks import lock_of, locked
from features.store.featurefile import DONE, PENDING, UNREADABLE, Damage, FeatureFile
from features.store.few_rows import bytes_on_disk
from features.store.making import sweep
from features.store.opening import Damaged
from features.store.paths import every_file, fit_parts_of, partial_of, parts_of
from features.store.seconds import seconds_path
from features.study.study import Study


@dataclass(frozen=True)
class StoredBackbone:
    """The features of one backbone in a study."""

    backbone: str
    domain: str
    layers: tuple[str, ...]
    done: int
    unreadable: int
    pending: int
    bytes: int
    finished: bool
    """False: an interrupted run, which `probe extract` continues."""
    damage: str = ""
    """What is wrong with its file, in a sentence; empty if nothing is."""


def held(study: Study) -> list[StoredBackbone]:
    """Every backbone of the study, finished or not, and damaged ones too."""
    backbones = []
    for path in every_file(study.folder):
        try:
            opened = FeatureFile(path)
        except InputError as error:  # damaged, or another process is writing it
            name = path.name.removesuffix(".partial").removesuffix(".h5")
            size = path.lstat().st_size
            damage = str(error) if isinstance(error, Damaged) else ""
            backbones.append(
                StoredBackbone(name, "", (), 0, 0, 0, size, finished=False, damage=damage)
            )
            continue
        with opened as file:
            status = file.status
            backbones.append(
                StoredBackbone(
                    file.backbone,
                    file.domain,
                    tuple(file.keys),
                    int((status == DONE).sum()),
                    int((status == UNREADABLE).sum()),
                    int((status == PENDING).sum()),
                    bytes_on_disk(path),
                    path.suffix == ".h5",
                )
            )
    return backbones


def verify(study: Study) -> dict[str, list[Damage]]:
    """The changes on disk since writing, by backbone, in every finished feature file."""
    damages: dict[str, list[Damage]] = {}
    for path in study.finished_files():
        with FeatureFile(path) as file:
            damages[file.backbone] = file.verify()
    return damages


def parts_waiting(study: Study) -> dict[str, int]:
    """How many parts of shares wait to be collected, by the name of the feature file."""
    folders = sorted((study.folder / "features").glob("*.h5.parts"))
    made = {path.name.removesuffix(".h5.parts"): len(list(path.glob("*.h5"))) for path in folders}
    return {name: number for name, number in made.items() if number}


def fits_waiting(study: Study) -> int:
    """How many results of shares of a fit wait to be collected."""
    folder = fit_parts_of(study.folder)
    return len([*folder.glob("*.npz"), *folder.glob("*/*.npz")])


@contextmanager
def removing_features(study: Study, backbone: str) -> Iterator[None]:
    """Delete the feature files of one backbone, finished or not, after the block.

    No other process writes them within it.

    Raises:
        InputError: There are none, or another process is writing them.
    """
    path = study.feature_path(backbone)
    existing = [p for p in (path, partial_of(path)) if os.path.lexists(p)]
    folder = next((p for p in existing if p.is_dir() and not p.is_symlink()), None)
    if folder is not None:
        raise InputError(f"{folder}: a folder where a feature file belongs; remove it.")
    if not existing and not parts_of(path).is_dir():
        raise InputError(
            f"{backbone}: no features of it in {study.folder}; {nearest(backbone, study.backbones())}"
        )
    lock = lock_of(path)
    with locked(lock, str(path)):
        sweep(path)
        yield
        for file in existing:
            file.unlink()
        shutil.rmtree(parts_of(path), ignore_errors=True)
        seconds_path(path).unlink(missing_ok=True)
        lock.unlink(missing_ok=True)


def unreadable(study: Study) -> dict[str, str]:
    """The reason by path of every row that is unreadable in a finished feature file."""
    reasons: dict[str, str] = {}
    for name in study.backbones():
        with study.features(name) as file:
            reasons |= {study.paths[row]: reason for row, reason in file.reasons().items()}
    return reasons

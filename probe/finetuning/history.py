"""training.csv: the training of every fine-tune, one row per fold, stage and epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.results import csv_records
from probe.training.setup import Epoch


@dataclass(frozen=True)
class TrainingEpoch:
    """One epoch of the training of a fold."""

    backbone: str
    layer: str
    """The cut, empty without one."""
    method: str
    task: str
    fold: int
    stage: str
    """`inner`, which chooses the epochs and has an inner loss, or `whole`, on all training rows."""
    rate: float
    """The highest learning rate of the schedule."""
    epoch: Epoch
    """Its losses are means in nats; its accuracies fractions."""


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The columns of training.csv."""

    backbone: str
    layer: str
    method: str
    task: str
    fold: int
    stage: str
    rate: float = 0.0
    epoch: int
    """Counted from one."""
    loss: float
    accuracy: float
    inner_loss: float | None
    inner_accuracy: float | None
    seconds: float

    @property
    def result(self) -> tuple[str, str, str, str]:
        """What tells one result from another."""
        return (self.backbone, self.layer, self.method, self.task)


_REMEDY = "restore the file, or delete it: only the curves of training are lost."


def read(file: Path) -> list[TrainingEpoch]:
    """All epochs in the file; none where nothing was trained.

    Raises:
        InputError: A cell does not read.
    """
    return [
        TrainingEpoch(
            r.backbone,
            r.layer,
            r.method,
            r.task,
            r.fold,
            r.stage,
            r.rate,
            Epoch(r.epoch - 1, r.loss, r.accuracy, r.inner_loss, r.inner_accuracy, r.seconds),
        )
        for r in csv_records.read(file, _Record, _REMEDY)
    ]


def add(file: Path, epochs: Sequence[TrainingEpoch]) -> None:
    """Put the epochs of whole results into the file, in the place of older ones.

    Raises:
        InputError: A cell of the file does not read.
    """
    new = [_record(trained) for trained in epochs]
    replaced = {record.result for record in new}
    kept = [r for r in csv_records.read(file, _Record, _REMEDY) if r.result not in replaced]
    csv_records.write(file, _Record, [*kept, *new], digits=6)


def _record(trained: TrainingEpoch) -> _Record:
    epoch = trained.epoch
    return _Record(
        backbone=trained.backbone,
        layer=trained.layer,
        method=trained.method,
        task=trained.task,
        fold=trained.fold,
        stage=trained.stage,
        rate=trained.rate,
        epoch=epoch.epoch + 1,
        loss=epoch.loss,
        accuracy=epoch.accuracy,
        inner_loss=epoch.inner_loss,
        inner_accuracy=epoch.inner_accuracy,
        seconds=epoch.seconds,
    )

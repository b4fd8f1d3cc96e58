"""Training epoch by epoch for TensorBoard, a run per fold and stage (the extra `tensorboard`)."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from features.errors import InputError
from probe.training.setup import Epoch


class Board:
    """Writes scalars into one folder per run."""

    def __init__(self, folder: Path) -> None:
        """Nothing is written yet.

        Raises:
            InputError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(
                f"--tensorboard {folder}: the package tensorboard is not installed; run "
                "`pip install 'transfer-probe[tensorboard]'`, or leave the option out (training.csv "
                "has the same numbers)."
            ) from error
        self.folder = folder
        self.writer: Any = SummaryWriter

    def note(self, run: str, epoch: Epoch) -> None:
        """Write one epoch of a run; its number counts from 1, as in training.csv."""
        step = epoch.epoch + 1
        numbers = {
            "loss": epoch.loss,
            "accuracy": epoch.accuracy,
            "inner_loss": epoch.inner_loss,
            "inner_accuracy": epoch.inner_accuracy,
        }
        with self.writer(str(self.folder / run), purge_step=step) as writer:
            for name, value in numbers.items():
                if value is not None and isfinite(value):
                    writer.add_scalar(name, value, step)

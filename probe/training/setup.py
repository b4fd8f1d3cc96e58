"""What a training is given and what comes of it: job, goal, inputs, epochs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Doubles, Floats, Ints
from features.errors import InputError, Stopped
from probe.training.cut import Prefix
from probe.training.head import Network
from probe.training.recipes import Recipe

_NORMS = (nn.modules.batchnorm._BatchNorm,)


class Feed(Protocol):
    """A source of inputs."""

    device: torch.device

    @property
    def ahead(self) -> bool:
        """Whether it pays to prepare the next batch while this one is computed."""

    def training(self, rows: Ints, rng: np.random.Generator) -> Tensor:
        """Augmented inputs of `rows`, on the device."""

    def views(self, rows: Ints, view: str) -> Iterator[Tensor]:
        """The inputs of `rows` under every crop of a view, on the device."""


@dataclass(frozen=True)
class Goal:
    """The labels to be learnt: of one task, or of several that share the network."""

    labels: Ints
    """`(n, tasks)`, rows as images.csv; -1 where there is no label, of a number 0 where there is one."""
    sizes: tuple[int, ...]
    """The number of classes of every task, 1 for a number; the network's scores stand side by side in this
    order."""
    numbers: Doubles | None = None
    """`(n, tasks)`, NaN where there is none and in the columns of classes; None: all tasks have classes."""
    number_columns: tuple[int, ...] = ()
    """Which tasks are numbers."""
    centre: tuple[float, ...] = ()
    """Of every number what a score of 0 stands for."""
    spread: tuple[float, ...] = ()
    """Of every number what a score of 1 adds to it."""

    def is_number(self, column: int) -> bool:
        """Whether a task is a number, learnt by its absolute error."""
        return column in self.number_columns

    def scaled_by(self, rows: Ints) -> Goal:
        """The goal with its numbers in mean distances from the median of the training `rows`."""
        if self.numbers is None:
            return self
        centre, spread = [], []
        for column in range(len(self.sizes)):
            own = self.numbers[rows, column]
            own = own[~np.isnan(own)]
            middle = float(np.median(own)) if len(own) else 0.0
            centre.append(middle)
            spread.append((float(np.abs(own - middle).mean()) if len(own) else 0.0) or 1.0)
        return replace(self, centre=tuple(centre), spread=tuple(spread))

    def targets(self, rows: Ints) -> Floats:
        """What scores of numbers should be, `(len(rows), tasks)`, 0 where there is none."""
        assert self.numbers is not None
        scaled = (self.numbers[rows] - np.array(self.centre)) / np.array(self.spread)
        return np.asarray(np.nan_to_num(scaled), dtype=np.float32)

    def parts(self) -> list[slice]:
        """The columns of every task's scores."""
        ends = np.cumsum(self.sizes).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]


@dataclass
class Epoch:
    """The measures of one epoch."""

    epoch: int
    loss: float
    accuracy: float
    """Of the tasks with classes; NaN where there is none."""
    inner_loss: float | None = None
    """The log loss of the inner validation rows in nats, summed over tasks; of a number the absolute error
    in spreads."""
    inner_accuracy: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainingProgress:
    """How far training has come."""

    images: int
    """Images trained on since the last call."""
    epoch: int
    epochs: int
    loss: float
    accuracy: float


@dataclass
class Trained:
    """A network after training."""

    epochs: int
    """The number of epochs trained, or, with early stopping, the best number."""
    history: list[Epoch] = field(default_factory=list)
    stopped_early: bool = False


@dataclass(frozen=True)
class TrainingJob:
    """How one network is trained."""

    network: Network
    prefix: Prefix
    """The frozen part; empty if nothing is frozen."""
    recipe: Recipe
    head_times: float
    goal: Goal
    feed: Feed
    epochs: int
    """The epochs over which the schedule runs."""
    seed: int
    accumulate: int = 1
    """The parts that a batch is computed in; their gradients are added."""
    precision: str = "float32"
    """`float32` or `tf32`, or of mixed precision `bf16` or `fp16`."""


class Diverged(Stopped):
    """The loss is no longer a number."""


def check_norms(body: nn.Module, prefix: Prefix, recipe: Recipe, accumulate: int, n: int) -> None:
    """Refuse batches in which a batch norm that is trained gets fewer than two images at a time.

    Args:
        body: The network.
        prefix: The frozen part.
        recipe: Has the batch size.
        accumulate: The parts that a batch is computed in.
        n: The number of training images.

    Raises:
        InputError: A batch norm gets one image.
    """
    trained = [
        name
        for name, module in body.named_modules()
        if isinstance(module, _NORMS) and name not in prefix.modules
    ]
    smallest = min(recipe.batch_size // accumulate, n)
    if trained and smallest < 2:
        raise InputError(
            f"--batch-size {recipe.batch_size}: the batch norm {trained[0]} needs two images or "
            f"more at a time, and gets {smallest}; use a larger batch."
        )

"""What a training is given and what comes of it: job, goal, inputs, epochs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Ints
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
    """`(n, tasks)`, rows as images.csv; -1 where there is no label."""
    sizes: tuple[int, ...]
    """The number of classes of every task; the network's scores stand side by side in this order."""

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
    inner_loss: float | None = None
    """The log loss of the inner validation rows in nats, summed over tasks."""
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

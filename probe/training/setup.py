"""What is trained, on what and how; and what training comes to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from features.errors import InputError, Stopped
from probe.training.cut import Prefix
from probe.training.head import Network
from probe.training.recipes import Recipe

Rows = npt.NDArray[np.int64]
_NORMS = (nn.modules.batchnorm._BatchNorm,)


class Feed(Protocol):
    """Where inputs come from."""

    device: torch.device

    @property
    def ahead(self) -> bool:
        """Whether it pays to prepare the next batch while this one is computed."""

    def training(self, rows: Rows, chance: np.random.Generator) -> Tensor:
        """Augmented inputs of `rows`, on the device."""

    def views(self, rows: Rows, view: str) -> Iterator[Tensor]:
        """The inputs of `rows` under every crop of a view, on the device."""


@dataclass(frozen=True)
class Goal:
    """What is learnt: one task or several that share the network."""

    labels: npt.NDArray[np.int64]
    """`(n, tasks)`, rows as images.csv; -1 where there is no label."""
    sizes: tuple[int, ...]
    """Classes of every task; the network's scores stand side by side in this order."""

    def parts(self) -> list[slice]:
        """Where the scores of every task stand."""
        ends = np.cumsum(self.sizes).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]


@dataclass
class Epoch:
    """What one epoch came to."""

    epoch: int
    loss: float
    accuracy: float
    inner_loss: float | None = None
    """Log loss of the inner validation rows in nats, summed over tasks."""
    inner_accuracy: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Now:
    """Where training is, for whoever watches."""

    images: int
    """Trained on since the last call."""
    epoch: int
    epochs: int
    loss: float
    accuracy: float


@dataclass
class Trained:
    """A network after training."""

    epochs: int
    """How many it was trained for, or, with early stopping, which was best."""
    history: list[Epoch] = field(default_factory=list)
    stopped_early: bool = False


@dataclass(frozen=True)
class Job:
    """How one network is trained."""

    network: Network
    prefix: Prefix
    """What is frozen; empty if nothing is."""
    recipe: Recipe
    head_times: float
    goal: Goal
    feed: Feed
    epochs: int
    """Over which the schedule runs."""
    seed: int
    accumulate: int = 1
    """Parts that a batch is computed in, their gradients added."""
    precision: str = "float32"
    """`amp`: mixed precision, on a GPU only."""


class Diverged(Stopped):
    """The loss is no longer a number."""


def check_norms(body: nn.Module, prefix: Prefix, recipe: Recipe, accumulate: int, n: int) -> None:
    """See that no batch norm that is trained gets fewer than two images at a time.

    Args:
        body: The network.
        prefix: What is frozen.
        recipe: Its batches.
        accumulate: Parts that a batch is computed in.
        n: Training images.

    Raises:
        InputError: One does.
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

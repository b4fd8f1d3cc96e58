"""Features of a frozen prefix, computed once and kept on disk while a network above it is trained."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from features.backbone import Architecture
from features.extraction.capture import capture
from probe.training.cut import Prefix
from probe.training.feed import ImageFeed
from probe.training.head import Network, set_module

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_DISK_SHARE = 0.1
_BATCH = 64


class Held(nn.Module):
    """Stands where the prefix ended and returns what was kept, whatever it is given."""

    now: Tensor

    def forward(self, _x: Tensor) -> Tensor:
        """The kept features."""
        return self.now


class Suffix(Network):
    """The part of a network above the cut; fed with features, `(n, ...)` to `(n, classes)`."""

    image: Tensor

    def __init__(self, network: Network, held: Held, size: tuple[int, int]) -> None:
        """`network` has `held` in the place of the cut."""
        super().__init__(network.body, network.head, network.place)
        self.held = held
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        self.held.now = x
        # What is left of the prefix hands an image on that nobody reads.
        return super().forward(x.new_zeros(1).expand(len(x), 3, *self.size))


def suffix_of(
    network: Network, architecture: Architecture, prefix: Prefix, sample: Tensor
) -> Suffix | None:
    """A copy of `network` that starts at the cut, or None where it cannot be had.

    It is tried on `sample`, prepared images on the network's device: its scores must be the network's.
    """
    if prefix.layer is None or not prefix.closed:
        return None
    if architecture.traced.at(prefix.layer.module).part:
        return None  # what else its module returns would be wanted too
    network.eval()
    with (
        torch.no_grad(),
        capture(network.body, [prefix.layer], architecture.traced, _copied) as run,
    ):
        features = run(sample)[prefix.layer.name].clone()
    for place in _places(architecture, prefix.layer.module):
        made = _held_at(network, architecture, place).eval()
        with suppress(Exception), torch.no_grad():  # one that does not come apart is run whole
            if torch.allclose(made(features), network(sample), rtol=1e-4, atol=1e-5):
                return made
    return None


def _places(architecture: Architecture, cut: str) -> list[str]:
    """The cut, and before it the modules around it that end with it, the outermost first.

    A residual block whose last ReLU is the cut is such a one: only as a whole can it be left out.
    """
    fired = architecture.traced.fired
    found, parent = [cut], cut.rpartition(".")[0]
    while parent in fired and fired[parent].order == fired[found[0]].order + 1:
        found.insert(0, parent)
        parent = parent.rpartition(".")[0]
    return found


def _held_at(network: Network, architecture: Architecture, place: str) -> Suffix:
    """A copy of `network` with kept features at `place`, and nothing in front of it."""
    fired = architecture.traced.fired
    before = [
        name
        for name, one in fired.items()
        if one.order < fired[place].order
        and not name.startswith(f"{place}.")
        and not place.startswith(f"{name}.")
    ]
    held, other = Held(), copy.deepcopy(network)
    for name in before:
        if not any(name.startswith(f"{outer}.") for outer in before):
            set_module(other.body, name, nn.Identity())
    set_module(other.body, place, held)
    return Suffix(other, held, architecture.input.size)


def _copied(_layer: str, output: Tensor) -> Tensor:
    return output.clone()


@contextmanager
def kept_features(
    network: Network,
    architecture: Architecture,
    prefix: Prefix,
    feed: ImageFeed,
    rows: Rows,
    folder: Path,
) -> Iterator[Floats | None]:
    """The features of `rows` at the cut, `(n, ...)` in a file that goes when the block ends.

    None where they would take more than a tenth of the free disk.
    """
    assert prefix.layer is not None
    shape = architecture.traced.at(prefix.layer.module).shape
    n = int(rows.max()) + 1
    if 4 * n * prod(shape) > _DISK_SHARE * shutil.disk_usage(folder).free:
        yield None
        return
    with TemporaryFile(dir=folder) as file:  # nameless, so that a killed run leaves nothing behind
        kept = np.memmap(file, np.float32, "w+", shape=(n, *shape))
        network.eval()
        with capture(network.body, [prefix.layer], architecture.traced, _copied) as run:
            for start in range(0, len(rows), _BATCH):
                here = rows[start : start + _BATCH]
                for x in feed.views(here, "center"):
                    kept[here] = run(x)[prefix.layer.name].cpu().numpy()
        yield kept

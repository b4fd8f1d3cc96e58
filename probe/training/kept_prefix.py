"""Features of a frozen prefix, computed once and kept on disk while a network above it is trained."""

from __future__ import annotations

import copy
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Floats, Ints
from features.backbone import Architecture
from features.extraction.capture import capture
from features.machine.device import precise
from features.machine.files import is_full
from probe.training.cut import Prefix
from probe.training.feed import ImageFeed
from probe.training.head import Network, set_module

_DISK_SHARE = 0.1  # of the free disk, which the features may take
_BATCH = 64


class KeptFeatures(nn.Module):
    """A module in place of the prefix: it returns kept features, whatever its input is."""

    now: Tensor

    def forward(self, _x: Tensor) -> Tensor:
        """The kept features."""
        return self.now


class Suffix(Network):
    """The part of a network above the cut: features `(n, ...)` to `(n, classes)`."""

    image: Tensor

    def __init__(self, network: Network, kept: KeptFeatures, shape: tuple[int, int, int]) -> None:
        """`network` has `kept` in place of the cut; its images are of `shape` (channels, height, width)."""
        super().__init__(network.body, network.head, network.place)
        self.kept = kept
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        self.kept.now = x
        # What is left of the prefix passes an image on that nothing reads.
        return super().forward(x.new_zeros(1).expand(len(x), *self.shape))


def suffix_of(
    network: Network, architecture: Architecture, prefix: Prefix, sample: Tensor
) -> Suffix | None:
    """A copy of `network` that starts at the cut, or None where the network cannot be cut there.

    It must give the scores of the whole network for `sample`, prepared images on its device.
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
        made = _cut_at(network, architecture, place).eval()
        with suppress(Exception), torch.no_grad():  # a network that cannot be cut is run whole
            if torch.allclose(made(features), network(sample), rtol=1e-4, atol=1e-5):
                return made
    return None


def _places(architecture: Architecture, cut: str) -> list[str]:
    """The modules around the cut that end with it, the outermost first, and the cut itself.

    A residual block whose last ReLU is the cut can only be left out as a whole.
    """
    fired = architecture.traced.fired
    places, parent = [cut], cut.rpartition(".")[0]
    while parent in fired and fired[parent].order == fired[places[0]].order + 1:
        places.insert(0, parent)
        parent = parent.rpartition(".")[0]
    return places


def _cut_at(network: Network, architecture: Architecture, place: str) -> Suffix:
    """A copy of `network` with kept features at `place`, and nothing in front of it."""
    fired = architecture.traced.fired
    before = [
        name
        for name, module in fired.items()
        if module.order < fired[place].order
        and not name.startswith(f"{place}.")
        and not place.startswith(f"{name}.")
    ]
    kept, other = KeptFeatures(), copy.deepcopy(network)
    for name in before:
        if not any(name.startswith(f"{outer}.") for outer in before):
            set_module(other.body, name, nn.Identity())
    set_module(other.body, place, kept)
    return Suffix(other, kept, architecture.input.shape)


def _copied(_layer: str, output: Tensor) -> Tensor:
    return output.clone()


@contextmanager
def kept_features(
    network: Network,
    architecture: Architecture,
    prefix: Prefix,
    feed: ImageFeed,
    rows: Ints,
    folder: Path,
) -> Iterator[Floats | None]:
    """The features of `rows` at the cut in float32, `(n, ...)` in a file that is gone when the block ends.

    None where the file would take more than a tenth of the free disk, or cannot have so much of it.
    """
    assert prefix.layer is not None
    shape = architecture.traced.at(prefix.layer.module).shape
    n = int(rows.max()) + 1
    if 4 * n * prod(shape) > _DISK_SHARE * shutil.disk_usage(folder).free:
        yield None
        return
    with TemporaryFile(dir=folder) as file:  # nameless, so that a killed run leaves nothing behind
        if not _has_room(file.fileno(), 4 * n * prod(shape)):
            yield None
            return
        kept = np.memmap(file, np.float32, "w+", shape=(n, *shape))
        network.eval()
        with (
            precise(feed.device, "float32"),
            capture(network.body, [prefix.layer], architecture.traced, _copied) as run,
        ):
            for start in range(0, len(rows), _BATCH):
                here = rows[start : start + _BATCH]
                for x in feed.views(here, "center"):
                    kept[here] = run(x)[prefix.layer.name].cpu().numpy()
        yield kept


def _has_room(file: int, size: int) -> bool:
    """Whether the disk gives an open file so many bytes; where it gives them later, a write would crash."""
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if is_full(error):
            return False
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot tell
            raise
    except AttributeError:  # a system that cannot
        return True
    return True

"""Views of a test image: its centre crop, the crop and its mirror image, or ten crops.

Crops are cut from a canvas: the image as its card resizes it, the one that the centre is cut from, unless
the card names another `canvas`. Where it is no larger than the crop, ten crops are the image and its mirror
image. A mean image is subtracted at the place of the crop, before mirroring.

Feature files of before hold ten crops of 256 / 224 of the input where a card resizes to the crop's size;
of a layer's view the attribute `canvas` names the canvas, and those have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from features.arrays import Ints
from features.cards.card import Input
from features.errors import OptionError, nearest
from features.formats import meanimage
from features.images import preprocess
from features.machine.device import sent

VIEWS = {"center": 1, "flip": 2, "10crop": 10}
"""The number of crops that each view averages."""


def check_views(views: tuple[str, ...]) -> tuple[str, ...]:
    """Return `views` if all are known.

    Raises:
        InputError: A view is not `center`, `flip` or `10crop`.
    """
    for view in views:
        if view not in VIEWS:
            raise OptionError(f"--view {view}: not a view; {nearest(view, VIEWS)}")
    return views


def canvas_of(wanted: Input) -> Input:
    """The input whose `size` is the canvas from which crops of `wanted.size` are cut."""
    height, width = wanted.size
    resize = wanted.resize if wanted.resize is not None else wanted.size
    if wanted.canvas is not None:
        resize = wanted.canvas
    if isinstance(resize, int):  # the middle of the image, with its shorter side as width
        return replace(wanted, resize=resize, size=(max(height, resize), max(width, resize)))
    size = (max(height, resize[0]), max(width, resize[1]))
    return replace(wanted, resize=resize, size=size)


def canvas_before(wanted: Input) -> tuple[int, int]:
    """The canvas of ten crops, height and width, in files that do not record it."""
    resize = wanted.resize if wanted.resize is not None else wanted.size
    height, width = wanted.size
    if isinstance(resize, int):
        short = resize if resize > min(height, width) else round(resize * 256 / 224)
        return max(height, short), max(width, short)
    if resize[0] <= height and resize[1] <= width:
        resize = (round(height * 256 / 224), round(width * 256 / 224))
    return max(height, resize[0]), max(width, resize[1])


def canvas(view: str, wanted: Input) -> Input:
    """The input whose `size` is the canvas of a view: the network's own, except for ten crops."""
    return canvas_of(wanted) if view == "10crop" else wanted


def inputs(pixels: Tensor, view: str, wanted: Input) -> Iterator[Tensor]:
    """The inputs of a network under every crop of `view`, `(n, c, h, w)` float32, one after another.

    Args:
        pixels: Canvases of the view, `(n, c, H, W)` in 0..255, on the device of the network.
        view: `center`, `flip` or `10crop`.
        wanted: The network's input.
    """
    for top, left, mirrored in crops((pixels.shape[2], pixels.shape[3]), wanted, view):
        yield cut_out(pixels, wanted, top, left, mirrored, pixels.device)


def centre(canvas: tuple[int, int], wanted: Input) -> tuple[int, int]:
    """Top and left of the centre crop, rounded as in extraction."""
    down, right = canvas[0] - wanted.size[0], canvas[1] - wanted.size[1]
    return preprocess.offset(down, wanted), preprocess.offset(right, wanted)


def crops(canvas: tuple[int, int], wanted: Input, view: str) -> list[tuple[int, int, bool]]:
    """The crops of a view: top, left, mirrored. Ten crops: corners and centre, then their mirrors."""
    middle = centre(canvas, wanted)
    if view == "center":
        return [(*middle, False)]
    if view == "flip":
        return [(*middle, False), (*middle, True)]
    down, right = canvas[0] - wanted.size[0], canvas[1] - wanted.size[1]
    places = [(0, 0), (0, right), (down, 0), (down, right), middle]
    if not down and not right:  # all places are one
        places = [middle]
    return [(*place, mirrored) for mirrored in (False, True) for place in places]


def cut_out(
    pixels: Tensor, wanted: Input, top: int, left: int, mirrored: bool, device: torch.device
) -> Tensor:
    """One crop of every canvas, normalised: `(n, c, H, W)` to `(n, c, h, w)` float32."""
    height, width = wanted.size
    crop = pixels[:, :, top : top + height, left : left + width].to(device)
    places = np.tile(np.array([[top, left]]), (len(pixels), 1))
    x = normalised(crop, places, (pixels.shape[2], pixels.shape[3]), wanted)
    return x.flip(3) if mirrored else x


def normalised(pixels: Tensor, places: Ints, canvas: tuple[int, int], wanted: Input) -> Tensor:
    """Crops `(n, c, h, w)`, cut at `places` (top, left), normalised for the network."""
    if not isinstance(wanted.mean, str):
        return preprocess.normalise(pixels, wanted)
    image = meanimage.read(Path(wanted.mean), wanted.channels)
    if image.shape[1:] != torch.Size(canvas) or canvas == wanted.size:
        return preprocess.normalise(pixels, wanted)
    height, width = wanted.size
    cut = [image[:, top : top + height, left : left + width] for top, left in places.tolist()]
    plain = replace(wanted, mean=(0.0,) * wanted.channels, std=(1.0,) * wanted.channels)
    x = preprocess.normalise(pixels, plain) - sent(torch.stack(cut), pixels.device)
    return x / sent(torch.tensor(wanted.std), x.device).view(1, -1, 1, 1)

"""Views of an image: random crop, mirror and colour in training; centre, flip and ten crops at test.

Crops are cut from a canvas: the image as its card resizes it, or, where that leaves the crop no room,
256 / 224 of the input, as Krizhevsky et al. 2012 and Caffe had it. A mean image is subtracted at the
crop's own place, before mirroring.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from features import preprocess
from features.card import Input, nearest
from features.errors import InputError
from features.formats import meanimage
from probe.recipes import Recipe

VIEWS = {"center": 1, "flip": 2, "10crop": 10}
"""How many crops each view averages."""

_ROOM = 256 / 224
_GREY = (0.299, 0.587, 0.114)

Places = npt.NDArray[np.int64]


def check_views(views: tuple[str, ...]) -> tuple[str, ...]:
    """`views` themselves.

    Raises:
        InputError: One is none of `center`, `flip` and `10crop`.
    """
    for view in views:
        if view not in VIEWS:
            raise InputError(f"--views {view}: not a view; {nearest(view, VIEWS)}")
    return views


def canvas_of(wanted: Input) -> Input:
    """The input whose `size` is the canvas that crops of `wanted.size` are cut from."""
    height, width = wanted.size
    resize = wanted.resize if wanted.resize is not None else wanted.size
    if isinstance(resize, int):  # the middle of the image, as wide as its shorter side
        short = resize if resize > min(height, width) else round(resize * _ROOM)
        return replace(wanted, resize=short, size=(max(height, short), max(width, short)))
    if resize[0] <= height and resize[1] <= width:
        resize = (round(height * _ROOM), round(width * _ROOM))
    size = (max(height, resize[0]), max(width, resize[1]))
    return replace(wanted, resize=resize, size=size)


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
    return [(*place, mirrored) for mirrored in (False, True) for place in places]


def cut_out(
    pixels: Tensor, wanted: Input, top: int, left: int, mirrored: bool, device: torch.device
) -> Tensor:
    """One crop of every canvas, normalised: `(n, 3, H, W)` uint8 to `(n, 3, h, w)` float32."""
    height, width = wanted.size
    crop = pixels[:, :, top : top + height, left : left + width].to(device)
    places = np.tile(np.array([[top, left]]), (len(pixels), 1))
    x = normalised(crop, places, (pixels.shape[2], pixels.shape[3]), wanted)
    return x.flip(3) if mirrored else x


def augment(
    pixels: Tensor,
    wanted: Input,
    recipe: Recipe,
    chance: np.random.Generator,
    device: torch.device,
) -> Tensor:
    """Random views of canvases, `(n, 3, H, W)` uint8 to `(n, 3, h, w)` float32 on `device`.

    Without `crop` in the recipe it is the centre that is seen.
    """
    n, (height, width) = len(pixels), wanted.size
    canvas = (pixels.shape[2], pixels.shape[3])
    room = np.array([canvas[0] - height, canvas[1] - width])
    places: Places = np.tile(np.array(centre(canvas, wanted), dtype=np.int64), (n, 1))
    if recipe.crop:
        places = chance.integers(0, room + 1, (n, 2))
    mirrored = torch.from_numpy(chance.random(n) < 0.5) if recipe.mirror else None
    factors = chance.uniform(1 - recipe.colour, 1 + recipe.colour, (3, n)).astype(np.float32)
    cut = [
        image[:, top : top + height, left : left + width]
        for image, (top, left) in zip(pixels, places.tolist(), strict=True)
    ]
    x = torch.stack(cut).to(device, non_blocking=True)
    if recipe.colour:
        x = _recoloured(x, *torch.from_numpy(factors).to(device).view(3, n, 1, 1, 1))
    x = normalised(x, places, canvas, wanted)
    if mirrored is None:
        return x
    return torch.where(mirrored.to(device)[:, None, None, None], x.flip(3), x)


def _recoloured(pixels: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """RGB in 0..255 with other brightness, contrast and saturation, `(n, 3, h, w)`."""
    x = pixels.to(torch.float32) * brightness
    grey = (x * torch.tensor(_GREY, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    x = grey.mean((2, 3), keepdim=True) * (1 - contrast) + x * contrast
    grey = (x * torch.tensor(_GREY, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return (grey * (1 - saturation) + x * saturation).clamp_(0, 255)


def normalised(pixels: Tensor, places: Places, canvas: tuple[int, int], wanted: Input) -> Tensor:
    """Crops `(n, 3, h, w)` in RGB, cut at `places` (top, left), as the network is fed them."""
    if not isinstance(wanted.mean, str):
        return preprocess.normalise(pixels, wanted)
    image = meanimage.read(Path(wanted.mean))
    if image.shape[1:] != torch.Size(canvas) or canvas == wanted.size:
        return preprocess.normalise(pixels, wanted)
    height, width = wanted.size
    cut = [image[:, top : top + height, left : left + width] for top, left in places.tolist()]
    plain = replace(wanted, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    x = preprocess.normalise(pixels, plain) - torch.stack(cut).to(pixels.device)
    return x / torch.tensor(wanted.std, device=x.device).view(1, 3, 1, 1)

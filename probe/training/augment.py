"""Random views of an image in training: crop, mirror, colour; those at test: features/images/views.py."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from features.arrays import Ints
from features.cards.card import Input
from features.images.views import centre, normalised
from features.machine.device import sent
from probe.training.recipes import Recipe

_GREY = (0.299, 0.587, 0.114)


def augment(
    pixels: Tensor,
    wanted: Input,
    recipe: Recipe,
    rng: np.random.Generator,
    device: torch.device,
) -> Tensor:
    """Random views of canvases, `(n, c, H, W)` in 0..255 to `(n, c, h, w)` float32 on `device`.

    Without `crop` in the recipe every view is the centre.
    """
    n, (height, width) = len(pixels), wanted.size
    canvas = (pixels.shape[2], pixels.shape[3])
    room = np.array([canvas[0] - height, canvas[1] - width])
    places: Ints = np.tile(np.array(centre(canvas, wanted), dtype=np.int64), (n, 1))
    if recipe.crop:
        places = rng.integers(0, room + 1, (n, 2))
    mirrored = torch.from_numpy(rng.random(n) < 0.5) if recipe.mirror else None
    factors = rng.uniform(1 - recipe.colour, 1 + recipe.colour, (3, n)).astype(np.float32)
    cut = [
        image[:, top : top + height, left : left + width]
        for image, (top, left) in zip(pixels, places.tolist(), strict=True)
    ]
    x = sent(torch.stack(cut), device)
    if recipe.colour:
        x = _recoloured(x, *sent(torch.from_numpy(factors), device).view(3, n, 1, 1, 1))
    x = normalised(x, places, canvas, wanted)
    if mirrored is None:
        return x
    return torch.where(sent(mirrored, device)[:, None, None, None], x.flip(3), x)


def _recoloured(pixels: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Grey, RGB or RGBA in 0..255 with other brightness, contrast and saturation, `(n, c, h, w)`.

    Transparency stays as it is.
    """
    colours, transparency = pixels[:, :3].to(torch.float32), pixels[:, 3:].to(torch.float32)
    x = colours * brightness
    x = _grey(x).mean((2, 3), keepdim=True) * (1 - contrast) + x * contrast
    x = (_grey(x) * (1 - saturation) + x * saturation).clamp_(0, 255)
    return torch.cat([x, transparency], 1) if transparency.shape[1] else x


def _grey(x: Tensor) -> Tensor:
    """The luminance of RGB, `(n, 1, h, w)`; a grey image as it is."""
    if x.shape[1] == 1:
        return x
    return (x * sent(torch.tensor(_GREY), x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)

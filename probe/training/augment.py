"""Random views of an image in training: crop, mirror, colour; those at test: features/images/views.py."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from features.arrays import Ints
from features.cards.card import Input
from features.images.views import centre, normalised
from probe.training.recipes import Recipe

_GREY = (0.299, 0.587, 0.114)


def augment(
    pixels: Tensor,
    wanted: Input,
    recipe: Recipe,
    rng: np.random.Generator,
    device: torch.device,
) -> Tensor:
    """Random views of canvases, `(n, 3, H, W)` uint8 to `(n, 3, h, w)` float32 on `device`.

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

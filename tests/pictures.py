"""Images drawn from noise, and what happens to images on their way through the world."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def drawn(seed: int, size: tuple[int, int] = (120, 120)) -> Image.Image:
    """A picture with detail at every scale, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    made: NDArray[np.float64] = np.zeros((*size[::-1], 3))
    for side, weight in ((3, 60), (8, 40), (20, 30), (50, 20)):
        coarse = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        made += weight * (np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) / 127.5 - 1)
    return Image.fromarray(np.clip(made + 128, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, quality: int) -> Image.Image:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=quality)
    return Image.open(held).convert("RGB")


def again(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Re-encoded, and at times resized by 0.4 to 2 or cropped by up to 5 % at each side, or both."""
    kind = rng.integers(4)
    wide, high = image.size
    if kind in (1, 3):
        left, top, right, below = rng.uniform(0, 0.05, 4) * (wide, high, wide, high)
        image = image.crop((round(left), round(top), round(wide - right), round(high - below)))
    if kind in (2, 3):
        by = rng.uniform(0.4, 2)
        image = image.resize((round(image.width * by), round(image.height * by)))
    return encoded(image, int(rng.integers(30, 95)))


def save(image: Image.Image, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, quality=92)
    return file

"""Objects and textures drawn from a seed, for a network that is pretrained on other images than faces.

A class is a shape with a surface, one of them the whole image covered with that surface. The
camera and the backdrops are those of the faces, so that only what is in the picture differs.
"""

from itertools import product
from math import cos, pi, sin

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from features.sample.faces import SIZE, backdrop, photograph

Plane = NDArray[np.float64]
"""One number per point of the drawing, `(2 * SIZE, 2 * SIZE)`."""

SHAPES = ("disc", "square", "triangle", "star", "cross", "ring", "crescent", "field")
SURFACES = ("plain", "striped", "checked", "dotted", "wavy", "blotched")
CLASSES = tuple(f"{surface} {shape}" for shape, surface in product(SHAPES, SURFACES))


def draw_object(label: int, rng: Generator) -> Image.Image:
    """Photograph an object of class `CLASSES[label]`: everything except the class is random.

    Returns:
        An RGB image of `SIZE` x `SIZE`.
    """
    shape, surface = divmod(label, len(SURFACES))
    y, x = (np.mgrid[: 2 * SIZE, : 2 * SIZE] + 0.5) / SIZE - 1
    x, y = (axis - rng.normal(0, 0.1) for axis in (x, y))
    turn, size, squash = rng.uniform(-0.6, 0.6), rng.uniform(0.5, 0.85), rng.uniform(0.75, 1.3)
    x, y = x * cos(turn) + y * sin(turn), y * cos(turn) - x * sin(turn)
    mask = _inside(SHAPES[shape], x / size, y * squash / size).astype(np.float64)
    pattern = _pattern(SURFACES[surface], x, y, rng)
    colours = rng.uniform(20, 235, (2, 1, 1, 3))
    paint = colours[0] + pattern[..., None] * (colours[1] - colours[0])
    behind = np.asarray(backdrop(rng), np.float64)
    drawing = behind + mask[..., None] * (paint - behind)
    swell, bumps = rng.uniform(5, 14), rng.uniform(0, 1.5)
    relief = swell * _soften(mask, 9) + bumps * _soften(mask * pattern, 2)
    lit_from = rng.uniform(0, 2 * pi)
    return photograph(Image.fromarray(drawing.astype(np.uint8)), relief, lit_from, rng)


def _inside(shape: str, x: Plane, y: Plane) -> NDArray[np.bool_]:
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    across, along = np.abs(x), np.abs(y)
    match shape:
        case "disc":
            return radius < 0.95
        case "square":
            return np.maximum(across, along) < 0.85
        case "triangle":
            return (y < 0.6) & (y > 1.75 * across - 0.95)
        case "star":
            return radius < 0.45 + 0.6 * np.abs(angle / pi * 5 % 2 - 1)
        case "cross":
            return (np.minimum(across, along) < 0.3) & (np.maximum(across, along) < 1)
        case "ring":
            return (radius < 1) & (radius > 0.55)
        case "crescent":
            return (radius < 1) & (np.hypot(x - 0.45, y) > 0.75)
        case _:
            return np.ones(x.shape, np.bool_)


def _pattern(surface: str, x: Plane, y: Plane, rng: Generator) -> Plane:
    """The share of the second colour at each point, 0 to 1."""
    turn, rate = rng.uniform(0, pi), 2 * pi / rng.uniform(0.15, 0.35)
    u = rate * (x * cos(turn) + y * sin(turn)) + rng.uniform(0, 2 * pi)
    v = rate * (y * cos(turn) - x * sin(turn)) + rng.uniform(0, 2 * pi)
    match surface:
        case "striped":
            marks = np.sin(u) > 0
        case "checked":
            marks = np.sin(u) * np.sin(v) > 0
        case "dotted":
            marks = np.sin(u) + np.sin(v) > 0.9
        case "wavy":
            marks = np.sin(u + 1.5 * np.sin(0.7 * v)) > 0
        case "blotched":
            cells = int(rng.integers(12, 28))
            noise = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
            marks = np.asarray(noise.resize(x.shape, Image.Resampling.BICUBIC)) > 0.2
        case _:
            marks = np.zeros(x.shape, np.bool_)
    return marks.astype(np.float64)


def _soften(plane: Plane, radius: float) -> Plane:
    """Blur a plane and halve it, `(SIZE, SIZE)`: edges become slopes that catch the light."""
    image = Image.fromarray((255 * plane).astype(np.uint8)).reduce(2)
    blurred = image.filter(ImageFilter.GaussianBlur(radius / 2))
    return np.asarray(blurred, np.float64) / 255

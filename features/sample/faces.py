"""Faces drawn from a seed: a `Person` is drawn once, and photographed any number of times.

Age shows in many graded cues (proportions, hair, wrinkles, skin), each with a noisy clock of its
own and a spread between people, so that no one cue tells it. Coordinates of a face: the origin
is its middle, x to the right, y down, the top of the skull at y = -1.
"""

from dataclasses import dataclass
from math import cos, exp, pi, sin

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

SIZE = 96
"""Height and width of a finished image in pixels; it is drawn at twice that."""

Colour = NDArray[np.float64]
"""Red, green and blue, 0 to 255."""

SKINS = np.array([(250, 224, 205), (236, 196, 166), (208, 158, 122), (158, 108, 76), (98, 66, 48)])
HAIRS = np.array([(28, 22, 20), (62, 40, 26), (112, 72, 40), (160, 74, 38), (206, 168, 104)])
IRISES = np.array([(70, 44, 28), (104, 78, 40), (84, 116, 72), (70, 108, 150), (116, 126, 134)])


@dataclass(frozen=True)
class Person:
    """What all images of a person share; lengths are in face coordinates, depths 0 to about 1."""

    male: bool
    skin: Colour
    hair: Colour
    iris: Colour
    width: float
    chin: float
    jaw: float
    eye_y: float
    eye_gap: float
    eye_size: float
    brow: float
    nose: float
    nose_width: float
    mouth: float
    lips: float
    locks: float
    """The length of the hair beside the face."""
    hairline: float
    """0 is a fringe, 1 bald."""
    beard: float
    lines: float
    blotches: float
    sag: float
    glasses: bool
    marks: int
    """The seed of the places of strands, spots and wrinkles."""


def draw_person(age: float, rng: Generator) -> Person:
    """Draw a person of `age` years."""

    def vary(mean: float, spread: float = 0.16) -> float:
        return mean * exp(rng.normal(0, spread))

    def ramp(start: float, end: float) -> float:
        return float(np.clip((vary(age) - start) / (end - start), 0, 1))

    male = bool(rng.random() < 0.5)
    grown, teen, old = 1 - exp(-vary(age) / 7), ramp(10, 20) * male, ramp(35, 90)
    first_grey, receding = rng.normal(40, 8), rng.normal(36, 11)
    infant, grey = 1 - ramp(0, 3.5), ramp(first_grey, first_grey + vary(26))
    bald = ramp(receding, receding + vary(46)) * (1 if male else 0.25)
    hair = _between(HAIRS, rng)
    return Person(
        male=male,
        skin=_between(SKINS, rng) + np.array([10, -4, -4]) * (1 - grown) - 8 * old,
        hair=hair + 0.9 * grey * (204 - hair),
        iris=_between(IRISES, rng),
        width=vary(0.86 - 0.08 * grown, 0.05),
        chin=vary(0.76 + 0.28 * grown, 0.05),
        jaw=vary(0.60 + 0.12 * teen, 0.10),
        eye_y=rng.normal(0.26 - 0.20 * grown, 0.025),
        eye_gap=vary(0.42 - 0.06 * grown, 0.06),
        eye_size=vary(0.205 - 0.06 * grown, 0.08),
        brow=vary(0.03 + 0.025 * grown + 0.025 * teen, 0.22),
        nose=vary(0.16 + 0.21 * grown + 0.04 * old, 0.10),
        nose_width=vary(0.12 + 0.03 * teen, 0.15),
        mouth=vary(0.17 + 0.11 * grown, 0.10),
        lips=vary(0.075 if male else 0.09, 0.18) * (1 - 0.5 * old),
        locks=1.5 * (1 - infant) * (rng.beta(1.2, 4) if male else rng.beta(2.5, 1.6)),
        hairline=min(1.0, rng.beta(2, 4) + 0.55 * bald + 0.5 * infant),
        beard=male * ramp(15, 24) * rng.choice([0, 0.25, 0.6, 1], p=[0.45, 0.3, 0.1, 0.15]),
        lines=vary(ramp(22, 82), 0.3),
        blotches=max(0.0, rng.normal(0.1 + old, 0.12)),
        sag=old,
        glasses=bool(rng.random() < 0.04 + 0.3 * ramp(8, 60)),
        marks=int(rng.integers(2**31)),
    )


def draw_face(person: Person, light: float, rng: Generator) -> Image.Image:
    """Photograph a person: pose, expression, backdrop and noise are new each time.

    Args:
        person: Who is drawn.
        light: Where the light comes from: 0 the right edge, a quarter turn (pi / 2) above.
        rng: Decides everything that varies between images.

    Returns:
        An RGB image of `SIZE` x `SIZE`.
    """
    sketch = Sketch(person, backdrop(rng), rng)
    fixed = np.random.default_rng(person.marks)
    _body_and_head(sketch, person, fixed, rng)
    _wrinkles(sketch, person, fixed)
    _eyes(sketch, person, rng)
    _nose_and_mouth(sketch, person, rng)
    _hair(sketch, person, fixed)
    if person.glasses and rng.random() < 0.85:
        for side in (-1, 1):
            rim = _ring(side * person.eye_gap, person.eye_y, 0.25, 0.2)
            sketch.line([*rim, rim[0]], np.full(3, 35.0), 0.04)
    return photograph(sketch.image, sketch.relief(), light, rng)


def backdrop(rng: Generator) -> Image.Image:
    """A blurred scene at drawing size, brighter towards one side or another."""
    down, right = np.mgrid[-1:1:4j, -1:1:4j, :1][:2] * rng.normal(0, 30, (2, 1, 1, 1))
    coarse = rng.uniform(50, 205) + rng.normal(0, 25, 3) + rng.normal(0, 18, (4, 4, 3))
    small = Image.fromarray(np.clip(coarse + down + right, 0, 255).astype(np.uint8))
    return small.resize((2 * SIZE, 2 * SIZE), Image.Resampling.BICUBIC)


def photograph(
    drawing: Image.Image, relief: NDArray[np.float64], light: float, rng: Generator
) -> Image.Image:
    """Light a drawing from one side and photograph it, with errors of a camera.

    Args:
        drawing: RGB, twice `SIZE` high and wide.
        relief: How far each point stands out, `(SIZE, SIZE)`, in pixels.
        light: As in `draw_face`.
        rng: Decides how hard and how high the light is, the exposure and the noise.
    """
    down, right = np.gradient(relief)
    height, ambient = rng.uniform(0.45, 1.1), rng.uniform(0.4, 0.8)
    toward = (cos(light) * cos(height), -sin(light) * cos(height), sin(height))
    facing = (-right * toward[0] - down * toward[1] + toward[2]) / np.sqrt(1 + right**2 + down**2)
    shade = ambient + (1 - ambient) * np.clip(facing, 0, None) / toward[2]  # 1 where flat
    pixels = np.asarray(drawing.reduce(2), np.float64) * shade[..., None]
    pixels *= exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.05, 3))
    pixels += rng.normal(0, rng.uniform(2, 9), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _between(colours: NDArray[np.int64], rng: Generator) -> Colour:
    low, part = divmod(rng.uniform(0, len(colours) - 1), 1)
    first, second = colours[int(low)], colours[int(low) + 1]
    colour: Colour = first + part * (second - first) + rng.normal(0, 5, 3)
    return colour


def _ring(x: float, y: float, rx: float, ry: float) -> NDArray[np.float64]:
    turn = np.linspace(0, 2 * pi, 20, endpoint=False)
    return np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1)


def _body_and_head(sketch: "Sketch", person: Person, fixed: Generator, rng: Generator) -> None:
    w, chin, skin = person.width, person.chin, person.skin
    if person.locks > 0.25:
        turn, low = np.linspace(pi, 2 * pi, 16), person.locks
        cap = np.stack([(w + 0.14) * np.cos(turn), 1.1 * np.sin(turn)], axis=1)
        ends = np.array([(1, 0), (0.6, 0.12), (-0.6, 0.12), (-1, 0)]) * (w + 0.16, 1) + (0, low)
        sketch.patch([*cap, *ends], person.hair * 0.75, solid=False)
    neck, collar = (0.55 if person.male else 0.45) * w, chin + 0.25
    sketch.patch([(-neck, 0.4), (neck, 0.4), (neck, 2), (-neck, 2)], skin * 0.82, solid=False)
    left = np.array([(-2.2, 3), (-1.7, collar + 0.25), (-neck, collar), (0, collar + 0.2)])
    sketch.patch([*left, *left[::-1] * (-1, 1)], rng.uniform(20, 230, 3), solid=False)
    for side in (-1, 1):
        sketch.patch(_ring(side * w, person.eye_y + 0.15, 0.1, 0.2), skin * 0.9, solid=False)
    sketch.patch(sketch.outline, skin, solid=False)
    for x, y, size in fixed.uniform((-0.6, -0.7, 0.02), (0.6, 0.7, 0.07), (12, 3)):
        sketch.patch(_ring(x * w, y * chin, size, size), skin * 0.75, 0.45 * person.blotches)
    for side in (-1, 1):
        cheek = _ring(side * 0.55 * w, 0.42 * chin, 0.17, 0.14)
        sketch.patch(cheek, skin * (1.02, 0.86, 0.84), 0.5 * (1.2 - person.lines))
    if person.beard:
        lip = person.eye_y + person.nose + 0.06
        above = [(-0.5 * w, lip + 0.2), (-0.3 * w, lip), (0.3 * w, lip), (0.5 * w, lip + 0.2)]
        below = sketch.outline[sketch.outline[:, 1] > 0.25 * chin]
        sketch.patch([*below, *above], person.hair * 0.9, 0.15 + 0.7 * person.beard)


def _wrinkles(sketch: "Sketch", person: Person, fixed: Generator) -> None:
    chin, eye_y, eye = person.chin, person.eye_y, person.eye_gap
    for i in range(3):
        y, half = fixed.normal(-0.34 - 0.13 * i, 0.02), fixed.uniform(0.3, 0.5) * person.width
        depth = 0.8 * person.lines * fixed.uniform(0.5, 1.1)
        sketch.line([(-half, y), (0, y - 0.03), (half, y)], person.skin * 0.55, 0.03, depth)
    out, under = eye + person.eye_size + 0.03, eye_y + 0.9 * person.eye_size
    creases = [  # on the right half of the face, with their depths
        (0.9, [(out, eye_y - 0.07), (out + 0.1, eye_y - 0.15)]),
        (0.9, [(out, eye_y), (out + 0.1, eye_y)]),
        (0.9, [(out, eye_y + 0.07), (out + 0.1, eye_y + 0.15)]),
        (0.9, [(eye - 0.13, under), (eye, under + 0.05), (eye + 0.13, under)]),
        (1.1, [(0.17, 0.36 * chin), (0.27, 0.5 * chin), (0.31, 0.66 * chin)]),
        (1.2 * person.sag, [(0.33, 0.72 * chin), (0.37, 0.86 * chin)]),
        (0.6, [(0.06, eye_y - 0.2), (0.05, eye_y - 0.05)]),
    ]
    for depth, points in creases:
        for side in (-1, 1):
            strength = depth * person.lines * fixed.uniform(0.5, 1.1)
            sketch.line(np.array(points) * (side, 1), person.skin * 0.55, 0.03, strength)


def _eyes(sketch: "Sketch", person: Person, rng: Generator) -> None:
    size, y, gaze, lift = person.eye_size, person.eye_y, rng.normal(0, 0.2), rng.normal(0, 0.03)
    slit = size * float(np.clip(rng.normal(0.62, 0.1) - 0.18 * person.sag, 0.12, 0.85))
    ball = min(0.55 * size, 1.05 * slit)
    across = np.linspace(-1, 1, 5)
    for side in (-1, 1):
        x = side * person.eye_gap
        sketch.patch(_ring(x, y, size, slit), np.full(3, 240.0))
        sketch.patch(_ring(x + gaze * size, y, ball, ball), person.iris)
        sketch.patch(_ring(x + gaze * size, y, 0.5 * ball, 0.5 * ball), np.full(3, 12.0))
        lid = np.stack([x + 1.1 * size * across, y - slit * (1 - across**2)], axis=1)
        sketch.line(lid, person.skin * (0.45 if person.male else 0.3), 0.035)
        sketch.line(lid - (0, 0.06 + 0.03 * person.sag), person.skin * 0.7, 0.025, 0.6)
        arch = y - size - 0.09 - lift - 0.05 * (1 - across**2) + 0.03 * side * across
        brow = np.stack([x + 1.25 * size * across, arch], axis=1)
        sketch.line(brow, person.hair * 0.8, person.brow, 0.9)


def _nose_and_mouth(sketch: "Sketch", person: Person, rng: Generator) -> None:
    tip, wide, skin = person.eye_y + person.nose, person.nose_width, person.skin
    sketch.line([(-wide, tip), (0, tip + 0.04), (wide, tip)], skin * 0.62, 0.03, 0.8)
    sketch.line([(0.5 * wide, person.eye_y), (0.75 * wide, tip - 0.06)], skin * 0.75, 0.03, 0.5)
    for side in (-1, 1):
        sketch.patch(_ring(side * 0.5 * wide, tip, 0.03, 0.02), skin * 0.4)
    smile, gape = rng.normal(0.03, 0.045), max(0.0, rng.normal(-0.02, 0.06))
    across = np.linspace(-1, 1, 7)
    middle = tip + 0.42 * (person.chin - tip) - smile * (2 * across**2 - 1)
    curve = np.stack([person.mouth * (1 + smile) * across, middle], axis=1)
    down = np.stack([0 * across, 1 - across**2], axis=1)
    lip = skin * ((0.86, 0.62, 0.62) if person.male else (0.88, 0.5, 0.52))
    below = curve + (person.lips + gape) * down
    sketch.patch([*(curve - person.lips * down), *below[::-1]], lip)
    sketch.patch([*curve, *(curve + gape * down)[::-1]], np.array([70.0, 26, 28]), gape > 0)
    sketch.line(curve, skin * 0.42, 0.025, 0.8)


def _hair(sketch: "Sketch", person: Person, fixed: Generator) -> None:
    w, bare = person.width, person.hairline
    edge, volume = -0.42 - 0.58 * bare, 1.14 - 0.10 * bare
    turn, across = np.linspace(1.02 * pi, 1.98 * pi, 24), np.linspace(1, -1, 16)
    skull = np.stack([w * np.cos(turn), np.sin(turn)], axis=1)
    wave = 0.06 * (1 - bare) * np.cos(9 * across + person.marks)
    fringe = np.stack([0.96 * w * across, edge * (1 - np.abs(across) ** 3) + wave], axis=1)
    opacity = float(np.clip(2.5 - 2.5 * bare, 0, 1))
    sketch.patch([*(skull * volume), *fringe], person.hair, opacity, solid=False)
    for turn_, tone in fixed.uniform((1.05 * pi, 0.7), (1.95 * pi, 1.3), (26, 2)):
        x, y = w * cos(turn_), sin(turn_)
        strand = [(x * volume, y * volume), (0.8 * x, max(0.9 * y + 0.1, edge - 0.3))]
        sketch.line(strand, person.hair * tone, 0.02, 0.35 * opacity, solid=False)


class Sketch:
    """A head in one pose, and strokes on it in face coordinates."""

    def __init__(self, person: Person, image: Image.Image, rng: Generator) -> None:
        """Draw on `image`; `rng` decides the pose."""
        self.image, self.pen = image, ImageDraw.Draw(image, "RGBA")
        self.width, self.chin = person.width, person.chin
        self.yaw, self.pitch, self.roll = rng.normal(0, (0.26, 0.12, 0.10))
        # the same height in every image, as in crops of a face detector: size must not show the age
        self.unit = SIZE * 1.4 * exp(rng.normal(0, 0.06)) / (1 + person.chin)
        self.centre = SIZE + rng.normal(0, 5, 2) + (0, 4 - self.unit * (person.chin - 1) / 2)
        turn = np.linspace(0, 2 * pi, 40, endpoint=False)
        x, y = person.width * np.sin(turn), -np.cos(turn)
        low = np.clip(y, 0, None)
        x, y = x * (1 - 0.6 * (1 - person.jaw) * low**2.2), np.where(y > 0, y * person.chin, y)
        self.outline = np.stack([x, y], axis=1)

    def patch(
        self, points: ArrayLike, colour: Colour, opacity: float = 1, *, solid: bool = True
    ) -> None:
        """Fill a polygon; only what is `solid` on the face turns with it."""
        self.pen.polygon(self._place(points, solid), _ink(colour, opacity))

    def line(
        self,
        points: ArrayLike,
        colour: Colour,
        width: float,
        opacity: float = 1,
        *,
        solid: bool = True,
    ) -> None:
        """Draw a line through `points`, `width` in face coordinates."""
        thick = max(1, round(width * self.unit))
        self.pen.line(self._place(points, solid), _ink(colour, opacity), thick, joint="curve")

    def relief(self) -> NDArray[np.float64]:
        """The height of the head above the background, `(SIZE, SIZE)`, in pixels of the finished image."""
        y, x = (2 * np.mgrid[:SIZE, :SIZE] + 1.0 - self.centre[::-1, None, None]) / self.unit
        c, s = cos(self.roll), sin(self.roll)
        x, y = c * x + s * y, c * y - s * x
        along = y / np.where(y < 0, 1.06, 1.02 * self.chin)
        head = np.sqrt(np.clip(1 - (x / (1.04 * self.width)) ** 2 - along**2, 0, None))
        x, y = x - 0.6 * sin(self.yaw), y - 0.25 - 0.6 * sin(self.pitch)
        nose = 0.16 * np.exp(-((x / 0.11) ** 2) - (y / 0.2) ** 2)
        bulge: NDArray[np.float64] = (0.6 * head + nose) * self.unit / 2
        return bulge

    def _place(self, points: ArrayLike, solid: bool) -> list[tuple[float, float]]:
        x, y = np.asarray(points, np.float64).T
        if solid:
            out = 0.8 * np.sqrt(np.clip(1 - (x / self.width) ** 2 - (y / 1.05) ** 2, 0, 1))
            x = x * cos(self.yaw) + out * sin(self.yaw)
            y = y * cos(self.pitch) + out * sin(self.pitch)
        c, s = cos(self.roll), sin(self.roll)
        placed = self.centre + self.unit * np.stack([c * x - s * y, s * x + c * y], axis=1)
        return [(a, b) for a, b in placed.tolist()]


def _ink(colour: Colour, opacity: float) -> tuple[int, int, int, int]:
    r, g, b = np.clip(colour, 0, 255).astype(int).tolist()
    return r, g, b, round(255 * min(1.0, max(0.0, opacity)))

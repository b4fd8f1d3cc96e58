"""The sample: 1,200 drawn faces of 720 subjects, laid out on disk as Adience is.

As there, a few users hold much of it, ten of them 14 % of the images, and most have one image. Each user
has one age group and one coin, and stands wholly in one of five folds of 240 images, 144 users and all
age groups. Three tasks share the images, and what they should show is known because it was planted.
"""

import csv
from dataclasses import asdict, dataclass
from math import pi
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from features.sample.faces import draw_face, draw_person

SAMPLE, FACES, OBJECTS = 1, 2, 3
"""The first number of every seed, so that sample and pretraining share no drawing."""

YEARS = {
    "0-2": (0, 3),
    "3-7": (3, 8),
    "8-13": (8, 14),
    "14-22": (14, 23),
    "23-34": (23, 35),
    "35-45": (35, 46),
    "46-57": (46, 58),
    "58+": (58, 85),
}
"""Age groups, youngest first, with their first year and the year after their last."""

LIGHTS = {"left": pi, "right": 0.0, "above": pi / 2, "below": -pi / 2}
"""The direction of the light as the viewer sees it; in an image it deviates by up to `STRAY`."""

STRAY = 0.7
"""In radians; less than pi / 4, so that no label is wrong."""

COINS = ("heads", "tails")
FOLDS = 5
BUSY_IMAGES = 17
"""The images of a subject with many."""

QUALITY = 92
"""The quality of the JPEG files."""


@dataclass(frozen=True)
class SampleTask:
    """A label column of the sample, and the expected result."""

    classes: tuple[str, ...]
    ordered: bool
    planted: str
    """The result that a study of this task should have, in one sentence."""

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess, a fraction."""
        return 1 / len(self.classes)


@dataclass(frozen=True)
class SampleRow:
    """A row of the manifest; its fields are the columns."""

    path: str
    """Relative to the folder of the sample."""
    age: str
    light: str
    coin: str
    subject: str
    fold: int


@dataclass(frozen=True)
class _Cohort:
    """Subjects planned together, numbered from `first`; the first `busy` of them have many images."""

    first: int
    subjects: int
    images: int
    busy: int


_COHORTS = (_Cohort(0, 120, 600, 10), _Cohort(200, 600, 600, 0))
"""The second makes intervals narrow, which are of subjects, at one image each. It came later and leaves the
first as it was; no number is both a subject's and that of a plan, since both seed drawings."""


def _path(subject: int, image: int) -> str:
    return f"aligned/user{subject:03}/landmark_aligned_face.{subject}.{image:03}.jpg"


TASKS = {
    "age": SampleTask(
        tuple(YEARS), ordered=True, planted="closeness of the pretraining domain should help"
    ),
    "light": SampleTask(
        tuple(LIGHTS), ordered=False, planted="low-level: early layers of any network should do"
    ),
    "coin": SampleTask(COINS, ordered=False, planted="a coin per subject: nobody can beat chance"),
}

COPY = (_path(0, 0), _path(0, BUSY_IMAGES - 1))
"""The same bytes under two names, with the same labels."""

CONFLICT = (_path(1, 0), _path(1, BUSY_IMAGES - 1))
"""The same bytes under two names, with another `light` at the second, which is wrong."""

_AGAIN = tuple(_path(subject, 0) for subject in (232, 276, 316, 378, 396))
"""Drawn once more, since the first drawing came out so like another subject's that the check of copies
took it for one: no image of the sample is alike across folds."""

PLANTED = {name: task.planted for name, task in TASKS.items()} | {
    "copy": f"{COPY[1]} is a copy of {COPY[0]}",
    "conflict": f"{CONFLICT[1]} is a copy of {CONFLICT[0]} under another light label",
}
"""The results that a study or a check should have: one sentence per task and per planted error."""


def write_sample(folder: Path, seed: int = 0) -> None:
    """Draw the sample into `folder`; the same seed gives the same bytes.

    The manifest, `sample.csv`, is written last: if it exists, the images are complete.

    Args:
        folder: Made if it is not there.
        seed: Zero or more; another seed draws other subjects under the same names.
    """
    rows = plan(seed)
    originals = {copy: original for original, copy in (COPY, CONFLICT)}
    for row in rows:
        target = folder / row.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if row.path in originals:
            target.write_bytes((folder / originals[row.path]).read_bytes())
        else:
            draw_image(row, seed).save(target, quality=QUALITY)
    unfinished = folder / "sample.csv.part"
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    unfinished.replace(folder / "sample.csv")


def plan(seed: int = 0) -> list[SampleRow]:
    """The manifest of the sample: the images of each subject, and their labels."""
    return [row for cohort in _COHORTS for row in _plan(cohort, seed)]


def _plan(cohort: _Cohort, seed: int) -> list[SampleRow]:
    rng = np.random.default_rng([SAMPLE, seed, cohort.first + cohort.subjects, 0])
    rows: list[SampleRow] = []
    ages, counts = _age_groups(cohort, rng), _image_counts(cohort, rng)
    coins = _coins(counts, rng)
    labels = zip(ages, counts, coins, strict=True)
    for subject, (age, count, coin) in enumerate(labels, cohort.first):
        lights = [str(light) for light in rng.choice(list(LIGHTS), count)]
        if _path(subject, count - 1) == COPY[1]:
            lights[-1] = lights[0]
        if _path(subject, count - 1) == CONFLICT[1]:
            lights[-1] = next(light for light in LIGHTS if light != lights[0])
        for image, light in enumerate(lights):
            row = SampleRow(
                path=_path(subject, image),
                age=age,
                light=light,
                coin=coin,
                subject=f"user{subject:03}",
                fold=subject % FOLDS,
            )
            rows.append(row)
    return rows


def draw_image(row: SampleRow, seed: int = 0) -> Image.Image:
    """The image of a row, RGB; it does not depend on other drawings."""
    subject, image = (int(part) for part in row.path.split(".")[1:3])
    person_rng = np.random.default_rng([SAMPLE, seed, subject, 0])
    person = draw_person(person_rng.uniform(*YEARS[row.age]), person_rng)
    drawing = 1 + image + (100 if row.path in _AGAIN else 0)
    rng = np.random.default_rng([SAMPLE, seed, subject, drawing])
    return draw_face(person, LIGHTS[row.light] + rng.uniform(-STRAY, STRAY), rng)


def _age_groups(cohort: _Cohort, rng: Generator) -> list[str]:
    """An age group per subject: each as often in each fold, and spread over the busy subjects."""
    order = [str(age) for age in rng.permutation(list(YEARS))]
    groups = [""] * cohort.subjects
    for fold in range(FOLDS):
        members = range(fold, cohort.subjects, FOLDS)
        busy = [order[subject % len(order)] for subject in members if subject < cohort.busy]
        rest = [*YEARS] * (len(members) // len(YEARS))
        for age in busy:
            rest.remove(age)
        for subject, age in zip(members, [*busy, *rng.permutation(rest)], strict=True):
            groups[subject] = str(age)
    return groups


def _image_counts(cohort: _Cohort, rng: Generator) -> list[int]:
    """Images per subject: `BUSY_IMAGES` for the busy, one to about ten for others; folds agree."""
    counts = [BUSY_IMAGES] * cohort.busy + [1] * (cohort.subjects - cohort.busy)
    for fold in range(FOLDS):
        others = [s for s in range(fold, cohort.subjects, FOLDS) if s >= cohort.busy]
        left = cohort.images // FOLDS - sum(counts[fold::FOLDS])
        shares = rng.dirichlet(np.full(len(others), 2.0))
        for subject, extra in zip(others, rng.multinomial(left, shares), strict=True):
            counts[subject] += int(extra)
    return counts


def _coins(counts: list[int], rng: Generator) -> list[str]:
    """A fair coin per subject, all of a fold's tossed again until its images are about halved.

    The majority rate is then that of chance, in a fold as in all; and since every toss and its
    mirror image are as likely, whatever the other folds and the images teach says nothing.
    """
    coins = [""] * len(counts)
    for fold in range(FOLDS):
        held = np.array(counts[fold::FOLDS])
        heads = rng.integers(2, size=len(held))
        while abs(2 * int(heads @ held) - held.sum()) > 4:
            heads = rng.integers(2, size=len(held))
        coins[fold::FOLDS] = [COINS[0] if head else COINS[1] for head in heads]
    return coins

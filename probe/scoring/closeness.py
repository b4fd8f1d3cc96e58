"""Measured closeness: the distance of a study's images to samples of source domains, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from features.arrays import Doubles, Floats, Ints
from features.errors import InputError
from features.extraction.domain_samples import domain_samples
from features.machine.files import sweep
from features.machine.locks import locked
from features.store.featurefile import DONE, FeatureFile
from features.study.study import Study
from probe.analysis.curves import TaskCurves
from probe.analysis.statistics import LEVEL
from probe.results import csv_records
from probe.scoring import score_files
from probe.scoring.distances import DISTANCES, NAMES, Distance, common_space

IMAGES = 400
"""How many images of each set are measured, drawn by a fixed seed."""
_PARTS = 10
_VERSION = "2"
"""Of how distances are measured; those of another are measured again."""
_LEAST = 5
"""How many layers a correlation needs."""


@dataclass(frozen=True)
class Closeness:
    """The distance of a study's images to a source domain in one layer's features; smaller is closer."""

    backbone: str
    domain: str
    key: str
    """Layer, or LAYER:POOL."""
    depth: float
    source: str
    measure: str
    value: float
    low: float
    high: float
    """The 95 % interval: a jackknife over ten parts of each set, subjects kept whole."""
    floor: float
    """The same distance between as many images of the study and as many others of other subjects, which
    is due to sampling alone."""
    images: int
    source_images: int
    made_of: str
    """The contracts of both feature files, shortened."""


@dataclass(frozen=True)
class Correlation:
    """The correlation of the distance to a source with a gap, over the layers of the near backbone."""

    task: str
    method: str
    pool: str
    gap: str
    source: str
    measure: str
    r: float
    low: float
    high: float
    """The 95 % interval by Fisher's z; it is too narrow, for it takes layers to be independent."""
    n: int


def closeness(
    study: Study, progress: Callable[[int, int, str], None] = lambda _done, _all, _now: None
) -> list[Closeness]:
    """The distances to every sample in `sources/`; measured once and kept in closeness.csv.

    The sets of one layer, all equally large, are compared in the first 64 principal axes of their union
    (probe/scoring/distances.py).

    Args:
        study: The study.
        progress: Is called with layers done, layers in all, and the layer being measured.
    """
    samples = domain_samples(study)
    if not samples:
        return []
    old = _read(study)
    before = {(c.backbone, c.key, c.source, c.made_of) for c in old}
    jobs = [(name, key) for name in study.backbones() for key in _shared(study, samples, name)]
    made: list[Closeness] = []
    fresh = False
    for number, (backbone, key) in enumerate(jobs):
        progress(number, len(jobs), f"{backbone}/{key}")
        marks = {name: _mark(study, sample, backbone) for name, sample in samples.items()}
        if all((backbone, key, name, mark) in before for name, mark in marks.items()):
            made += [c for c in old if (c.backbone, c.key) == (backbone, key)]
            continue
        made += _measure(study, samples, backbone, key, marks)
        fresh = True
    if fresh:
        file = study.folder / "closeness.csv"
        with locked(study.folder / ".scores.lock", str(file), score_files.PATIENCE):
            sweep(file)
            csv_records.write(file, Closeness, made)
    return made


def _shared(study: Study, samples: dict[str, Study], backbone: str) -> list[str]:
    """The layers of a backbone that the study and all its samples have."""
    if not all(backbone in sample.backbones() for sample in samples.values()):
        return []
    with study.features(backbone) as file:
        keys = file.keys
    for sample in samples.values():
        with sample.features(backbone) as file:
            keys = [key for key in keys if key in file.keys]
    return keys


def _measure(
    study: Study, samples: dict[str, Study], backbone: str, key: str, marks: dict[str, str]
) -> list[Closeness]:
    others = []
    for sample in samples.values():
        with sample.features(backbone) as file:
            others.append(file.read(key, _draw(sample, file)))
    with study.features(backbone) as file:
        # A distance falls as its sets grow, by chance alone: all sets are equally large.
        first, second = _halves(study, file, min(IMAGES, *map(len, others)))
        about, domain = file.about(key), file.domain
        both = file.read(key, np.sort(np.concatenate([first, second])))
    is_first = np.isin(np.sort(np.concatenate([first, second])), first)
    others = [_first(x, len(first)) for x in others]
    here, again, *there = common_space(both[is_first], both[~is_first], *others)
    own = _parts(study.subjects[first])
    made = []
    for name, x in zip(samples, there, strict=True):
        parts = np.random.default_rng(0).permutation(len(x)) % _PARTS
        for measure, distance in DISTANCES.items():
            value, margin = _jackknife(distance, here, own, x, parts)
            made.append(
                Closeness(
                    backbone, domain, key, about["depth"], name, measure, value,
                    max(0.0, value - margin), value + margin, distance(here, again),
                    len(here), len(x), marks[name],
                )
            )  # fmt: skip
    return made


def _jackknife(
    distance: Distance,
    a: Doubles,
    parts_a: Ints,
    b: Doubles,
    parts_b: Ints,
) -> tuple[float, float]:
    """The distance and half the width of its interval, from leaving out one part of both sets at a time."""
    without = np.array([distance(a[parts_a != part], b[parts_b != part]) for part in range(_PARTS)])
    error = np.sqrt((_PARTS - 1) / _PARTS * ((without - without.mean()) ** 2).sum())
    return distance(a, b), float(stats.t.ppf(0.5 + LEVEL / 2, _PARTS - 1) * error)


def _parts(subjects: Ints) -> Ints:
    """The part, of ten, that each row belongs to, `(n,)`; all rows of a subject are in the same part."""
    names, number = np.unique(subjects, return_inverse=True)
    return np.asarray((np.random.default_rng(0).permutation(len(names)) % _PARTS)[number])


def _draw(study: Study, file: FeatureFile) -> Ints:
    usable = np.flatnonzero(study.used & (file.status == DONE))
    return np.sort(np.random.default_rng(0).permutation(usable)[:IMAGES])


def _halves(study: Study, file: FeatureFile, most: int) -> tuple[Ints, Ints]:
    """Two sets of up to `most` rows, equally many and ascending, that share no subject.

    Where all rows are of one subject they are split as they come.
    """
    usable = np.random.default_rng(0).permutation(
        np.flatnonzero(study.used & (file.status == DONE))
    )
    _, subject = np.unique(study.subjects[usable], return_inverse=True)
    if subject.max() == 0:
        subject = np.arange(len(usable))
    shuffled = np.random.default_rng(0).permutation(subject.max() + 1)
    before = np.cumsum(np.bincount(subject)[shuffled])
    in_first = np.isin(subject, shuffled[: 1 + np.searchsorted(before[:-1], len(usable) / 2)])
    if in_first.all():  # the last subject has more than half of the rows
        in_first = subject != shuffled[-1]
    count = min(most, int(in_first.sum()), int((~in_first).sum()))
    return np.sort(usable[in_first][:count]), np.sort(usable[~in_first][:count])


def _first(x: Floats, count: int) -> Floats:
    """`count` rows drawn from `x`, or all where it has fewer."""
    return x[np.sort(np.random.default_rng(0).permutation(len(x))[:count])]


def _mark(study: Study, sample: Study, backbone: str) -> str:
    contracts = []
    for folder in (study, sample):
        with folder.features(backbone) as file:
            contracts.append(str(file.attributes["contract"])[:8])
    return "-".join([*contracts, _VERSION])


def correlations(tasks: Sequence[TaskCurves], distances: Sequence[Closeness]) -> list[Correlation]:
    """The correlation of every gap with every distance in the near backbone's features."""
    made = []
    at = {(c.backbone, c.source, c.measure, c.key): c.value for c in distances}
    kinds = dict.fromkeys((c.source, c.measure) for c in distances)
    for task in tasks:
        for panel in task.panels:
            # A layer without a map has the same distance in the panel of every pooling.
            keys = {
                (curve.backbone, p.layer): p.rows[0].features_key
                for curve in panel.curves
                for p in curve.points
            }
            for gap in panel.gaps:
                for source, measure in kinds:
                    pairs = []
                    for p in gap.points:
                        key = keys[gap.near, p.layer]
                        value = at.get((gap.near, source, measure, key))
                        if value is not None:
                            pairs.append((value, p.gap))
                    if len(pairs) >= _LEAST:
                        r, low, high = correlate(*zip(*pairs, strict=True))
                        made.append(
                            Correlation(
                                task.task, panel.method, panel.pool, gap.title, source, measure,
                                r, low, high, len(pairs),
                            )
                        )  # fmt: skip
    return made


def correlate(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Pearson's correlation with its 95 % interval by Fisher's z; it needs four pairs or more."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return float("nan"), float("nan"), float("nan")
    r = float(stats.pearsonr(x, y).statistic)
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    margin = stats.norm.ppf(0.5 + LEVEL / 2) / np.sqrt(len(x) - 3)
    return r, float(np.tanh(z - margin)), float(np.tanh(z + margin))


def sentences(related: Sequence[Correlation]) -> list[str]:
    """A sentence for every correlation whose interval does not hold 0."""
    return [
        f"{c.task}, {c.method}"
        + ("" if c.pool == "none" else f", pooling {c.pool}")
        + ": where the "
        f"{NAMES[c.measure]} to {c.source} is larger, the gap {c.gap} is "
        f"{'larger' if c.r > 0 else 'smaller'} (r = {c.r:+.2f} [{c.low:+.2f}, {c.high:+.2f}] over {c.n} "
        f"layers, which are not independent of each other; {len(related)} correlations were looked at)."
        for c in related
        if c.low > 0 or c.high < 0
    ]


def _read(study: Study) -> list[Closeness]:
    file = study.folder / "closeness.csv"
    try:
        whole = file.is_file() and csv_records.has_columns(file, Closeness)
        return csv_records.read(file, Closeness, "") if whole else []
    except InputError:  # of another version, or damaged: made again
        return []

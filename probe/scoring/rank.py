"""Ranking layers by transfer scores, without fitting a probe; near copies are marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from features.arrays import Bools, Doubles, Floats, Ints
from features.data.named_task import choose
from features.errors import InputError, OptionError, nearest
from features.store.featurefile import DONE, FeatureFile
from features.study.study import Study, open_study
from probe.scoring import score_files
from probe.scoring.cka import linear_gram, u_centred
from probe.scoring.score_files import LayerScore
from probe.scoring.score_table import LabelledLayer, scores_of
from probe.scoring.transfer_scores import basis as basis_of

ROWS = 1_000
"""How many images scores are computed from; more change them little."""
COPY = 0.98
"""Layers whose debiased CKA is above this are near copies of each other."""
_ALIKE_ROWS = 300
_MOST_LAYERS = 1_500


@dataclass(frozen=True)
class Ranking:
    """The scores of all layers, and the similarity between them."""

    study: Study
    lines: tuple[LayerScore, ...]
    alike: Doubles
    """Debiased CKA between all layers, `(layers, layers)`, in the order of `names`."""
    names: tuple[str, ...]
    constant: tuple[tuple[str, int, int], ...] = ()
    """Of each layer that has any: its name, its features that are the same for all images, all of them."""


def rank(
    study: Path | str,
    *,
    backbones: Sequence[str] = (),
    layers: Sequence[str] = (),
    tasks: Sequence[str] = (),
    rows: int = ROWS,
    seed: int = 0,
    progress: Callable[[int, int, str], None] = lambda _done, _all, _now: None,
) -> Ranking:
    """The transfer scores of every extracted layer on every task; also written to the study.

    The files are scores.csv and similarity.csv.

    Args:
        study: The study's folder.
        backbones: Their names; by default all that are extracted.
        layers: Their names; by default all.
        tasks: Their names; by default all.
        rows: How many images to compute scores from; `seed` draws them.
        seed: The seed of that draw.
        progress: Is called with layers done, layers in all, and the layer being scored.

    Raises:
        InputError: There is nothing to score, a name is unknown, or `rows` is below ten.
    """
    opened = open_study(study)
    if rows < 10:
        raise OptionError(f"--rows {rows}: a score needs ten images or more.")
    with_classes = [name for name, task in opened.default_tasks.items() if task.has_classes]
    chosen = [choose(opened.tasks, opened.columns, name) for name in tasks or with_classes]
    for task in chosen:
        if not task.has_classes:
            what = "a number" if task.is_number else "several labels an image"
            raise InputError(
                f"--task {task.name}: {what}, and transfer scores are of classes; leave it out."
            )
    labels = {task.name: task.codes(opened.columns[task.name]) for task in chosen}
    jobs = _jobs(opened, backbones, layers)
    lines: list[LayerScore] = []
    grams: list[Floats] = []
    constant: list[tuple[str, int, int]] = []
    drawn = _draw(opened, rows, seed)
    # Rows are often sorted by class, so that the first would be of a few classes alone.
    compared = np.sort(np.random.default_rng(seed).permutation(drawn)[:_ALIKE_ROWS])
    for number, (backbone, key) in enumerate(jobs):
        progress(number, len(jobs), f"{backbone}/{key}")
        with opened.features(backbone) as file:
            here = drawn[file.status[drawn] == DONE]
            x = file.read(key, here)
            lines += _score(file, key, x, {task: y[here] for task, y in labels.items()})
        still = int((x == x[:1]).all(axis=0).sum()) if len(x) else 0
        if still:
            constant.append((f"{backbone}/{key}", still, x.shape[1]))
        grams.append(_gram(x[np.isin(here, compared)], np.isin(compared, here)))
    progress(len(jobs), len(jobs), "")
    names = [f"{backbone}/{key}" for backbone, key in jobs]
    alike = _alike(grams)
    copies = _copies(names, alike)
    lines = [replace(line, copy_of=copies.get(f"{line.backbone}/{line.key}", "")) for line in lines]
    score_files.write(opened, lines, names, alike)
    return Ranking(opened, tuple(lines), alike, tuple(names), tuple(constant))


def _jobs(study: Study, backbones: Sequence[str], layers: Sequence[str]) -> list[tuple[str, str]]:
    there = study.backbones()
    for name in backbones:
        if name not in there:
            raise InputError(f"--backbone {name}: not in this study; {nearest(name, there)}")
    jobs, known = [], set()
    for name in backbones or there:
        with study.features(name) as file:
            for key in file.keys:
                layer = file.about(key)["layer"]
                known.add(layer)
                if not layers or layer in layers:
                    jobs.append((name, key))
    for layer in layers:
        if layer not in known:
            raise InputError(f"--layer {layer}: not extracted; {nearest(layer, sorted(known))}")
    if not jobs:
        raise InputError(f"{study.folder}: no features yet; run `probe extract` first.")
    return jobs[:_MOST_LAYERS]


def _draw(study: Study, rows: int, seed: int) -> Ints:
    usable = np.flatnonzero(study.used)
    shuffled = np.random.default_rng(seed).permutation(usable)
    return np.sort(shuffled[:rows])


def _score(file: FeatureFile, key: str, x: Floats, labels: Mapping[str, Ints]) -> list[LayerScore]:
    """The scores of one layer for every task with two classes or more among the rows.

    Args:
        file: The feature file.
        key: The layer's key in it.
        x: The layer's features, `(n, d)`.
        labels: Class numbers of those rows by task, `(n,)`, -1 where there is no label.
    """
    if not len(x):
        return []
    about = file.about(key)
    basis_of_all = basis_of(x)
    is_head = _is_head(file, about)
    lines = []
    for task, y in labels.items():
        labelled = y >= 0
        if len(np.unique(y[labelled])) < 2:
            continue
        basis = basis_of_all if labelled.all() else basis_of(x[labelled])
        lines.append(
            LayerScore(
                task=task,
                backbone=file.backbone,
                domain=file.domain,
                key=key,
                depth=about["depth"],
                dim=about["dim"],
                **scores_of(LabelledLayer(x[labelled], y[labelled], basis, is_head)),
                copy_of="",
                images=int(labelled.sum()),
                contract=str(file.attributes["contract"])[:12],
            )
        )
    return lines


def _is_head(file: FeatureFile, about: dict[str, object]) -> bool:
    """Whether a layer is the output over the classes that the network was trained on."""
    card = file.card
    classes = (card.get("options") or {}).get("num_classes")
    if classes is None and "imagenet" in (card.get("trained_on") or []):
        classes = 1000
    trained = '"random"' not in str(file.attributes.get("weights", "{}"))
    return trained and about["depth"] == 1.0 and about["dim"] == classes


def _gram(x: Floats, shared: Bools) -> Floats:
    """The U-centred Gram matrix of the rows compared, flattened; 0 for rows without features.

    Args:
        x: The features of those rows that have them.
        shared: Whether each of the rows has features.
    """
    size = len(shared)
    made = np.zeros((size, size))
    here = np.flatnonzero(shared)
    if len(here) > 3:
        made[np.ix_(here, here)] = u_centred(linear_gram(x))
    return made.astype(np.float32).ravel()


def _alike(grams: Sequence[Floats]) -> Doubles:
    """CKA between layers, `(layers, layers)`, from their flattened Gram matrices."""
    flat = np.stack(grams)
    sizes = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.where(sizes > 0, sizes, 1)
    return np.asarray(flat @ flat.T, dtype=np.float64)


def _copies(names: Sequence[str], alike: Doubles) -> dict[str, str]:
    """For each layer that is a near copy, the earlier layer that it is most like."""
    copies = {}
    for i in range(1, len(names)):
        j = int(alike[i, :i].argmax())
        if alike[i, j] > COPY:
            copies[names[i]] = names[j]
    return copies

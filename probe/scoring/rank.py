"""Ranking layers and backbones without a probe: transfer scores per layer, near copies marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.data.tasks import Task, choose
from features.errors import InputError, nearest
from features.machine.files import write_text
from features.store.featurefile import DONE, FeatureFile
from features.study.study import Study, open_study
from probe.scoring import transfer_scores as scores
from probe.scoring.cka import centred, linear_gram
from probe.scoring.score_files import Scored, _square, _to_csv

SCORES = ("logme", "h_score", "leep")
ROWS = 1_000
"""Images that scores are told from; they change little with more."""
COPY = 0.98
"""Layers whose debiased CKA is above this are called near copies."""
_ALIKE_ROWS = 300
_MOST_LAYERS = 1_500


@dataclass(frozen=True)
class Ranking:
    """What `rank` has found."""

    study: Study
    lines: tuple[Scored, ...]
    alike: npt.NDArray[np.float64]
    """Debiased CKA between all layers, `(layers, layers)`, in the order of `names`."""
    names: tuple[str, ...]


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
    """Score every extracted layer on every task; writes scores.csv and similarity.csv.

    Args:
        study: The study's folder.
        backbones: Names; all that are extracted by default.
        layers: Names; all by default.
        tasks: Names; all by default.
        rows: How many images to look at, drawn by `seed`.
        seed: Of that draw.
        progress: Is called with layers done, layers in all, and the one at work.

    Raises:
        InputError: There is nothing to score, or something given cannot be used.
    """
    opened = open_study(study)
    if rows < 10:
        raise InputError(f"--rows {rows}: a score needs ten images or more.")
    chosen = [choose(opened.tasks, opened.columns, name) for name in tasks or opened.tasks]
    jobs = _jobs(opened, backbones, layers)
    lines: list[Scored] = []
    grams: list[npt.NDArray[np.float32]] = []
    drawn = _draw(opened, rows, seed)
    for number, (backbone, key) in enumerate(jobs):
        progress(number, len(jobs), f"{backbone}/{key}")
        with opened.features(backbone) as file:
            here = drawn[file.status[drawn] == DONE]
            x = file.read(key, here)
            lines += _score(opened, file, key, x, here, chosen)
            shared = np.isin(drawn[:_ALIKE_ROWS], here)
        grams.append(_gram(x, shared))
    progress(len(jobs), len(jobs), "")
    names = [f"{backbone}/{key}" for backbone, key in jobs]
    alike = _alike(grams)
    copies = _copies(names, alike)
    lines = [_with_copy(line, copies) for line in lines]
    write_text(opened.folder / "scores.csv", _to_csv(lines))
    write_text(opened.folder / "similarity.csv", _square(names, alike))
    return Ranking(opened, tuple(lines), alike, tuple(names))


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


def _draw(study: Study, rows: int, seed: int) -> npt.NDArray[np.int64]:
    usable = np.flatnonzero(study.used)
    shuffled = np.random.default_rng(seed).permutation(usable)
    return np.sort(shuffled[:rows])


def _score(
    study: Study,
    file: FeatureFile,
    key: str,
    x: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    tasks: Sequence[Task],
) -> list[Scored]:
    if not len(rows):
        return []
    about = file.about(key)
    everyone = scores.basis(x)
    head = _is_head(file, about)
    lines = []
    for task in tasks:
        y = task.codes(study.columns[task.name])[rows]
        seen = y >= 0
        if len(np.unique(y[seen])) < 2:
            continue
        made = everyone if seen.all() else scores.basis(x[seen])
        lines.append(
            Scored(
                task=task.name,
                backbone=file.backbone,
                domain=file.domain,
                key=key,
                depth=about["depth"],
                dim=about["dim"],
                logme=scores.logme(made, y[seen]),
                h_score=scores.h_score(x[seen], y[seen]),
                leep=scores.leep(_softmax(x[seen]), y[seen]) if head else None,
                copy_of="",
                images=int(seen.sum()),
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


def _softmax(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def _gram(x: npt.NDArray[np.float32], shared: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The U-centred Gram matrix of the first rows of the draw; 0 for rows without features."""
    size = len(shared)
    made = np.zeros((size, size))
    here = np.flatnonzero(shared)
    if len(here) > 3:
        made[np.ix_(here, here)] = centred(linear_gram(x[: len(here)]), unbiased=True)
    return made.astype(np.float32).ravel()


def _alike(grams: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    flat = np.stack(grams)
    sizes = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.where(sizes > 0, sizes, 1)
    return np.asarray(flat @ flat.T, dtype=np.float64)


def _copies(names: Sequence[str], alike: npt.NDArray[np.float64]) -> dict[str, str]:
    """For each layer the earlier one that it is most like, where it is a near copy."""
    found = {}
    for i in range(1, len(names)):
        j = int(alike[i, :i].argmax())
        if alike[i, j] > COPY:
            found[names[i]] = names[j]
    return found


def _with_copy(line: Scored, copies: dict[str, str]) -> Scored:
    values = {f.name: getattr(line, f.name) for f in fields(line)}
    return Scored(**values | {"copy_of": copies.get(f"{line.backbone}/{line.key}", "")})

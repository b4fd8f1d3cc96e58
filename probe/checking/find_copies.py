"""Looking for copies among the images of a study: the same bytes, or the same picture made anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.errors import InputError
from features.images.thumbnails import SIDE, thumbnails
from features.machine.files import locked
from features.study import copies
from features.study.copies import Copies
from features.study.study import Study, open_or_draft, save, save_images
from probe.checking.check import Check, check, without_copies
from probe.checking.likeness import alikeness
from probe.folds import own_folds
from probe.probes.knn import neighbours

ALIKE = 0.85
"""Above it a pair shows one picture. Versions of an image lie above 0.95 but for one in a hundred, the
most alike of 188,191 pairs of photographs of people (LFW, aligned) at 0.77."""
_COARSE = 16
_NEIGHBOURS = 10
_SIMILAR = 0.4
_FLAT = 2.0  # grey levels: an image with less spread shows nothing that could be compared


def find(study: Study, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Copies:
    """Look at every image of the study.

    Exact copies have the same bytes, or are rows of the same path. For near ones, each image's ten
    nearest by a 16 x 16 grey picture are candidates, and every candidate is laid over the image and
    compared in detail (probe/checking/likeness.py): re-encoded, resized and slightly cropped versions are
    found, photographs of the same person are not taken for one.

    Args:
        study: The study.
        progress: Is called with the files read and all.
    """
    first: dict[str, int] = {}
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, path in enumerate(study.paths):
        first.setdefault(path, row)
        rows_of[path].append(row)
    seen = thumbnails([study.root / path for path in first], progress)
    rows = list(first.values())
    by_digest: defaultdict[bytes, list[int]] = defaultdict(list)
    for place, digest in enumerate(seen.digest):
        if place not in seen.unreadable:
            by_digest[digest].append(place)
    same = [[rows[place] for place in places] for places in by_digest.values()]
    exact = copies.joined([*same, *rows_of.values()])
    originals = np.array([places[0] for places in by_digest.values()], dtype=np.int64)
    near = [(rows[a], rows[b], alike) for a, b, alike in _near(seen.grey, np.sort(originals))]
    unreadable = {
        row: seen.unreadable[place]
        for place, path in enumerate(first)
        if place in seen.unreadable
        for row in rows_of[path]
    }
    return Copies(exact, tuple(near), unreadable)


def checked(study: Study, announce: Callable[[str], None] = lambda _: None) -> Study:
    """The study with its copies known: looked for now if nobody has, and kept if it is on disk.

    Where none of the files is there, as with imported features, nothing is looked for.
    """
    if study.copies is not None or not _any_there(study):
        return study
    announce(f"looking for copies among {len(set(study.paths))} images, once")
    study = replace(study, copies=find(study))
    if (study.folder / "study.toml").is_file():
        save_images(study)
    return study


def examine(
    study: Path,
    *,
    data: str | None = None,
    drop: bool = False,
    group: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Check:
    """Check a study, or the data that would begin one, looking at every image anew.

    A study that is there keeps what was found. Where there is none, one is begun only to mark copies.

    Args:
        study: The study's folder, there or not.
        data: What `--data` takes, where there is no study.
        drop: Mark copies as unused.
        group: Keep copies together, which is the default.
        progress: Is called with the files read and all.

    Raises:
        InputError: The data cannot be read, or is to be grouped and has folds of its own; or none of
            its images is there.
    """
    if drop and group:
        raise InputError("--drop-duplicates and --group-duplicates: choose one of them.")
    opened, manifest = open_or_draft(study, data)
    if group and own_folds(opened) is not None:
        raise InputError(
            f"--group-duplicates: {opened.source} comes with folds of its own, which cannot be "
            "changed; use --drop-duplicates."
        )
    if not _any_there(opened):
        raise InputError(
            f"{opened.root}: none of the {len(set(opened.paths))} images is there ({opened.paths[0]} is "
            f"the first), so nothing can be checked; put them back, or correct root in "
            f"{study / 'study.toml'}."
            if manifest is None
            else f"{opened.source}: names {len(set(opened.paths))} images and none is there, not even "
            f"{opened.root / opened.paths[0]}; correct the paths."
        )
    found = find(opened, progress)
    opened = without_copies(opened, found) if drop else replace(opened, copies=found)
    if manifest is None:
        with locked(study / ".results.lock", str(study / "images.csv")):
            save_images(opened)
    elif drop or group:
        save(opened)
    checked = check(opened, found)
    return checked if manifest is None else replace(checked, left_out=manifest.left_out)


def _any_there(study: Study) -> bool:
    return any((study.root / path).is_file() for path in study.paths)


def _near(
    grey: npt.NDArray[np.uint8], places: npt.NDArray[np.int64]
) -> list[tuple[int, int, float]]:
    """Pairs among the images at `places` that show one picture, the most alike first."""
    places = places[grey[places].std((1, 2)) > _FLAT]
    if len(places) < 2:
        return []
    pairs = places[_candidates(grey[places])]
    alike = np.maximum(alikeness(grey, pairs), alikeness(grey, pairs[:, ::-1]))
    order = np.argsort(-alike, kind="stable")
    return [
        (int(pairs[i, 0]), int(pairs[i, 1]), float(alike[i])) for i in order if alike[i] >= ALIKE
    ]


def _candidates(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Pairs `(m, 2)` of images that look alike from afar, each once.

    The mean image is taken out, for aligned faces all look alike.
    """
    step = SIDE // _COARSE
    x = grey.reshape(len(grey), _COARSE, step, _COARSE, step).mean((2, 4), dtype=np.float32)
    x = x.reshape(len(grey), -1)
    x -= x.mean(1, keepdims=True)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    if len(x) > _NEIGHBOURS:  # of a few images the mean says nothing
        x -= x.mean(0)
    similarity, place = neighbours(x, np.zeros(len(x), dtype=np.int64), _NEIGHBOURS + 1)[0]
    one = np.repeat(np.arange(len(x)), place.shape[1])
    pairs = np.sort(np.stack([one, place.ravel()], axis=1), axis=1)
    wanted = (similarity.ravel() > _SIMILAR) & (pairs[:, 0] < pairs[:, 1])
    return np.unique(pairs[wanted], axis=0)

"""Adience: age in eight classes and gender of faces from Flickr, in five folds of whole users.

Eidinger, Enbar, Hassner, "Age and gender estimation of unfiltered faces", IEEE TIFS 2014. The fold files
spell some ages in unexpected ways, which papers treat differently; each policy adds to the one before:

published   the eight classes as they are spelled, as in the lists of Levi and Hassner 2015
corrected   (25, 23) too, one face in 72 images of fold 0, for which those lists have a rule that never
            fires
ranges      the ranges (27, 32), (38, 42) and (38, 48), each to the class it lies in
mivolo      single ages and (8, 23), as MiVOLO's tools/prepare_adience.py maps them
"""

from __future__ import annotations

from pathlib import Path

from features.data.manifest import Manifest
from features.data.table import read_rows
from features.data.tasks import Task
from features.errors import InputError, OptionError

AGES = (
    "(0, 2)",
    "(4, 6)",
    "(8, 12)",
    "(15, 20)",
    "(25, 32)",
    "(38, 43)",
    "(48, 53)",
    "(60, 100)",
)
GENDERS = ("m", "f")
FACES = {
    "aligned": "aligned/{user_id}/landmark_aligned_face.{face_id}.{original_image}",
    "coarse": "faces/{user_id}/coarse_tilt_aligned_face.{face_id}.{original_image}",
}
_CORRECTED = {"(25, 23)": "(25, 32)"}
_RANGES = {"(27, 32)": "(25, 32)", "(38, 42)": "(38, 43)", "(38, 48)": "(38, 43)"}
_MIVOLO = {
    "(0, 2)": ("2", "3"),
    "(8, 12)": ("13", "(8, 23)"),
    "(15, 20)": ("22",),
    "(25, 32)": ("23", "29", "32", "34", "35"),
    "(38, 43)": ("36", "42", "45"),
    "(48, 53)": ("46", "55", "56"),
    "(60, 100)": ("57", "58"),
}
_PUBLISHED = {age: age for age in AGES}
_SINGLES = {spelled: age for age, all_of_it in _MIVOLO.items() for spelled in all_of_it}
POLICIES = {
    "published": _PUBLISHED,
    "corrected": _PUBLISHED | _CORRECTED,
    "ranges": _PUBLISHED | _CORRECTED | _RANGES,
    "mivolo": _PUBLISHED | _CORRECTED | _RANGES | _SINGLES,
}
_NEEDED = ("user_id", "original_image", "face_id", "age", "gender")
_FOLDS = 5


def read_adience(folder: Path, faces: str = "aligned", labels: str = "published") -> Manifest:
    """Tasks `age` (ordered) and `gender`, subject `user_id`, the five folds; repeated images stay as rows.

    An age outside the policy and a gender other than m and f leave that label empty.

    Args:
        folder: Holds `fold_0_data.txt` to `fold_4_data.txt`, and `aligned` or `faces`.
        faces: `aligned` by landmarks, or `coarse`, the plain ones.
        labels: `published`, `corrected`, `ranges` or `mivolo`.

    Raises:
        InputError: A fold file or the images are missing, or an option is none of these.
    """
    for name, given, known in (("faces", faces, FACES), ("labels", labels, POLICIES)):
        if given not in known:
            raise OptionError(f"--{name} {given}: Adience has {', '.join(known)}; choose one.")
    if not folder.is_dir():
        raise InputError(f"adience:{folder}: there is no such folder; give Adience's own.")
    ages = POLICIES[labels]
    columns: dict[str, list[str]] = {n: [] for n in ("path", "age", "gender", "subject", "fold")}
    for fold in range(_FOLDS):
        file = folder / f"fold_{fold}_data.txt"
        if not file.is_file():
            raise InputError(
                f"{file}: there is no such file; put Adience's five fold files beside its folders."
            )
        header, rows = read_rows(file)
        for name in _NEEDED:
            if name not in header:
                raise InputError(f"{file}: no column {name}; fetch Adience's fold files again.")
        for line in rows:
            row = dict(zip(header, line, strict=True))
            columns["path"].append(FACES[faces].format(**row))
            columns["age"].append(ages.get(row["age"], ""))
            columns["gender"].append(row["gender"] if row["gender"] in GENDERS else "")
            columns["subject"].append(row["user_id"])
            columns["fold"].append(str(fold))
    images = folder / FACES[faces].split("/")[0]
    if not images.is_dir():
        raise InputError(
            f"{images}: there is no such folder; unpack Adience's {faces} faces there"
            + (", or use --faces coarse." if faces == "aligned" else ", or use --faces aligned.")
        )
    root = folder.resolve()
    tasks = {"age": Task("age", AGES, ordered=True), "gender": Task("gender", GENDERS)}
    return Manifest(f"adience:{root}", root, columns, tasks, closest="faces")

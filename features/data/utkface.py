"""UTKFace: age, gender and race are in the file's name, `AGE_GENDER_RACE_STAMP.jpg`.

Zhang, Song, Qi, "Age progression/regression by conditional adversarial autoencoder", CVPR 2017.
"""

from __future__ import annotations

import re
from pathlib import Path

from features.data.imagefiles import image_files
from features.data.manifest import Manifest
from features.data.tasks import Task
from features.errors import InputError

AGES = ("0-2", "3-7", "8-13", "14-22", "23-34", "35-45", "46-57", "58+")
_LOWEST = (0, 3, 8, 14, 23, 35, 46, 58)
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")


def read_utkface(folder: Path) -> Manifest:
    """Tasks `gender` and `age` (eight ordered groups); names that lack a field are left out.

    The columns `years`, the age itself, and `race` are tasks only where they are named.

    Raises:
        InputError: The folder does not exist or holds no file named as UTKFace names them.
    """
    if not folder.is_dir():
        raise InputError(f"utkface:{folder}: there is no such folder; give UTKFace's image folder.")
    columns: dict[str, list[str]] = {
        name: [] for name in ("path", "age", "gender", "years", "race")
    }
    left_out = []
    for path in image_files(folder):
        match = re.match(r"(\d{1,3})_([01])_([0-4])_\d+\D", Path(path).name)
        if match is None:
            left_out.append((path, "its name is not AGE_GENDER_RACE_STAMP"))
            continue
        age = int(match[1])
        columns["path"].append(path)
        columns["age"].append(AGES[sum(age >= low for low in _LOWEST) - 1])
        columns["gender"].append(GENDERS[int(match[2])])
        columns["years"].append(str(age))
        columns["race"].append(RACES[int(match[3])])
    if not columns["path"]:
        raise InputError(
            f"utkface:{folder}: no file in it is named AGE_GENDER_RACE_STAMP.jpg; give UTKFace's "
            "image folder."
        )
    tasks = {
        "age": Task("age", AGES, ordered=True),
        "gender": Task("gender", GENDERS),
        "years": Task("years", (), kind="number", unit="years", when_named=True),
        "race": Task("race", RACES, when_named=True),
    }
    root = folder.resolve()
    return Manifest(f"utkface:{root}", root, columns, tasks, tuple(left_out), closest="faces")

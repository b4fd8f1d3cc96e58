"""Labeled Faces in the Wild: a folder per person, `NAME/NAME_0001.jpg`; labels come from a CSV file.

Huang, Ramesh, Berg, Learned-Miller, University of Massachusetts, TR 07-49, 2007.
"""

from __future__ import annotations

from pathlib import Path

from features.data.imagefiles import image_files
from features.data.manifest import Manifest
from features.data.table import read_rows
from features.errors import InputError

_OF_A_PERSON = ("subject", "name", "person")


def read_lfw(folder: Path, labels: str = "") -> Manifest:
    """Subjects are the folders; labels are joined by file name, or by person.

    Args:
        folder: A folder with a folder of images per person.
        labels: A CSV file with a column `path`, or else `subject`, `name` or `person`, and label
            columns; by default the CSV file called as the folder, in it or beside it.

    Raises:
        InputError: There are no images in folders or no labels for them.
    """
    if not folder.is_dir():
        raise InputError(f"lfw:{folder}: there is no such folder; give LFW's image folder.")
    paths = [path for path in image_files(folder) if "/" in path]
    if not paths:
        raise InputError(f"lfw:{folder}: it has no folders with images; give LFW's image folder.")
    named = f"{folder.resolve().name}.csv"
    beside = [folder.resolve() / named, folder.resolve().parent / named]
    file = Path(labels) if labels else next((f for f in beside if f.is_file()), None)
    if file is None:
        raise InputError(
            f"lfw:{folder}: LFW has no labels except names; give a CSV file of labels with --labels."
        )
    header, rows = read_rows(file)
    by_image = "path" in header
    key = next((name for name in ("path", *_OF_A_PERSON) if name in header), None)
    if key is None:
        raise InputError(f"{file}: has no column path, subject, name or person; add one of them.")
    place = header.index(key)
    row_of = {Path(row[place]).name if by_image else row[place]: row for row in rows}
    names = [Path(path).name if by_image else path.split("/")[0] for path in paths]
    columns = {
        name: [row_of[own][i] if own in row_of else "" for own in names]
        for i, name in enumerate(header)
        if name not in (key, "path", *_OF_A_PERSON)
    }
    if not any(name in row_of for name in names):
        raise InputError(
            f"{file}: its column {key} names none of the {len(paths)} images of {folder}; "
            "give the labels of these images."
        )
    columns |= {"path": paths, "subject": [path.split("/")[0] for path in paths]}
    root = folder.resolve()
    return Manifest(f"lfw:{root}", root, columns, closest="faces")

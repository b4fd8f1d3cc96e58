"""Which files are images, told from their names, and where they lie below a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from features.data.kinds import extensions, needed

_Place = tuple[int, int]
"""Device and inode of a folder."""


@dataclass
class Found:
    """What lies below a folder; names are relative to it."""

    images: list[str] = field(default_factory=list)
    """Files that are read, sorted."""
    folders: list[str] = field(default_factory=list)
    """All folders that were looked into, sorted."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Folders that were not looked into, each with the reason."""
    unread: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many images of a kind that is not read a folder holds, by folder and ending."""


def is_image(name: str) -> bool:
    """Whether a file of that name is taken for an image."""
    return name.lower().endswith(extensions())


def image_files(folder: Path) -> list[str]:
    """Image files below `folder` by their extension, as sorted paths relative to it."""
    paths = []
    for where, folders, names in os.walk(folder):  # follows no symbolic link, so ends always
        folders[:] = sorted(d for d in folders if not d.startswith("."))
        for name in names:
            if is_image(name) and not name.startswith("."):
                paths.append(os.path.relpath(Path(where) / name, folder))
    return sorted(paths)


def look_below(folder: Path) -> Found:
    """Everything below `folder`: a link to a folder is followed once, hidden folders are left out.

    A folder that is read already, by its own name or by another link, is not read again, so links in a
    circle end.
    """
    found = Found()
    places: set[_Place] = set()
    links = list(_walk(folder, "", found, places))
    while links:
        link = links.pop(0)
        target = folder / link
        if not target.is_dir():
            found.left_out.append((link, "a link to nothing"))
        elif _place(target) in places:
            found.left_out.append((link, "a link to a folder that is read already"))
        elif folder.resolve().is_relative_to(target.resolve()):
            found.left_out.append((link, "a link to a folder that this one lies in"))
        else:
            links += _walk(folder, link, found, places)
    found.images.sort()
    found.folders.sort()
    found.left_out.sort()
    return found


def _walk(root: Path, start: str, found: Found, places: set[_Place]) -> Iterator[str]:
    """Look into one folder below `root` and those in it; yields the links to further ones."""
    links = []
    for where, folders, names in os.walk(root / start):
        places.add(_place(Path(where)))
        here = os.path.relpath(where, root)
        here = "" if here == "." else here
        found.folders += [here] if here else []
        inside = []
        for name in sorted(folders):
            below = os.path.join(here, name)  # noqa: PTH118 - thousands of names
            if name.startswith("."):
                found.left_out += _hidden(root, below)
            elif (Path(where) / name).is_symlink():
                links.append(below)
            elif start and _place(Path(where) / name) in places:
                found.left_out.append((below, "a folder that is read already"))
            else:
                inside.append(name)
        folders[:] = inside
        for name in names:
            if name.startswith("."):
                continue
            if is_image(name):
                found.images.append(os.path.join(here, name))  # noqa: PTH118
            elif (kind := os.path.splitext(name)[1].lower()) and needed(kind) is not None:  # noqa: PTH122
                found.unread[here, kind] += 1
            elif not os.path.splitext(name)[1] and (Path(where) / name).is_symlink():  # noqa: PTH122
                links += [] if (Path(where) / name).exists() else [os.path.join(here, name)]  # noqa: PTH118
    yield from links


def _hidden(root: Path, name: str) -> list[tuple[str, str]]:
    count = sum(is_image(file) for _, _, files in os.walk(root / name) for file in files)
    return [(name, f"a hidden folder, of {count} images")] if count else []


def _place(folder: Path) -> _Place:
    status = folder.stat()
    return status.st_dev, status.st_ino

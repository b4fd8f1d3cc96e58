"""Image files, recognised by their names, and a listing of those below a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from features.data.kinds import begins_as_image, extensions, needed, unread

_Place = tuple[int, int]
"""Device and inode of a folder."""


@dataclass
class Listing:
    """The images and folders below a folder; names are relative to it."""

    images: list[str] = field(default_factory=list)
    """Image files that can be read, sorted."""
    folders: list[str] = field(default_factory=list)
    """All folders that were searched, sorted."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Folders that were not searched, each with the reason."""
    unread: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The number of files that may be images and cannot be read, by folder and ending."""

    def not_read(self) -> list[tuple[str, str]]:
        """For every folder and ending of such files a pattern, and how many they are and what they need."""
        return [
            (
                f"{where}/*{kind}" if where else f"*{kind}",
                f"{unread(kind, count)} {'of a kind that is not read' if kind else 'without an ending'}; "
                f"{needed(kind)}",
            )
            for (where, kind), count in sorted(self.unread.items())
        ]


def is_image(name: str) -> bool:
    """Whether a file of this name is an image."""
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


def list_images(folder: Path) -> Listing:
    """The images and folders below `folder`; links to folders are followed, hidden folders left out.

    A folder that was searched already, by its own name or by another link, is not searched again, so
    links in a circle end.
    """
    listing = Listing()
    places: set[_Place] = set()
    links = list(_walk(folder, "", listing, places))
    while links:
        link = links.pop(0)
        target = folder / link
        if not target.is_dir():
            listing.left_out.append((link, "a link to nothing"))
        elif _place(target) in places:
            listing.left_out.append((link, "a link to a folder that is read already"))
        elif folder.resolve().is_relative_to(target.resolve()):
            listing.left_out.append((link, "a link to a folder that this one lies in"))
        else:
            links += _walk(folder, link, listing, places)
    listing.images.sort()
    listing.folders.sort()
    listing.left_out.sort()
    return listing


def _walk(root: Path, start: str, listing: Listing, places: set[_Place]) -> Iterator[str]:
    """Search a folder below `root` and those in it; yields the links to other folders."""
    links = []
    for where, folders, names in os.walk(root / start):
        places.add(_place(Path(where)))
        here = os.path.relpath(where, root)
        here = "" if here == "." else here
        listing.folders += [here] if here else []
        inside = []
        for name in sorted(folders):
            below = os.path.join(here, name)  # noqa: PTH118 - thousands of names
            if name.startswith("."):
                listing.left_out += _hidden(root, below)
            elif (Path(where) / name).is_symlink():
                links.append(below)
            elif start and _place(Path(where) / name) in places:
                listing.left_out.append((below, "a folder that is read already"))
            else:
                inside.append(name)
        folders[:] = inside
        for name in names:
            if name.startswith("."):
                continue
            if is_image(name):
                listing.images.append(os.path.join(here, name))  # noqa: PTH118
            elif kind := os.path.splitext(name)[1].lower():  # noqa: PTH122
                listing.unread.update([(here, kind)] if needed(kind) else [])
            elif not (Path(where) / name).exists():
                links.append(os.path.join(here, name))  # noqa: PTH118
            elif begins_as_image(Path(where) / name):
                listing.unread[here, kind] += 1
    yield from links


def _hidden(root: Path, name: str) -> list[tuple[str, str]]:
    count = sum(is_image(file) for _, _, files in os.walk(root / name) for file in files)
    return [(name, f"a hidden folder, of {count} image{'s' * (count > 1)}")] if count else []


def _place(folder: Path) -> _Place:
    status = folder.stat()
    return status.st_dev, status.st_ino

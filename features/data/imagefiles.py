"""Which files are images, told from their names."""

from __future__ import annotations

import os
from pathlib import Path

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def is_image(name: str) -> bool:
    """Whether a file of that name is taken for an image."""
    return name.lower().endswith(EXTENSIONS)


def image_files(folder: Path) -> list[str]:
    """Image files below `folder` by their extension, as sorted paths relative to it."""
    paths = []
    for where, folders, names in os.walk(folder):  # follows no symbolic link, so ends always
        folders[:] = sorted(d for d in folders if not d.startswith("."))
        for name in names:
            if is_image(name) and not name.startswith("."):
                paths.append(os.path.relpath(Path(where) / name, folder))
    return sorted(paths)

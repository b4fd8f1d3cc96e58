"""Images that a data set holds inside other files: written out once in the cache folder."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from features.machine.home import home, make
from features.machine.regular_files import open_regular


def written_out(digest: str, images: Iterable[tuple[str, bytes]]) -> Path:
    """The folder with `images`, made in one step where it does not exist yet.

    Args:
        digest: The digest of the files that the images come from.
        images: Path inside the folder and bytes of each image; read only if the folder is made.
    """
    folder = home() / "arrays" / digest
    if folder.is_dir():
        return folder
    make(folder.parent)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".images-"))
    try:
        for name, data in images:
            target = made / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        made.chmod(0o755)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def digest_of(file: Path) -> str:
    """A short digest of the bytes of a file."""
    with open_regular(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


def digest_of_all(files: Iterable[tuple[str, Path]]) -> str:
    """A short digest of the names and bytes of files."""
    lines = "\n".join(f"{name}\n{digest_of(file)}" for name, file in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]

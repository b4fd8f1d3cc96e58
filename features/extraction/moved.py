"""Images that lie in another folder now: a sample is compared before study.toml names the folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from features.data import caches_images, options_in, with_options
from features.errors import InputError
from features.images.decode import Unreadable, decode, read_bytes
from features.study.copies import sampled
from features.study.saving import save_place
from features.study.study import Study, open_study

_MOST_ABSENT = 0.1


def move(folder: Path, root: str) -> str:
    """Let the study in `folder` find its images in `root` from now on; says what was compared.

    Up to fifty files are read: none may differ from what `probe data check` or `probe fit` read last, or
    from the file in the old folder where that is still there; else every one must be an image. A tenth may
    be missing.

    Raises:
        InputError: `root` is no folder, its files are others, or the images are in the cache folder.
    """
    study = open_study(folder)
    to = Path(root).expanduser().resolve()
    if not to.is_dir():
        raise InputError(f"--root {root}: there is no such folder.")
    if caches_images(study.source):
        raise InputError(
            f"--root {root}: the images of {study.source} lie in the toolkit's cache folder; leave it out."
        )
    if to == study.root:
        return f"{study.folder}: its images are looked for in {to} already"
    paths = [study.paths[row] for row in sampled(study.paths)]
    missing = [path for path in paths if not (to / path).is_file()]
    if len(missing) > _MOST_ABSENT * len(paths):
        raise InputError(
            f"--root {root}: {len(missing)} of {len(paths)} images that were looked for are not there (the "
            f"first: {missing[0]}); name the folder that {paths[0]} lies in."
        )
    compared = _compare(study, to, [path for path in paths if path not in missing])
    save_place(study.folder, to, _source(study, to))
    how = (
        f"{compared} files compared, the same bytes"
        if compared
        else f"{len(paths) - len(missing)} images read; nothing was kept to compare them with"
    )
    return f"{study.folder}: its images are in {to} from now on ({how})"


def _compare(study: Study, to: Path, paths: Sequence[str]) -> int:
    """How many of the files are known to be the same.

    Raises:
        InputError: One is another file, or no image.
    """
    known = {} if study.copies is None else study.copies.digests
    digest_of = {study.paths[row]: digest for row, digest in known.items()}
    same = 0
    for path in paths:
        try:
            data = read_bytes(to / path)
        except Unreadable as error:
            raise InputError(
                f"{to / path}: {error}; correct it, or name another --root."
            ) from error
        before = digest_of.get(path)
        if before is None:
            # What is no longer there, or may not be read, says nothing.
            with suppress(Unreadable, OSError):
                before = digest(read_bytes(study.root / path))
        if before is None:
            _check_image(to / path, data)
        elif before != digest(data):
            raise InputError(
                f"{to / path}: not the file that this study was made of; name the folder of the same "
                "images, or begin another --study."
            )
        else:
            same += 1
    return same


def _check_image(path: Path, data: bytes) -> None:
    try:
        decode(data)
    except Unreadable as error:
        raise InputError(f"{path}: {error}; correct it, or name another --root.") from error


def digest(data: bytes) -> str:
    """What tells the bytes of one file from those of another."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _source(study: Study, to: Path) -> str:
    """What `--data` would name now: the source, its folder or table moved along where it is there."""
    where, options = options_in(study.source)
    word, colon, rest = where.partition(":")
    prefix, place = (f"{word}:", Path(rest)) if colon and "/" not in word else ("", Path(where))
    try:
        moved = to / place.relative_to(study.root)
    except ValueError:  # the table lies elsewhere, and stays there
        return study.source
    if place.exists() or not moved.exists():
        return study.source
    return with_options(f"{prefix}{moved}", options)

"""WebDataset: tar files in which the members of one image share a name, `0001.jpg` and `0001.cls`."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath

from features.data.image_cache import digest_of_all, written_out
from features.data.manifest import Manifest
from features.errors import InputError
from features.machine.regular_files import check_regular
from features.machine.strict_json import from_json

_IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "gif")

_SMALL_BYTES = 1 << 26
_INFLATION = 20  # images hardly shrink in a .tar.gz

Columns = dict[str, str]


def read_webdataset(pattern: Path) -> Manifest:
    """A row per image, in the order of the archives' names and of their members.

    `cls` is the column `label`; texts and numbers of a `json` are columns of their own, and other
    members are ignored. The path of a row is ARCHIVE/MEMBER. The images are written out in the
    cache folder, except for members that are links or lie outside the archive.

    Raises:
        InputError: No archive matches, one is damaged, or there are no images or no labels.
    """
    pattern = pattern if pattern.is_absolute() else Path.cwd() / pattern
    archives = sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
    if not archives:
        raise InputError(
            f"webdataset:{pattern}: no file matches; quote the pattern, as in 'shards/*.tar'."
        )
    names = [archive.name for archive in archives]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"webdataset:{pattern}: {twice} is in several folders; give one folder.")
    rows = [row for archive in archives for row in _rows(archive)]
    labels = dict.fromkeys(name for row in rows for name in row if name != "path")
    if not rows:
        raise InputError(f"webdataset:{pattern}: the archives hold no images; check them.")
    if not labels:
        raise InputError(
            f"webdataset:{pattern}: images but no labels; add a member .cls or .json per image."
        )
    columns = {name: [row.get(name, "") for row in rows] for name in ("path", *labels)}
    digest = digest_of_all((archive.name, archive) for archive in archives)
    folder = written_out(digest, chain.from_iterable(map(_images, archives)))
    return Manifest(f"webdataset:{pattern}", folder, columns)


def _rows(archive: Path) -> list[Columns]:
    rows: dict[str, Columns] = {}
    keys = {name for name, kind, *_ in _members(archive) if kind in (*_IMAGES, "cls", "json")}
    for begins, ends, member, opened in _members(archive):
        name, kind = _key(begins, ends, keys)
        row = rows.setdefault(name, {})
        if kind in _IMAGES:
            row["path"] = f"{archive.name}/{member.name}"
        elif kind == "cls":
            row["label"] = _bytes(opened, member).decode("utf-8", "replace").strip()
        elif kind == "json":
            row.update(_labels(archive, member, _bytes(opened, member)))
    return [row for row in rows.values() if "path" in row]


def _key(name: str, kind: str, keys: set[str]) -> tuple[str, str]:
    """The name that the members of an image share, and the kind of a member.

    A name ends at its first dot, as `0001.seg.png` is a further member of `0001`; but where there is no
    image or label of that name the dots are part of it, as in `shot.0.5.jpg`.
    """
    more, dot, last = kind.rpartition(".")
    if not dot or name in keys or last not in (*_IMAGES, "cls", "json"):
        return name, kind
    return f"{name}.{more}", last


def _labels(archive: Path, member: tarfile.TarInfo, data: bytes) -> Columns:
    try:
        values = from_json(data)
    except ValueError as error:
        raise InputError(
            f"{archive}: {member.name} is not JSON ({error}); write the archive again."
        ) from error
    if not isinstance(values, dict):
        return {}
    known = {k: v for k, v in values.items() if isinstance(v, str | int | float) and k != "path"}
    return {str(name): str(value) for name, value in known.items()}


def _images(archive: Path) -> Iterator[tuple[str, bytes]]:
    for _, kind, member, opened in _members(archive):
        if kind.rpartition(".")[2] in _IMAGES:
            yield f"{archive.name}/{member.name}", _bytes(opened, member)


def _members(archive: Path) -> Iterator[tuple[str, str, tarfile.TarInfo, tarfile.TarFile]]:
    """Stem, which the members of one image share, kind after the first dot, member and open archive."""
    try:
        check_regular(archive)
        with tarfile.open(archive) as opened:
            left = max(_SMALL_BYTES, _INFLATION * archive.stat().st_size)
            for member in opened:
                left -= member.size
                if left < 0 or member.issparse():
                    raise InputError(
                        f"{archive}: its member {member.name[:80]!r} would unpack to far more than "
                        "images of its size could; write the archive again."
                    )
                place = PurePosixPath(member.name)
                if member.isfile() and not place.is_absolute() and ".." not in place.parts:
                    stem, _, kind = place.name.partition(".")
                    yield str(place.with_name(stem or place.name)), kind.lower(), member, opened
            # A truncated header ends the loop as the empty blocks at the end of a complete archive do.
            opened.fileobj.seek(opened.offset)
            if len(opened.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("it ends early")
    except InputError:
        raise
    except Exception as error:  # tarfile and zlib raise many kinds
        why = (str(getattr(error, "strerror", None) or error).splitlines() or ["damaged"])[0]
        raise InputError(
            f"{archive}: not a complete tar file ({why[:100]}); write or fetch it again."
        ) from error


def _bytes(opened: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = opened.extractfile(member)
    return b"" if file is None else file.read()

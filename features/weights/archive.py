"""Archives (`.tar.gz`, `.tar`, `.zip`): the one member that is weights is unpacked.

Nothing is written under a member's own name, so no name can lead elsewhere; an archive that tries
(`../`, an absolute path, a link) is refused as a whole, and so is one that unpacks to far more than
weights could.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from features.errors import InputError
from features.formats.blobs import MOST, because
from features.formats.recognise import recognise
from features.machine.files import is_full
from features.machine.regular_files import open_regular

_INFLATION = 20
_SMALL = 1 << 26
_MEMBERS = 10_000
_BLOCK = 1 << 20


class _Member(NamedTuple):
    name: str
    is_file: bool
    is_link: bool
    content: IO[bytes] | None


def unpack(path: Path, folder: Path, member: str | None = None) -> tuple[Path, str]:
    """Write the member that is weights into `folder`; returns the new file and the member's name.

    Args:
        path: The archive.
        folder: An empty folder; other members leave nothing behind in it.
        member: Which one, by its name or the end of it; needed where several are weights.

    Raises:
        InputError: The archive is damaged or hostile, or it is not clear which member to take.
        OSError: The disk is full.
    """
    try:
        names = _unpack(path, folder, member)
    except InputError:
        raise
    except Exception as error:  # zipfile, tarfile and zlib raise many kinds
        if is_full(error):
            raise
        raise InputError(
            f"{path}: a damaged archive ({because(error)}); fetch it again."
        ) from error
    if len(names) == 1:
        return folder / "0", names[0]
    if not names:
        named = f" called {member}" if member else ""
        raise InputError(
            f"{path}: no member{named} is a file of weights; give the weights themselves."
        )
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    raise InputError(
        f"{path}: several members are weights ({listed}); say which with --member NAME."
    )


def _unpack(path: Path, folder: Path, member: str | None) -> list[str]:
    """The names of the members that are weights; the first of them is written."""
    names: list[str] = []
    room = min(MOST, max(_SMALL, _INFLATION * path.stat().st_size))
    for number, entry in enumerate(_members(path, room)):
        if number > _MEMBERS:
            raise InputError(
                f"{path}: has more than {_MEMBERS} members; give the weights themselves."
            )
        parts = PurePosixPath(entry.name.replace("\\", "/")).parts
        if ".." in parts or entry.name.startswith(("/", "\\")) or entry.is_link:
            raise InputError(
                f"{path}: its member {entry.name[:80]!r} points outside the archive; fetch an intact "
                "archive."
            )
        if not entry.is_file or entry.content is None or parts[-1].startswith("._"):
            continue
        if member is not None and entry.name != member and not entry.name.endswith(f"/{member}"):
            continue
        room -= _write(entry.content, folder / "next", room, path)
        if _is_weights(folder / "next"):
            if not names:
                (folder / "next").rename(folder / "0")
            names.append(entry.name)
        (folder / "next").unlink(missing_ok=True)
    return names


def _members(path: Path, room: int) -> Iterator[_Member]:
    with open_regular(path) as file:
        start = file.read(2)  # not is_zipfile: a tar may end in a zip
    return _of_zip(path) if start == b"PK" else _of_tar(path, room, start == b"\x1f\x8b")


def _of_zip(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            link = (info.external_attr >> 28) == 0o12
            with archive.open(info) as content:
                yield _Member(info.filename, not info.is_dir(), link, content)


def _of_tar(path: Path, room: int, packed: bool) -> Iterator[_Member]:
    with open_regular(path) as file:
        plain: Any = gzip.GzipFile(fileobj=file) if packed else file
        with tarfile.open(fileobj=_Bounded(plain, room, path), mode="r|") as tar:
            for info in tar:
                content = tar.extractfile(info) if info.isreg() else None
                yield _Member(info.name, info.isreg(), info.issym() or info.islnk(), content)


class _Bounded(io.RawIOBase):
    """A stream that raises an error once it has given more than `room` bytes."""

    def __init__(self, stream: IO[bytes], room: int, path: Path) -> None:
        self._stream, self._room, self._path = stream, room, path

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(min(size, _BLOCK) if size >= 0 else _BLOCK)
        self._room -= len(block)
        _refuse_bomb(self._room, self._path)
        return block


def _write(content: IO[bytes], target: Path, room: int, path: Path) -> int:
    written = 0
    with target.open("wb") as file:
        while block := content.read(_BLOCK):
            written += len(block)
            _refuse_bomb(room - written, path)
            file.write(block)
    return written


def _refuse_bomb(room: int, path: Path) -> None:
    if room < 0:
        raise InputError(
            f"{path}: unpacks to far more than weights of its size could; fetch an intact archive."
        )


def _is_weights(path: Path) -> bool:
    try:
        return recognise(path) != "archive"
    except InputError:
        return False

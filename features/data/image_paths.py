"""Where the image files of a table are: which column names them, and what would make its paths match."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from shlex import quote

from features.data.imagefiles import is_image
from features.errors import InputError, in_words, nearest

NAMES = (
    "filename", "file_name", "image", "image_path", "img", "img_path", "file", "filepath", "file_path",
    "id_code", "image_id", "image_name", "uid",
)  # fmt: skip
"""Other names of the column of paths."""
_TRIED = 40
"""Rows whose files are looked for."""
_SEARCHED = 50_000
"""Files below the root that are looked at for a path's name."""


@dataclass(frozen=True)
class Places:
    """How the paths of a table lead to files."""

    root: Path
    """The folder that paths start from."""
    extension: str = ""
    """What is added to every path, such as `.png`."""

    def path(self, cell: str) -> str:
        """The path of a cell, relative to the root or absolute."""
        return cell + self.extension

    def there(self, cell: str) -> bool:
        """Whether the file of a cell is there."""
        return _is_file(self.root / self.path(cell))


def root_of(file: Path, root: str | None) -> Path:
    """The folder that the paths of the table `file` start from where `root` was asked for, resolved.

    Raises:
        InputError: There is no such folder.
    """
    folder = file.resolve().parent
    asked = folder if root is None else Path(root).expanduser()
    asked = asked if asked.is_dir() else folder / asked
    if not asked.is_dir():
        raise InputError(f"--root {root}: there is no such folder.")
    return asked.resolve()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def column_of_paths(
    file: Path, columns: Mapping[str, Sequence[str]], places: Places, asked: str | None
) -> tuple[str, list[str]]:
    """The column of paths, and in sentences what was taken for it.

    Raises:
        InputError: There is no such column, or several hold files.
    """
    if asked is not None:
        if asked not in columns:
            raise InputError(
                f"--path-column {asked}: {file} has no such column; {nearest(asked, columns)}"
            )
        return asked, []
    if "path" in columns:
        return "path", []
    named = [name for name in columns if name.casefold() in NAMES]
    with_files = [name for name in columns if _most_there(columns[name], places)]
    if len(with_files) == 1:
        return with_files[0], [
            f"{file.name}: the column {with_files[0]} has the paths of the images"
        ]
    if len(with_files) > 1:
        raise InputError(
            f"{file}: the columns {in_words(with_files)} all name files; say which are the images with "
            f"--path-column {quote(with_files[0])}."
        )
    if named:
        first = next(iter(_sample(columns[named[0]])), "")
        advice = next(_advice(first, places), "") if first else ""
        raise InputError(
            f"{file}: the manifest has no column path; {' or '.join(named)} may be it, but no such files "
            f"are in {places.root}{f': {advice}' if advice else ''}; give --path-column {quote(named[0])}, "
            "and --root DIR or --extension .png where its paths lack them."
        )
    raise InputError(
        f"{file}: the manifest has no column path, and no other names files; give --path-column NAME (its "
        f"columns: {', '.join(columns)})."
    )


def _most_there(cells: Sequence[str], places: Places) -> bool:
    tried = _sample(cells)
    here = sum(places.there(cell) for cell in tried)
    return bool(tried) and 2 * here > len(tried)


def _sample(cells: Sequence[str]) -> list[str]:
    filled = [cell for cell in cells if cell]
    step = max(1, len(filled) // _TRIED)
    return filled[::step][:_TRIED]


def found_paths(file: Path, cells: Sequence[str], places: Places) -> tuple[list[str], list[str]]:
    """The paths of all rows, and in sentences how they were read.

    Blanks around paths and backslashes are read over where that leads to the files.

    Raises:
        InputError: None of the files is there, and looking around found what would make them match.
    """
    tried = _sample(cells)
    if not tried or any(places.there(cell) for cell in tried):
        return [places.path(cell) for cell in cells], []
    for change, what in _CHANGES.items():
        if all(places.there(change(cell)) for cell in tried):
            return [places.path(change(cell)) for cell in cells], [f"{file.name}: {what}"]
    advice = next(_advice(tried[0], places), None)
    if advice is not None:
        first = places.root / places.path(tried[0])
        raise InputError(f"{file}: no image is there (the first would be {first}); {advice}.")
    return [places.path(cell) for cell in cells], []


def _slashes(cell: str) -> str:
    return cell.replace("\\", "/")


def _without_blanks(cell: str) -> str:
    return cell.strip()


def _composed(cell: str) -> str:
    return unicodedata.normalize("NFC", cell)


def _decomposed(cell: str) -> str:
    return unicodedata.normalize("NFD", cell)


_CHANGES: dict[Callable[[str], str], str] = {
    _without_blanks: "blanks around the paths are left out",
    _slashes: "backslashes in the paths are read as slashes",
    _composed: "accents in the paths are read as the files have them (NFC)",
    _decomposed: "accents in the paths are read as the files have them (NFD)",
}


def _advice(cell: str, places: Places) -> Iterator[str]:
    """What would lead from a path to a file that is there, the nearest first."""
    path = PurePosixPath(re.sub(r"^[A-Za-z]:", "", _slashes(cell.strip())).lstrip("/"))
    root = places.root
    folder, name = root / path.parent, path.name
    if not name:  # `.` or `/`
        return
    beside = _files_in(folder)
    if beside:
        for other in beside:
            if other.startswith(f"{name}.") and is_image(other):
                yield f"{path.parent / other} is there, so give --extension {other[len(name) :]}"
    otherwise = _in_any_case(root, path.with_name(name + places.extension))
    if otherwise is not None:
        yield f"{otherwise} is there, written otherwise; write the paths as the files are"
    if beside:
        for other in beside:
            if Path(other).stem == path.stem and is_image(other):
                yield (
                    f"{path.parent / other} is there, of another kind; write the paths with "
                    f"{Path(other).suffix}"
                )
    for above in list(root.parents)[:3]:
        if _is_file(above / path.with_name(name + places.extension)):
            yield f"it is there from {above}, so give --root {above}"
    for parts in range(1, len(path.parts)):
        shorter = PurePosixPath(*path.parts[parts:])
        if _is_file(root / places.path(str(shorter))):
            lead = PurePosixPath(*path.parts[:parts])
            yield (
                f"{shorter} is there, so leave out {lead}/ before it, or give --root "
                "the folder that holds it"
            )
    where, ending = _below(root, path, places)
    if where is not None:
        more = f" --extension {ending}" if ending else ""
        yield f"it is there from {where}{f' with {ending}' * bool(ending)}, so give --root {where}{more}"


def _files_in(folder: Path) -> list[str]:
    """The names of the files in a folder; none where it cannot be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except (OSError, ValueError):
        return []


def _in_any_case(root: Path, path: PurePosixPath) -> PurePosixPath | None:
    """The path below the root of a file that is called so but for the case of its letters."""
    found = PurePosixPath()
    for part in path.parts:
        try:
            names = sorted(entry.name for entry in (root / found).iterdir())
        except (OSError, ValueError):
            return None
        alike = [name for name in names if name.casefold() == part.casefold()]
        if not alike:
            return None
        found /= part if part in alike else alike[0]
    return found if found != path and _is_file(root / found) else None


def _below(root: Path, path: PurePosixPath, places: Places) -> tuple[Path | None, str]:
    """A folder below the root from which a path leads to a file, and the ending that a bare name lacks."""
    looked = 0
    stack = [root]
    while stack:
        folder = stack.pop(0)
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for entry in entries:
            looked += 1
            if looked > _SEARCHED:
                return None, ""
            if len(path.parts) == 1 and entry.name.startswith(f"{path}.") and is_image(entry.name):
                return folder, entry.name[len(str(path)) :]
            if entry.is_dir() and not entry.name.startswith(".") and not entry.is_symlink():
                if _is_file(entry / places.path(str(path))):
                    return entry, ""
                stack.append(entry)
    return None, ""

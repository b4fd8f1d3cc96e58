"""The data that `probe data check` looked at last, noted in the folder of a study that is not begun yet."""

from __future__ import annotations

from pathlib import Path

from features.machine.files import write_text

_FILE = "checked-data.txt"
_LONGEST = 10_000  # characters of a source


def note_checked(folder: Path, source: str) -> None:
    """Note in `folder`, which is made, that `source` was checked; a study begun there takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / _FILE, source + "\n")


def checked_data(folder: Path) -> str | None:
    """The source noted in `folder`, as `--data` takes it; None where there is none that can be read."""
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8") as file:
            source = file.read(_LONGEST).strip()
    except (OSError, UnicodeDecodeError):
        return None
    return source or None

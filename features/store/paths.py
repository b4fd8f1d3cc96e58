"""The names of feature files on disk."""

from __future__ import annotations

from pathlib import Path

from features.machine.files import file_name


def partial_of(path: Path) -> Path:
    """The path of the file that becomes the finished file `path`, while it is written."""
    return path.with_name(path.name + ".partial")


def parts_of(path: Path) -> Path:
    """The folder of the parts that shares of an extraction make for the finished file `path`."""
    return path.with_name(path.name + ".parts")


def fit_parts_of(study: Path, backbone: str = "") -> Path:
    """The folder of the results that shares of a fit make, of all backbones or of one."""
    return study / "fitting" / (file_name(backbone) if backbone else "")


def every_file(study: Path) -> list[Path]:
    """The feature files in a study's folder, finished and partial ones."""
    paths = sorted((study / "features").glob("*.h5*"))
    return [path for path in paths if path.suffix in (".h5", ".partial")]

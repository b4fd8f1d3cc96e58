"""Samples of source domains: images of other data sets, through the study's own backbones.

Each lies in the study as `sources/NAME`, a small study of its own: study.toml, images.csv, features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from features.data.unlabelled import read_unlabelled
from features.errors import InputError
from features.extraction.extract import extract
from features.extraction.summary import Extraction
from features.machine.files import file_name
from features.study.study import Study, open_study


def source_folder(study: Path, name: str) -> Path:
    """Where the sample called `name` lies."""
    return study / "sources" / file_name(name)


def sources(study: Study) -> dict[str, Study]:
    """The samples of a study, by name."""
    folders = sorted((study.folder / "sources").glob("*/study.toml"))
    return {file.parent.name: open_study(file.parent) for file in folders}


def check_source(name: str, folder: Path) -> None:
    """Make sure that a sample can be taken, before anything is written.

    Raises:
        InputError: The name or the folder cannot be used.
    """
    if not name or name != file_name(name) or name.startswith("."):
        raise InputError(
            f"--source {name}={folder}: a sample's name is of letters, digits and ._@+- alone, such as "
            "faces=DIR."
        )
    read_unlabelled(folder)


def extract_source(
    study: Path,
    name: str,
    folder: Path,
    backbone: str,
    extracted: Extraction,
    *,
    weights: str | None = None,
    dtype: str = "float32",
    precision: str = "float32",
    batch_size: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    seed: int = 0,
    announce: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int, str], None] = lambda _done, _all, _busiest: None,
) -> Extraction:
    """Features of the images in `folder`, at the layers and poolings that the study has of a backbone.

    Args:
        study: The study's folder.
        name: What to call the sample, such as the domain it stands for.
        folder: Of images; labels are not looked at.
        backbone: As it was given for the study's own images.
        extracted: What came of those.
        weights: As for the study's own images, and so for the rest.
        dtype: As there.
        precision: As there.
        batch_size: As there.
        workers: As there.
        device: As there.
        seed: As there.
        announce: Is told of downloads and the like.
        progress: Is called with rows done, rows in all, and the busiest stage.

    Raises:
        InputError: The name or the folder cannot be used.
    """
    check_source(name, folder)
    layers, pools = _as_in(open_study(study), extracted.backbone)
    return extract(
        source_folder(study, name),
        backbone,
        data=f"unlabelled:{folder}",
        layers=layers,
        weights=weights,
        pool=pools,
        dtype=dtype,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        device=device,
        seed=seed,
        announce=announce,
        progress=progress,
    )


def _as_in(study: Study, backbone: str) -> tuple[Sequence[str], Sequence[str]]:
    with study.features(backbone) as file:
        abouts = [file.about(key) for key in file.keys]
    pools = dict.fromkeys(about["pool"] for about in abouts if len(about["shape"]) == 3)
    return list(dict.fromkeys(about["layer"] for about in abouts)), list(pools) or ["auto"]

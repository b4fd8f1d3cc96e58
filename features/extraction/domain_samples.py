"""Samples of domains: images of other data sets, through the study's own backbones.

Each is a small study in `sources/NAME` of the study, with study.toml, images.csv and features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from features.data.unlabelled import read_unlabelled
from features.errors import OptionError
from features.extraction.extract import extract_with
from features.extraction.options import ExtractOptions
from features.extraction.summary import Extraction
from features.machine.files import file_name
from features.study.study import Study, open_study


def sample_folder(study: Path, name: str) -> Path:
    """The folder of the sample called `name`."""
    return study / "sources" / file_name(name)


def domain_samples(study: Study) -> dict[str, Study]:
    """The samples of a study, by name."""
    folders = sorted((study.folder / "sources").glob("*/study.toml"))
    return {file.parent.name: open_study(file.parent) for file in folders}


def check_sample(name: str, folder: Path) -> None:
    """Check that a sample can be drawn, before anything is written.

    Raises:
        InputError: The name or the folder cannot be used.
    """
    if not name or name != file_name(name) or name.startswith("."):
        raise OptionError(
            f"--source {name}={folder}: a sample's name has only letters, digits and ._@+-; write for "
            "example faces=DIR."
        )
    read_unlabelled(folder)


def extract_sample(
    study: Path,
    name: str,
    folder: Path,
    backbone: tuple[str, str | None],
    extracted: str,
    options: ExtractOptions,
) -> Extraction:
    """Extract the images in `folder` at the layers and poolings that the study has of a backbone.

    Args:
        study: The study's folder.
        name: What to call the sample, such as the domain it stands for.
        folder: A folder of images; labels are not needed.
        backbone: The backbone and its weights, as given for the study's own images.
        extracted: The name of this backbone in the study.
        options: Those for the study's own images; the sample uses how and where to compute.

    Raises:
        InputError: The name or the folder cannot be used.
    """
    check_sample(name, folder)
    layers, pools = _as_in(open_study(study), extracted)
    own = ExtractOptions(
        data=f"unlabelled:{folder}",
        layers=layers,
        pool=pools,
        dtype=options.dtype,
        precision=options.precision,
        batch_size=options.batch_size,
        workers=options.workers,
        lanes=options.lanes,
        device=options.device,
        seed=options.seed,
        geometry=options.geometry,
        announce=options.announce,
        progress=options.progress,
    )
    [extraction] = extract_with(sample_folder(study, name), dict([backbone]), own)
    return extraction


def _as_in(study: Study, backbone: str) -> tuple[Sequence[str], Sequence[str]]:
    """The layers and the poolings of maps that the study has of a backbone."""
    with study.features(backbone) as file:
        abouts = [file.about(key) for key in file.keys]
    pools = dict.fromkeys(about["pool"] for about in abouts if len(about["shape"]) > 1)
    return list(dict.fromkeys(about["layer"] for about in abouts)), list(pools) or ["auto"]

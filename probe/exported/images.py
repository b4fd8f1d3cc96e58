"""The images that are predicted, as a person names them: files, folders, manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.data import FILES, READERS, read_data, with_options
from features.data.imagefiles import list_images
from features.data.manifest import Manifest
from features.errors import InputError, OptionError

_TABLES = (".csv", ".tsv", *FILES)


@dataclass
class Images:
    """Image files with what is known of each."""

    files: list[Path] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Each as it is shown: the path that was given, or that stands in the manifest."""
    labels: list[str] = field(default_factory=list)
    """Empty where none is known."""
    subjects: list[str] = field(default_factory=list)
    """Likewise."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Files and folders that are not among them, each with the reason."""

    def __len__(self) -> int:
        """The number of images."""
        return len(self.files)

    def add(self, file: Path, name: str, label: str = "", subject: str = "") -> None:
        """Add one image."""
        self.files.append(file)
        self.names.append(name)
        self.labels.append(label)
        self.subjects.append(subject)


def images_named(
    names: Sequence[str | Path],
    task: str,
    options: Mapping[str, str | None] | None = None,
    classes: Sequence[str] = (),
) -> Images:
    """The images that `names` stand for, in their order.

    Args:
        names: Image files; folders, of which every image at any depth counts; manifests (CSV, TSV,
            Parquet) and data sets as `--data` takes them, such as `utkface:DIR`.
        task: The column of a manifest that has the labels.
        options: Of the tables among them, as `read_table` has them; none where there is no table.
        classes: Those of the task; a folder whose own folders have these names alone tells the labels.

    Raises:
        InputError: There is none, or a manifest or folder cannot be used.
    """
    images = Images()
    given = {name: value for name, value in (options or {}).items() if value is not None}
    tables = False
    for name in map(str, names):
        path = Path(name)
        if path.is_dir():
            _add_folder(images, path, classes)
        elif path.is_file() and path.suffix.lower() in _TABLES:
            tables = True
            # No study is begun: columns that are likely to be groups are not asked about.
            _add_manifest(images, read_data(with_options(name, given), standing=()), task)
        elif _is_data(name):
            _add_manifest(images, read_data(name), task)
        else:
            images.add(path, name)
    if given and not tables:
        name, value = next(iter(given.items()))
        raise OptionError(
            f"--{name.replace('_', '-')} {value}: goes with a table, and none is given; leave it out."
        )
    if not images.files:
        raise InputError(
            f"{', '.join(map(str, names)) or 'no image'}: there are no images to predict; give files, "
            "folders or a manifest."
        )
    return images


def _is_data(name: str) -> bool:
    word, colon, _ = name.partition(":")
    return bool(colon) and word in READERS and not Path(name).exists()


def _add_folder(images: Images, folder: Path, classes: Sequence[str]) -> None:
    listing = list_images(folder)
    parents = [Path(name).parts[0] if len(Path(name).parts) > 1 else "" for name in listing.images]
    labelled = bool(parents) and set(parents) <= set(classes)
    for name, parent in zip(listing.images, parents, strict=True):
        images.add(folder / name, str(folder / name), parent if labelled else "")
    images.left_out += [(str(folder / name), why) for name, why in listing.left_out]
    images.left_out += [(str(folder / name), why) for name, why in listing.not_read()]


def _add_manifest(images: Images, manifest: Manifest, task: str) -> None:
    n = len(manifest)
    labels = manifest.columns.get(task, [""] * n)
    subjects = manifest.columns.get("subject", [""] * n)
    for path, label, subject in zip(manifest.columns["path"], labels, subjects, strict=True):
        images.add(manifest.root / path, path, label, subject)
    images.left_out += list(manifest.left_out)

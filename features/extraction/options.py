"""The options of an extraction, each stated once with its meaning: `extract` takes them as keywords."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.errors import OptionError
from features.extraction.summary import Plan
from features.images.views import check_views
from features.machine.shares import check_apart
from features.store.hdf5 import FILTERS


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """The options of an extraction besides the study and the backbones."""

    data: str | None = None
    """A data set as in `--data`; needed once, None afterwards."""
    layers: Sequence[str] = ()
    """Names of layers, patterns of them, `all` or `last`; by default every layer of the card, or without
    one the stem, every block, the last norm or pool and the embedding."""
    pool: Sequence[str] = ()
    """Poolings of maps and tokens: `auto`, `none`, `avg`, `max`, `grid:K`, of tokens `cls` and `cls+avg`
    too; by default both `auto` and `avg`."""
    views: Sequence[str] = ()
    """Besides the centre crop: `flip`, `10crop`; the mean over a view's crops is stored. Without `layers`
    and `pool`, at the layers and poolings that the file has already."""
    geometry: str | None = None
    """Another backbone whose resizing and crop are taken; the features are of NAME@as-OTHER."""
    dtype: str = "float32"
    """The type of the stored numbers, `float32` or `float16`."""
    precision: str = "float32"
    """The numbers in which the network computes: `float32`, `bf16`, and on a GPU `tf32` and `fp16`."""
    batch_size: int | None = None
    """Images per forward pass; batches start at multiples of it. None: as in the existing file, or
    else the size with which the network computes fastest."""
    workers: int | None = None
    """Processes that share the work; by default one per named device."""
    lanes: int | None = None
    """Batches computed at the same time in a worker; by default its share of the cores."""
    limit: int | None = None
    """Extract only this many rows, spread over folds and classes; the same for all backbones."""
    quick: bool = False
    """A first look: without `layers` the outputs of about six stages, without `pool` their average alone,
    and without `limit` a drawn part of the rows where all would take over half a minute."""
    strict: bool = False
    """Stop at the first unreadable image."""
    range: tuple[float, float] | None = None
    """The values of black and white in pictures of more than eight bits; None: as file and card tell."""
    compress: str | None = None
    """Compression of a finished file, `gzip`, `lzf` or `none`; None: as it is."""
    update: bool = False
    """Append rows that the data gained since the study was made."""
    share: str | None = None
    """`I/N`: make every N-th unit that is not there, as a file beside the feature file, and nothing else;
    the same without it collects them (see units.py)."""
    on: str | None = None
    """`ray` or `ray:ADDRESS`: where units are made (see features/machine/on_ray.py); None: here."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `mps`, `xpu` or `cuda:I,J`."""
    seed: int = 0
    """The seed of random weights."""
    announce: Callable[[str], None] = lambda _: None
    """Called with messages, such as one before a download."""
    clock: Callable[[float], str] = lambda seconds: f"{seconds:.0f} s"
    """Writes seconds in what is announced."""
    planned: Callable[[Plan], None] = lambda _: None
    """Called with the plan of a new file before its first batch is computed."""
    estimated: Callable[[float], None] = lambda _: None
    """Called after the first batch of new files with the seconds that the run will take."""
    progress: Callable[[int, int, str], None] = lambda _done, _all, _busiest: None
    """Called with rows done, rows in all, and the busiest stage."""

    def __post_init__(self) -> None:
        """Refuse values that an option does not take.

        Raises:
            InputError: There is such a value.
        """
        check_views(tuple(self.views))
        if self.dtype not in ("float32", "float16"):
            raise OptionError(f"--dtype {self.dtype}: features are stored as float32 or float16.")
        if self.batch_size is not None and self.batch_size < 1:
            raise OptionError(
                f"--batch-size {self.batch_size}: a batch has at least one image; give 1 or more."
            )
        if self.limit is not None and self.limit < 1:
            raise OptionError(f"--limit {self.limit}: give the number of rows, at least one.")
        if self.workers is not None and self.workers < 1:
            raise OptionError(
                f"--workers {self.workers}: the work needs at least one process; give 1 or more."
            )
        check_apart(self.share, self.on)
        alone = {"--workers": self.workers, "--quick": self.quick, "--update": self.update}
        for option, given in (("--share", self.share), ("--on", self.on)):
            for other, value in alone.items():
                if given and value:
                    raise OptionError(f"{option} {given}: does not go with {other}; leave it out.")
        if self.compress is not None and self.compress not in FILTERS:
            raise OptionError(f"--compress {self.compress}: not a filter; use none, lzf or gzip.")


@dataclass(frozen=True)
class ExtractOne(ExtractOptions):
    """The options of `extract`."""

    study: Path | str
    """The study's folder; created if `data` (or the built-in sample) begins a study."""
    backbone: str
    """A card's name, a card file, `torchvision:NAME`, `timm:NAME`, `hf:NAME` or `onnx:FILE`."""
    weights: str | None = field(default=None, kw_only=True)
    """A file, `random`, or None for the card's own."""


@dataclass(frozen=True)
class ExtractSeveral(ExtractOptions):
    """The options of `extract_together`."""

    study: Path | str
    """The study's folder; created if `data` (or the built-in sample) begins a study."""
    backbones: Mapping[str, str | None]
    """Cards' names, card files, or names as for `extract`, each with its weights: a file, `random`,
    or None for the card's own."""

"""The options of a fine-tune, each with its meaning: `finetune` takes them as keywords."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from features.errors import OptionError, nearest
from features.images.views import check_views
from features.machine import device as devices
from features.machine.shares import check_apart
from probe.training.recipes import DEFAULT, Recipe

BASES = ("finetune", "scratch")
PRECISIONS = ("auto", *devices.PRECISIONS, "amp")
"""Those of extraction; `amp`, an older word, is what `auto` is on a GPU."""


@dataclass(frozen=True)
class FineTuneOptions:
    """What to train, on which data, how and where."""

    study: Path | str
    """The study's folder; made if `data` (or the built-in sample) begins one."""
    backbone: str
    """A card's name, a card file, `torchvision:NAME`, `timm:NAME` or `hf:NAME`."""
    _: KW_ONLY
    data: str | None = None
    """What `--data` takes; needed once."""
    weights: str | None = None
    """A file, `random`, or None for the card's own; not looked at from scratch."""
    tasks: Sequence[str] = ()
    """One task, or several that share a network, each with a head; by default every task of the study
    by itself."""
    from_scratch: bool = False
    """Train from random weights."""
    freeze_through: Sequence[str] = ()
    """Layers; one network each, frozen through the layer. `all`: every layer."""
    copy_through: Sequence[str] = ()
    """Layers; one network each, copied through the layer and tuned. `all`: every layer."""
    keep_above: bool = False
    """Copy the layers above such a cut too, instead of drawing them anew."""
    recipe: Recipe | str = DEFAULT
    """One of probe/training/recipes.py, or its name."""
    views: Sequence[str] = ("center", "10crop")
    """What of a test image is scored: `center`, `flip` or `10crop`; a row each."""
    folds: int | None = None
    """How many to make where the data set has none of its own; five by default."""
    seed: int = 0
    """Decides folds, new weights, batches, crops and dropout."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `mps`, `xpu` or `cuda:I,J`: several train folds beside each other."""
    workers: int | None = None
    """Threads that decode images; by default one per core."""
    accumulate: int = 1
    """Parts that a batch is computed in, to save memory."""
    precision: str = "auto"
    """`float32`, `tf32`, or, as mixed precision, `bf16` or `fp16`; `auto`: float32 on a processor, bf16 or
    fp16 on a GPU, as it computes."""
    share: str | None = None
    """`I/N`: train every N-th fold that is not there, and nothing else; the same without it collects."""
    on: str | None = None
    """`ray` or `ray:ADDRESS`: where folds are trained (see features/machine/on_ray.py); None: here."""
    base: str = ""
    """`finetune` or `scratch`, or as its rows name it (`scratch+gilnet`): begin with that network,
    trained here on the same fold and kept with `save`, in place of the backbone's weights (the BnB of
    Yosinski et al. 2014, arXiv 1411.1792)."""
    probe_first: bool = False
    """Start the head as the logistic probe (LP-FT)."""
    search: bool | None = None
    """Choose the learning rate too, from a third, once and three times the recipe's. None: with the recipe
    `modern` as it stands, where every result would be trained within an hour (see rate_search.py)."""
    save: bool = False
    """Keep every trained network as a backbone of its own, in STUDY/networks."""
    redo: bool = False
    """Train results again that are there already."""
    tensorboard: Path | None = None
    """A folder for TensorBoard's files, which the study itself does not use."""
    announce: Callable[[str], None] = lambda _: None
    """Called with a sentence on downloads and the like."""
    progress: Callable[[int, int, str], None] = lambda _done, _all, _now: None
    """Called with images trained on, images in all, and where training is."""

    def __post_init__(self) -> None:
        """Refuse what no fine-tune could be run with.

        Raises:
            InputError: An option has none of its values, or contradicts another.
        """
        check_views(tuple(self.views))
        check_apart(self.share, self.on, redo=self.redo)
        if self.accumulate < 1:
            raise OptionError(
                f"--accumulate {self.accumulate}: a batch is computed in one part or more."
            )
        if self.precision not in PRECISIONS:
            raise OptionError(
                f"--precision {self.precision}: not a precision; use auto, float32, tf32, bf16 or fp16."
            )
        if self.base and self.base.partition("+")[0] not in BASES:
            raise OptionError(
                f"--from {self.base}: not a network that is trained here; {nearest(self.base, BASES)}"
            )
        if self.base and self.from_scratch:
            raise OptionError(
                "--from: begins with a trained network and --from-scratch with random weights; leave one "
                "of them out."
            )
        if self.keep_above and not self.freeze_through and not self.copy_through:
            raise OptionError(
                "--keep-above: goes with a cut, and none is given; add --freeze-through LAYER or "
                "--copy-through LAYER."
            )

"""The options of a fit, each with its meaning: `fit` takes them as keywords."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from math import inf
from pathlib import Path

from features.errors import OptionError, nearest
from features.images.views import check_views
from features.machine.shares import check_apart
from probe.fitting.job import ProbeJob
from probe.probes.methods import DEFAULT, METHODS
from probe.probes.scaling import SCALES
from probe.probes.settings import SOLVERS, TOL

QUICK = ("ridge",)
"""The probes of a first look."""


@dataclass(frozen=True)
class FitOptions:
    """Which probes to fit on which layers, and how."""

    study: Path | str
    """The study's folder."""
    _: KW_ONLY
    backbones: Sequence[str] = ()
    """Names; by default all that are extracted."""
    layers: Sequence[str] = ()
    """Names; all by default."""
    tasks: Sequence[str] = ()
    """Names, `NAME:ordered` or `NAME:number`; all by default. What is named a number is remembered."""
    probes: Sequence[str] = DEFAULT
    """Any of `logistic`, `svm`, `ridge` and `knn`; a number takes the last two, or `ridge` where neither is
    named."""
    folds: int | None = None
    """How many to make where the data set has none of its own; five by default."""
    c: Sequence[float] | None = None
    """Values of C as scikit-learn means it; by default thirteen over a range that suits the layer."""
    scale: str = "standard"
    """`standard`, `l2` or `none`, or `auto`: standard or l2, chosen like C inside the training folds; knn
    uses lengths of one (cosine), but with `none` Euclidean distances."""
    solver: str = "grid"
    """`grid`, this project's own, or `sklearn`, for logistic, svm and ridge."""
    tol: float = TOL
    """Relative error of the objective at which `grid` stops."""
    memory: float | None = None
    """Gigabytes for features and what is made of them; a layer that needs more is read in blocks. Half of
    the machine's by default."""
    device: str = "cpu"
    """Where `grid` computes: `auto`, `cpu`, `cuda`, `cuda:I`, `mps` or `xpu`."""
    seed: int = 0
    """Decides the folds that are made, and draws."""
    views: Sequence[str] = ()
    """Score the test images also under `flip` or `10crop`, extracted before: the probe reads the mean of a
    layer over the crops, which gives a linear one the mean of their scores. It is fitted on the centre
    all the same."""
    shots: Sequence[int] = ()
    """Fit also on so many training images of every class."""
    fractions: Sequence[float] = ()
    """Fit also on such shares of the training images of every class."""
    draws: int = 5
    """How often the images of `shots` and `fractions` are drawn."""
    project: int | None = None
    """Fit also on features projected to this many numbers, so that layers and networks of unlike width can
    be compared at one; narrower layers stay as they are."""
    repeats: int = 1
    """How many times to cross-validate, each on folds of its own: those of `seed`, of `seed` + 1 and so on.
    What is compared and drawn is the first; `repeats_table` has the mean of all."""
    quick: bool = False
    """A first look: ridge alone, on about six layers of each backbone, by their average."""
    share: str | None = None
    """`I/N`: fit every N-th layer whose results are not there, into files of their own, and nothing else;
    the same without it collects (see parts.py)."""
    on: str | None = None
    """`ray` or `ray:ADDRESS`: where layers are fitted (see features/machine/on_ray.py); None: here."""
    redo: bool = False
    """Fit again what is there."""
    clock: Callable[[float], str] = lambda seconds: f"{seconds:.0f} s"
    """Writes seconds in what is announced."""
    announce: Callable[[str], None] = lambda _: None
    """Called with a sentence on what takes time before the first fit."""
    progress: Callable[[int, int, ProbeJob | None], None] = lambda _done, _all, _job: None
    """Called with layers done, layers in all, and the one that is next."""

    def all_probes(self) -> Sequence[str]:
        """The probes to fit."""
        return QUICK if self.quick else self.probes

    def all_views(self) -> tuple[str, ...]:
        """The centre, and the views asked for."""
        return tuple(dict.fromkeys(("center", *self.views)))

    def __post_init__(self) -> None:
        """Refuse what no fit could be made with, whatever the study.

        Raises:
            InputError: An option has none of its values, or contradicts another.
        """
        if self.quick and tuple(self.probes) not in (DEFAULT, QUICK):
            raise OptionError("--quick: it fits ridge alone; leave out --probe, or --quick.")
        check_apart(self.share, self.on, redo=self.redo)
        for probe in self.probes:
            if probe not in METHODS:
                raise OptionError(f"--probe {probe}: not a probe; {nearest(probe, METHODS)}")
        scales = (*SCALES, "auto")
        if self.scale not in scales:
            raise OptionError(f"--scale {self.scale}: not a scaling; {nearest(self.scale, scales)}")
        if not 0 < self.tol < 1:
            raise OptionError(f"--tol {self.tol}: give a number between 0 and 1, such as {TOL:g}.")
        if self.memory is not None and not 0 < self.memory < inf:
            raise OptionError(f"--memory {self.memory}: give gigabytes, such as 2.")
        if self.tol != TOL and self.solver != "grid":
            raise OptionError("--tol: only --solver grid takes it; leave it out for sklearn.")
        if self.solver not in SOLVERS:
            raise OptionError(
                f"--solver {self.solver}: not a solver; {nearest(self.solver, SOLVERS)}"
            )
        if self.c is not None and not (self.c and all(0 < value < inf for value in self.c)):
            raise OptionError("--C: give positive numbers, such as 0.01,0.1,1.")
        if any(shots < 1 for shots in self.shots):
            raise OptionError(
                "--shots: give numbers of images per class from 1 up, such as 1,5,10."
            )
        if any(not 0 < fraction < 1 for fraction in self.fractions):
            raise OptionError(
                "--fractions: give shares of the training images between 0 and 1, such as 0.05,0.2,0.5."
            )
        if self.draws < 1:
            raise OptionError(f"--draws {self.draws}: give 1 or more.")
        if self.project is not None and self.project < 1:
            raise OptionError(f"--project {self.project}: give a number of features, such as 512.")
        if self.repeats < 1:
            raise OptionError(f"--repeats {self.repeats}: give 1 or more.")
        check_views(tuple(self.views))

"""How much work the folds of a fine-tune are, and how long that takes on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.images.views import VIEWS
from features.machine.device import device_name
from features.machine.spent import Spent, alone
from features.machine.spent_file import note_spent, read_spent
from probe.finetuning.fold_file import FoldResult
from probe.finetuning.job import FineTuneJob, FineTuneRun
from probe.finetuning.progress import inner_rows
from probe.folds.splits import Splits
from probe.training.recipes import Recipe, epochs_of

_FILE = "training-seconds.json"
_SCORED = 1 / 3
"""The work of scoring an image, where that of training on it is 1: a pass forward of three."""
_KEPT = 1000
"""Images that the seconds kept are of."""


@dataclass(frozen=True)
class TrainingKind:
    """What decides how long an image takes."""

    backbone: str
    variant: str
    device: str
    precision: str
    batch_size: int

    @property
    def name(self) -> str:
        """The kind as text, by which its seconds are kept."""
        return f"{self.backbone} {self.variant} {self.device} {self.precision} {self.batch_size}"


def kind_of(run: FineTuneRun, job: FineTuneJob) -> TrainingKind:
    """The kind of a result's training."""
    return TrainingKind(
        run.backbone.architecture.card.name,
        str(job.variant),
        device_name(run.feed.device),
        run.precision,
        run.recipe.batch_size,
    )


def most_work(
    recipe: Recipe, rates: Sequence[float], splits: Splits, fold: int, views: Sequence[str]
) -> float:
    """The most images that a fold trains on, those that it scores counted by their work."""
    rows = len(splits.training_rows(splits.tested(fold)))
    tests = _tests(splits, fold, views)
    if not (recipe.patience > 0 or len(rates) > 1):
        return epochs_of(recipe, rows) * rows + tests
    inner, scored = map(len, inner_rows(splits, fold))
    epochs = epochs_of(recipe, inner)
    length = epochs_of(recipe, inner if recipe.patience else rows)
    return len(rates) * epochs * (inner + _SCORED * scored) + length * rows + tests


def work_done(result: FoldResult, splits: Splits, views: Sequence[str]) -> float:
    """The images that a fold was trained on, those that it scored counted by their work."""
    work = len(result.whole) * result.n_train + _tests(splits, result.fold, views)
    if result.inner:
        inner, scored = map(len, inner_rows(splits, result.fold))
        work += len(result.inner) * (inner + _SCORED * scored)
    return work


def note(kind: TrainingKind, spent: Spent, work: float) -> None:
    """Remember what so much work took."""
    note_spent(_FILE, {kind.name: spent.times(_KEPT / work)})


def seconds_per_image(kind: TrainingKind) -> float | None:
    """Those of a trained image where nothing else runs; None where none of its kind was measured."""
    known = read_spent(_FILE)
    if kind.name not in known:
        return None
    return alone(known[kind.name], known.values()) / _KEPT


def alone_per_image(spent: Spent, images: int) -> float:
    """The seconds of an image where nothing else runs, of a batch that is not remembered."""
    return alone(spent, read_spent(_FILE).values()) / images


def _tests(splits: Splits, fold: int, views: Sequence[str]) -> float:
    tested = len(splits.held_out_rows(splits.tested(fold)))
    return _SCORED * tested * sum(VIEWS[view] for view in views)

"""Learning rates to choose from, and whether to choose where a fine-tune is not told.

The protocol of a result says which rates were tried. So that a result stays what it is whatever machine
goes on with it, what the study already holds decides first; the clock only where it holds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from features.errors import OptionError
from probe.counts import count
from probe.finetuning.commit import results_of
from probe.finetuning.first_batch import measure
from probe.finetuning.job import FineTuneJob, FineTuneRun
from probe.finetuning.progress import images_of
from probe.results.ledger import Ledger
from probe.training.recipes import Recipe

SEARCH = (1 / 3, 1.0, 3.0)
"""The recipe's rate times each of these is tried."""

_LONGEST = 3600.0  # seconds that all folds of a result may take with the search


def rates_of(recipe: Recipe) -> tuple[float, ...]:
    """The rates that a search tries."""
    return tuple(recipe.rate * times for times in SEARCH)


def searches(
    run: FineTuneRun, plain: Sequence[FineTuneJob], searched: Sequence[FineTuneJob], devices: int
) -> bool:
    """Whether to choose the rate: as the study's results do, else where it ends within an hour.

    A result that is there, or whose training has begun, is gone on with. Where there is none, batches are
    trained and timed, and thrown away.

    Args:
        run: The fine-tune, with the recipe's own rate.
        plain: Its results without a search.
        searched: The same with one.
        devices: How many train beside each other.
    """
    ledger = Ledger(run.study.folder)
    for jobs, choice in ((searched, True), (plain, False)):
        if any(_is_there(run, job, ledger) for job in jobs):
            return choice
    for jobs, choice in ((searched, True), (plain, False)):
        if any(job.folder.is_dir() for job in jobs):
            return choice
    if run.options.share is not None:
        raise OptionError(
            "--share: whether to choose the learning rate would be measured by every share for itself; say "
            "--search or --no-search."
        )
    images = max(
        images_of(replace(run, rates=rates_of(run.recipe)), job) for job in searched
    ) / min(devices, len(plain[0].splits.folds))
    seconds = images * measure(run, plain[0], images)
    if seconds > _LONGEST:
        run.options.announce(
            f"learning rate {run.recipe.rate:g}, the recipe's: to choose it of "
            f"{count(len(SEARCH), 'rate')} could take {_hours(seconds)} a result; --search does it"
        )
        return False
    run.options.announce(
        f"the learning rate is chosen of {count(len(SEARCH), 'rate')} on the inner part; --no-search "
        "takes the recipe's in half the time"
    )
    return True


def _is_there(run: FineTuneRun, job: FineTuneJob, ledger: Ledger) -> bool:
    made = results_of(run, job)
    return all(ledger.holds(key, under, job.splits.folds) for key, under in made.items())


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds < 36_000 else f"{seconds / 3600:.0f} hours"

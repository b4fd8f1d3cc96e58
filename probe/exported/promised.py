"""What a result of a study promises: its cross-validated accuracy, or error, over all its folds."""

from __future__ import annotations

import numpy as np

from features.errors import InputError
from features.study.study import Study
from probe.analysis.outcomes import Outcomes
from probe.exported.choice import ChosenResult
from probe.exported.number_promise import NumberPromise, number_promise_of
from probe.exported.promise import Promise, promise_of


def promised(study: Study, chosen: ChosenResult) -> Promise | NumberPromise:
    """The promise of a result.

    Raises:
        InputError: Its scores are missing, or are those of too few subjects for an interval.
    """
    outcomes = Outcomes(study, chosen.task, chosen.rows)
    name = chosen.rows[0].stored[1:]
    if not outcomes.has(name):
        raise InputError(
            f"{study.folder}: the scores of {chosen.name} are missing; run `probe fit --redo`."
        )
    worth = outcomes.worth(name)
    tested = ~np.isnan(worth)
    subjects = study.subjects[tested]
    measures = outcomes.measure(chosen.rows)
    if not outcomes.is_number:
        return promise_of(measures["accuracy"], worth[tested], subjects)
    error = measures["mae"]
    if not np.isfinite([error.value, error.low, error.high, error.effective]).all():
        raise InputError(
            f"{chosen.name}: its error has no interval, since too few subjects were tested, so that "
            "nothing can be promised; fit it on more."
        )
    unit = study.tasks[chosen.task].unit_words
    return number_promise_of(error, -worth[tested], subjects, unit)

"""Cross-validations that are made together: what they share, and what that costs."""

from dataclasses import replace

import numpy as np
import pytest
from studies import blobs

from features.arrays import Floats, Ints
from features.study.study import Study
from probe.fitting.crossval import cross_validate, search, together
from probe.fitting.fit import fit
from probe.fitting.job import ProbeJob
from probe.folds.splits import Splits
from probe.probes.layer import Source
from probe.probes.methods import GRID
from probe.probes.scorer import Shared
from probe.probes.settings import ProbeSettings


@pytest.mark.parametrize("scale", ["standard", "l2"])
def test_together_a_file_is_not_read_more_often_than_by_one_after_another(scale: str) -> None:
    """Two tasks of unlike folds and two probes: `l2` centres the rows of one of them."""
    x, y = blobs(80, 300, 3, 0.5)
    passes = 0

    def columns(start: int, stop: int) -> Floats:
        nonlocal passes
        passes += start == 0
        some: Floats = x[:, start:stop]
        return some

    def some_rows(rows: Ints) -> Floats:
        some: Floats = x[rows]
        return some

    def source() -> Source:
        return Source(80, 300, some_rows, columns, held=False)

    five, four = (Splits(np.arange(80) // 3 % k, np.arange(k)) for k in (5, 4))
    asked = [
        (splits, replace(ProbeSettings(method, "standard", GRID, True, "grid"), scale=scale))
        for splits in (five, four)
        for method in ("logistic", "svm")
    ]
    file, shared = source(), Shared()
    alone = [cross_validate(file, y, 3, splits, each, shared) for splits, each in asked]
    before, passes = passes, 0
    file, shared = source(), Shared()
    joined = together([search(file, y, 3, splits, each, shared) for splits, each in asked])
    assert passes <= before
    for a, b in zip(alone, joined, strict=True):
        assert [fold.value for fold in a.folds] == [fold.value for fold in b.folds]
        np.testing.assert_allclose(a.scores, b.scores, atol=0.02)


def test_probes_and_tasks_of_a_repeat_are_together(study: Study) -> None:
    """Two tasks and two probes on three layers, twice: six groups of four, a repeat at a time."""
    begun: list[tuple[int, int]] = []

    def look(done: int, _total: int, job: ProbeJob | None) -> None:
        if job is not None:
            begun.append((done, job.repeat))

    fit(study.folder, repeats=2, c=(1.0,), progress=look)
    assert begun == [(4 * i, i % 2) for i in range(6)]

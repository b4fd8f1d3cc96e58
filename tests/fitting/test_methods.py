"""A probe is one function and one record: what fits, writes and draws it reads the record."""

from collections.abc import Sequence

import numpy as np
import pytest

from features.arrays import Ints
from features.errors import InputError
from features.study.study import Study
from probe.analysis.curves import curves
from probe.exported.choice import chosen_results
from probe.fitting.fit import fit
from probe.folds.splits import Splits
from probe.probes.grid_fit import Scored
from probe.probes.layer import Source
from probe.probes.methods import DEFAULT, GRID, METHODS, Method
from probe.probes.scorer import HeldOut, Request, Scorer, Shared
from probe.probes.settings import ProbeSettings
from probe.results.metrics import kind_of


def centroids(
    source: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: ProbeSettings,
    shared: Shared,
    held_out: HeldOut | None,
) -> Scorer:
    """The nearest class mean, shrunk towards the mean of all by each value of the grid."""

    def score(requests: Sequence[Request]) -> list[list[Scored]]:
        results = []
        for request in requests:
            left, points = request.left, request.points
            rows = splits.training_rows(left)
            x = source.rows(rows)
            means = np.stack([x[y[rows] == c].mean(0) for c in range(classes)])
            z = source.rows((held_out or splits.held_out_rows)(left))
            near = [_near(z, settings.grid[p] * means, x.mean(0)) for p in points]
            made = [Scored(n, settings.grid[p]) for n, p in zip(near, points, strict=True)]
            results.append(request.judged(made))
        return results

    return score


def _near(z: np.ndarray, means: np.ndarray, middle: np.ndarray) -> np.ndarray:
    return -np.square(z[:, None] - middle - means).sum(2).astype(np.float32)


def test_a_probe_is_added_by_one_record(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Method(
        name="centroid",
        words="the nearest class mean",
        scorer=centroids,
        scores="margins",
        grid=(0.0, 1.0),
        scales=("none",),
        own_solver=lambda _: "numpy",
    )
    monkeypatch.setitem(METHODS, "centroid", record)
    fitted = fit(study.folder, probes=["centroid"], tasks=["label"])
    rows = [row for row in fitted.rows if row.method == "centroid" and row.layer == "high"]
    assert {(row.solver, row.scale, row.log_loss) for row in rows} == {("numpy", "none", None)}
    assert {row.C for row in rows} == {
        1.0
    }  # at 0 all classes are alike, so that it is never chosen
    assert np.mean([row.accuracy for row in rows]) > 0.6
    (task,) = curves(study)
    assert [panel.method for panel in task.panels] == ["centroid"]
    assert {best.method for best in task.best} == {"centroid"}
    with pytest.raises(InputError, match="a probe by the nearest class mean has no weights, so it"):
        chosen_results(study, "net/high/centroid")


def test_the_records_say_what_was_so_before_them() -> None:
    """Protocols hold names, grids and scalings, so that stored results depend on them."""
    assert tuple(METHODS) == ("logistic", "svm", "ridge", "knn")
    assert DEFAULT == ("logistic", "svm")
    assert tuple(np.logspace(-2, 4, 13)) == pytest.approx(GRID, rel=1e-15)
    assert METHODS["knn"].grid == (1, 5, 10, 20, 50, 100, 200)
    assert [name for name in METHODS if METHODS[name].is_linear] == ["logistic", "svm", "ridge"]
    assert [name for name in METHODS if METHODS[name].value_is_alpha] == ["ridge"]
    kinds = {name: kind_of(name) for name in (*METHODS, "majority", "finetune")}
    assert kinds == {
        "logistic": "logits", "svm": "margins", "ridge": "margins", "knn": "shares",
        "majority": "margins", "finetune": "logits",
    }  # fmt: skip

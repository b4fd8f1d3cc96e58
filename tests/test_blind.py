"""What `fit` chooses for a test fold is blind to that fold, and labels without meaning give chance."""

from pathlib import Path

import numpy as np
import pytest
import studies
from numpy.typing import NDArray

from probe.crossval import METHODS
from probe.fitting import fit
from probe.results import BEST, Row

N, FOLDS = 150, 5
Y = np.arange(N) % 3
FOLD = np.arange(N) // 3 % FOLDS
FIRST = FOLD == 0


def fitted(
    folder: Path, layers: dict[str, NDArray[np.float32]], y: NDArray[np.int64], scale: str
) -> list[Row]:
    study = studies.begin(folder, {"label": y}, fold=FOLD)
    studies.add(study, "net", layers)
    return fit(study.folder, probes=METHODS, scale=scale).rows


@pytest.mark.parametrize("scale", ["auto", "none"])
def test_garbage_in_a_test_fold_changes_no_choice_made_for_it(tmp_path: Path, scale: str) -> None:
    """Layer, C, k, scaling and inner score are the same to the bit."""
    layers = {"low": studies.signal(Y, 6, 0.5), "high": studies.signal(Y, 200, 0.2, seed=1)}
    drawn = np.random.default_rng(2)
    spoiled = {name: x.copy() for name, x in layers.items()}
    for x in spoiled.values():
        x[FIRST] = (1e3 * drawn.standard_normal(x[FIRST].shape)).astype(np.float32)
    lies = np.where(FIRST, (Y + 1) % 3, Y)
    before = fitted(tmp_path / "a", layers, Y, scale)
    after = fitted(tmp_path / "b", spoiled, lies, scale)

    def choices(rows: list[Row]) -> list[object]:
        return [
            (r.layer, r.method, r.chosen, r.C, r.scale, r.selection, r.at_edge, r.error)
            for r in rows
            if r.fold == 0
        ]

    assert choices(before) == choices(after)
    changed = [r.selection for r in before if r.fold == 1] != [
        r.selection for r in after if r.fold == 1
    ]
    assert changed  # the garbage is seen where it trains


def test_the_layer_is_not_chosen_by_the_test_fold(tmp_path: Path) -> None:
    """`spy` tells the labels of the first fold, and hardly those of its training rows."""
    clear, faint = studies.signal(Y, 8, 3.0), studies.signal(Y, 8, 0.3)
    layers = {
        "honest": studies.signal(Y, 8, 0.8, seed=1),
        "spy": np.where(FIRST[:, None], clear, faint).astype(np.float32),
    }
    rows = [row for row in fitted(tmp_path, layers, Y, "standard") if row.fold == 0]
    of = {(row.layer, row.method): row for row in rows}
    for method in METHODS:
        assert of["spy", method].accuracy > of["honest", method].accuracy
        assert of[BEST, method].chosen == "honest"


@pytest.mark.parametrize("scale", ["standard", "l2", "none"])
def test_shuffled_labels_give_chance(tmp_path: Path, scale: str) -> None:
    """Every probe and layer, narrower and wider than the rows, and the best layer among them."""
    y = np.random.default_rng(3).permutation(Y)
    layers = {
        f"layer{dim}": studies.signal(Y, dim, 1.0, seed=dim) for dim in (4, 40, 400)
    }  # which tell the labels before they were shuffled
    rows = fitted(tmp_path, layers, y, scale)
    band = 4 * (1 / 3 * 2 / 3 / N) ** 0.5
    for result in {row.result for row in rows}:
        found = [row for row in rows if row.result == result]
        mean = np.average([r.accuracy for r in found], weights=[r.n_test for r in found])
        assert abs(mean - 1 / 3) < band, result

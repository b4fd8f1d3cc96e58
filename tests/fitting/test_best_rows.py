"""The rows and scores that a fit stores: those of `best`, and those of a run that was killed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import studies
from numpy.typing import NDArray
from scored import check

from features.study.study import Study
from probe.fitting.fit import fit
from probe.results import predictions
from probe.results import rows as results
from probe.results.rows import BEST, Row


def two_layers(folder: Path) -> Study:
    x, y = studies.blobs(60, 4, 2, 0.7)
    study = studies.begin(folder, {"label": y})
    studies.add(study, "net", {"low": x, "high": studies.signal(y, 4, 0.5, 1)})
    return study


def die(*_: object) -> None:
    raise KeyboardInterrupt


def dies_second() -> Callable[[Path, list[Row]], None]:
    """Writes results.csv once, as before the scores are stored; killed when it is to be written again."""
    write = results.write
    times = iter([write])

    def once(file: Path, rows: list[Row]) -> None:
        next(times, die)(file, rows)

    return once


def test_killed_between_the_two_writes_and_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = two_layers(tmp_path / "study")
    with monkeypatch.context() as patch:
        patch.setattr(results, "write", die)
        with pytest.raises(KeyboardInterrupt):
            fit(study.folder, probes=("ridge",))
    assert (study.folder / "predictions").is_dir()
    assert not (study.folder / "results.csv").exists()
    done = fit(study.folder, probes=("ridge",))
    assert (done.fitted, done.kept) == (2, 0)
    check(study, results.read(study.folder / "results.csv"))


def test_killed_between_the_two_writes_of_another_protocol_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """results.csv must not speak of scores that are no longer there: they are made again."""
    study = two_layers(tmp_path / "study")
    fit(study.folder, probes=("ridge",))
    with monkeypatch.context() as patch:
        patch.setattr(results, "write", dies_second())
        with pytest.raises(KeyboardInterrupt):
            fit(study.folder, probes=("ridge",), c=[1e-9], scale="none")
    left = results.read(study.folder / "results.csv")
    assert {row.layer for row in left if row.method == "ridge"} <= {BEST}
    done = fit(study.folder, probes=("ridge",))
    assert (done.fitted, done.kept) == (2, 0)
    check(study, results.read(study.folder / "results.csv"))


def turncoats(folder: Path) -> Study:
    """Layer `vain` shows the label in folds 1 and 2 and lies in fold 0; `plain` shows it less, everywhere.

    Inside the training rows of fold 0 `vain` looks best, and it is wrong there.
    """
    y = np.arange(240) % 2
    fold = np.arange(240) // 2 % 3
    vain = studies.signal(np.where(fold == 0, 1 - y, y), 6, 3.0)
    plain = studies.signal(y, 6, 0.8, 1)
    study = studies.begin(folder, {"label": y}, fold=fold)
    studies.add(study, "net", {"plain": plain, "vain": vain})
    return study


def rows_by(rows: list[Row], layer: str) -> dict[int, Row]:
    return {row.fold: row for row in rows if row.layer == layer}


@pytest.mark.parametrize("method", ["logistic", "svm", "ridge", "knn"])
def test_best_is_chosen_by_the_inner_score_and_not_by_the_test(tmp_path: Path, method: str) -> None:
    study = turncoats(tmp_path / "study")
    rows = fit(study.folder, probes=(method,)).rows
    plain, vain, best = (rows_by(rows, layer) for layer in ("plain", "vain", BEST))
    assert vain[0].selection > plain[0].selection
    assert vain[0].accuracy < 0.2 < 0.6 < plain[0].accuracy
    assert best[0].chosen == "vain"
    assert best[0].accuracy == vain[0].accuracy
    for fold, row in best.items():
        of = {"plain": plain, "vain": vain}[row.chosen][fold]
        assert row.selection == max(plain[fold].selection, vain[fold].selection)
        assert replace(of, layer=BEST, pool="", depth=None, chosen=row.chosen) == row
    file = study.folder / "predictions"
    stored = predictions.read(file, ("label", "net", BEST, method))
    for fold, row in best.items():
        chosen = predictions.read(file, ("label", "net", row.chosen, method))
        here: NDArray[np.bool_] = stored.fold == fold
        np.testing.assert_array_equal(stored.scores[here], chosen.scores[here])
    check(study, rows)


def test_best_stays_the_same_when_nothing_is_fitted_again(tmp_path: Path) -> None:
    """Layers all but alike: the choice must not hang on the digits that results.csv keeps."""
    y = np.arange(120) % 2
    x = studies.signal(y, 5, 0.7)
    study = studies.begin(tmp_path / "study", {"label": y}, fold=np.arange(120) // 2 % 4)
    drawn = np.random.default_rng(1).standard_normal((4, *x.shape))
    layers = {f"l{i}": (x + 1e-5 * e).astype(np.float32) for i, e in enumerate(drawn)}
    studies.add(study, "net", layers)
    fit(study.folder, probes=("logistic",))
    files = [study.folder / name for name in ("results.csv", "predictions")]
    first = files[0].read_text()
    best = predictions.read(files[1], ("label", "net", BEST, "logistic"))
    assert fit(study.folder, probes=("logistic",)).fitted == 0
    assert files[0].read_text() == first
    again = predictions.read(files[1], ("label", "net", BEST, "logistic"))
    np.testing.assert_array_equal(again.scores, best.scores)
    np.testing.assert_array_equal(again.fold, best.fold)


def test_best_is_of_the_last_protocol(tmp_path: Path) -> None:
    """One layer fitted again with another C: `best` must not mix it with those left as they were."""
    study = two_layers(tmp_path / "study")
    fit(study.folder, probes=("ridge",))
    rows = fit(study.folder, probes=("ridge",), layers=("low",), c=[0.1]).rows
    low, best = rows_by(rows, "low"), rows_by(rows, BEST)
    assert {row.protocol for row in best.values()} == {low[0].protocol}
    assert {row.chosen for row in best.values()} == {"low"}


def test_best_compares_poolings_too(tmp_path: Path) -> None:
    y = np.arange(120) % 2
    study = studies.begin(tmp_path / "study", {"label": y})
    layers = {"c": studies.signal(y, 4, 0.1), "c:avg": studies.signal(y, 4, 3.0, 1)}
    studies.add(study, "net", layers)
    best = rows_by(fit(study.folder, probes=("ridge",)).rows, BEST)
    assert {(row.chosen, row.pool, row.depth) for row in best.values()} == {("c:avg", "", None)}

"""Nothing of a test fold, neither pixels nor labels, is seen by what is chosen or trained for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import studies
import toys
from numpy.typing import NDArray
from PIL import Image
from scipy import special

from features.extraction.extract import extract
from features.study.study import Study, open_study
from probe.fitting.fit import fit
from probe.results import predictions
from probe.results.rows import BEST, Row

PROBES = ("logistic", "svm", "ridge", "knn")
GRID = (0.001, 0.1, 10.0)
FOLDS, N, DIM = 3, 150, 12

Floats = NDArray[Any]
Ints = NDArray[np.int64]
FOLD = np.arange(N) % FOLDS


def layers_of(y: Ints) -> dict[str, Floats]:
    """Two layers, one of them pooled twice, alike in worth, so that another choice is soon made."""
    return {
        key: studies.signal(y, DIM, 0.5, seed)
        for seed, key in enumerate(("low", "high", "high:avg"))
    }


def study_of(folder: Path, layers: Mapping[str, Floats], y: Ints) -> Study:
    """A study in three folds of its own."""
    study = studies.begin(folder, {"label": y.tolist()}, fold=FOLD.tolist())
    studies.add(study, "net", layers)
    return study


def fitted(study: Study, scale: str = "auto") -> list[Row]:
    return fit(study.folder, probes=PROBES, scale=scale, c=GRID).rows


def training_side(rows: list[Row], fold: int) -> list[tuple[object, ...]]:
    """What stands in the rows of a fold that its training rows alone may decide."""
    return [
        (
            r.method,
            r.layer,
            r.pool,
            r.C,
            r.at_edge,
            r.scale,
            r.selection,
            r.chosen,
            r.n_train,
            r.seed,
        )
        for r in rows
        if r.fold == fold
    ]


def scores_of(study: Study, rows: list[Row], at: Ints) -> dict[tuple[str, ...], bytes]:
    """The scores of some images by every result, to the bit."""
    file = study.folder / "predictions"
    found = predictions.read_all(file, list({row.stored for row in rows}))
    return {key: one.scores[at].tobytes() for key, one in found.items()}


@pytest.mark.parametrize("fold", range(FOLDS))
def test_garbage_in_a_test_fold_leaves_everything_made_for_it_alike_to_the_bit(
    tmp_path: Path, fold: int
) -> None:
    """Features and labels of a test fold, all but the features of some rows in it.

    These rows are one more than there are features, so that their scores tell weights and bias; the
    scaler, C, the scaling, the layer and pooling, the inner score stand in the rows of the results.
    """
    y = np.random.default_rng(3).integers(0, 3, N)
    layers = layers_of(y)
    plain = study_of(tmp_path / "plain", layers, y)
    rows = fitted(plain)
    tested = np.flatnonzero(fold == FOLD)
    kept, spoiled = tested[: DIM + 1], tested[DIM + 1 :]
    drawn = np.random.default_rng(fold)
    garbage = {key: x.copy() for key, x in layers.items()}
    for x in garbage.values():
        x[spoiled] = 1e4 * drawn.standard_normal((len(spoiled), DIM)) + 1e5 * y[spoiled, None]
    lies = y.copy()
    lies[tested] = (y[tested] + 1 + np.arange(len(tested)) % 2) % 3
    spoilt = study_of(tmp_path / "spoilt", garbage, lies)
    again = fitted(spoilt)
    assert training_side(again, fold) == training_side(rows, fold)
    assert scores_of(spoilt, again, kept) == scores_of(plain, rows, kept)
    assert {r.layer for r in rows} == {"low", "high", BEST, "majority"}
    for other in set(range(FOLDS)) - {fold}:
        assert training_side(again, other) != training_side(rows, other)


def test_garbage_pixels_in_a_test_fold_leave_everything_made_for_it_alike(tmp_path: Path) -> None:
    """The same from image files on, through a network."""
    card = toys.write_card(tmp_path)
    manifest = toys.write_images(tmp_path / "data", 60)
    lines = manifest.read_text().splitlines()
    folds = [f"{line},{row % FOLDS}" for row, line in enumerate(lines[1:])]
    manifest.write_text("\n".join([f"{lines[0]},fold", *folds]) + "\n")
    drawn = np.random.default_rng(0)
    sides, scores = [], []
    for name in ("plain", "spoilt"):
        extract(tmp_path / name, str(card), data=str(manifest), layers=["act", "fc"])
        rows = fit(tmp_path / name, probes=PROBES, c=GRID).rows
        sides.append(training_side(rows, 1))
        scores.append(scores_of(open_study(tmp_path / name), rows, np.array([1, 4, 7])))
        for row in range(10, 60, FOLDS):  # of fold 1; the first three stay
            pixels = drawn.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / f"{row:04}.png")
    features = []
    for name in ("plain", "spoilt"):
        with h5py.File(next((tmp_path / name / "features").glob("*.h5"))) as file:
            features.append(file["layers/fc"][:])
    changed = (features[0] != features[1]).any(1)
    assert np.flatnonzero(changed).tolist() == list(range(10, 60, FOLDS))
    assert sides[0] == sides[1]
    assert scores[0] == scores[1]


# Of a split, so that test rows may be anything: a first cue is right on four in five training rows and
# says nothing of the test rows, a second is right on three in five, and on every test row.

TRAIN, TEST = 400, 200


def cues(seed: int) -> tuple[Ints, Floats, Floats]:
    """Labels of all rows, and the two cues, each -1 or 1."""
    drawn = np.random.default_rng(seed)
    y = np.arange(TRAIN + TEST) // 2 % 2
    t = 2.0 * y - 1
    test = np.arange(len(y)) >= TRAIN
    first = t * np.where(drawn.random(len(y)) < np.where(test, 0.5, 0.8), 1, -1)
    second = t * np.where(drawn.random(len(y)) < np.where(test, 1.0, 0.6), 1, -1)
    return y, first, second


def noise(columns: int, seed: int = 9) -> Floats:
    drawn = np.random.default_rng(seed)
    return 0.2 * drawn.standard_normal((TRAIN + TEST, columns)).astype(np.float32)


def split_study(folder: Path, y: Ints, layers: Mapping[str, Floats]) -> Study:
    split = ["train"] * TRAIN + ["test"] * TEST
    study = studies.begin(folder, {"label": y.tolist()}, split=split)
    studies.add(study, "net", {key: x.astype(np.float32) for key, x in layers.items()})
    return study


def accuracies(study: Study, layer: str, **options: Any) -> dict[str, float]:
    """Accuracy of each probe on the test rows."""
    rows = fit(study.folder, **{"probes": PROBES[:3], **options}).rows
    return {row.method: row.accuracy for row in rows if layer == row.layer}


def check_plant(proper: Mapping[str, float], with_test_rows: Mapping[str, float]) -> None:
    """The choice made inside is at chance, and the one that the test rows ask for is right."""
    for method, accuracy in proper.items():
        assert abs(accuracy - 0.5) < 3.5 * np.sqrt(0.25 / TEST), method
        assert with_test_rows[method] > 0.95, method


@pytest.mark.parametrize("second_key", ["other", "fc:avg"])
def test_a_layer_or_pooling_that_is_right_on_test_rows_alone_is_not_chosen(
    tmp_path: Path, second_key: str
) -> None:
    y, first, second = cues(0)
    layers = {"fc": np.c_[first, noise(3)], second_key: np.c_[second, noise(3)]}
    study = split_study(tmp_path / "both", y, layers)
    proper = accuracies(study, BEST, probes=PROBES)
    alone = split_study(tmp_path / "alone", y, {"fc": layers[second_key]})
    check_plant(proper, accuracies(alone, "fc", probes=PROBES))


def test_a_scaling_that_is_right_on_test_rows_alone_is_not_chosen(tmp_path: Path) -> None:
    """The first cue lies in the length of a row, which l2 takes away; the second in its direction."""
    y, first, second = cues(1)
    length = np.where(first > 0, 3.0, 1.0)[:, None]
    study = split_study(
        tmp_path / "study", y, {"fc": length * np.c_[1 + 0.1 * second, np.ones(len(y))]}
    )
    proper = accuracies(study, "fc", scale="auto", c=[0.1, 10, 1000])
    check_plant(proper, accuracies(study, "fc", scale="l2", c=[1000]))


def test_a_penalty_that_is_right_on_test_rows_alone_is_not_chosen(tmp_path: Path) -> None:
    """The first cue is a small difference of two columns, seen with little penalty only.

    The second is one of these columns itself, which a strong penalty follows.
    """
    y, first, second = cues(2)
    common = np.random.default_rng(0).standard_normal(len(y)) + 0.5 * second
    common[TRAIN:] = 3 * second[TRAIN:]
    study = split_study(tmp_path / "study", y, {"fc": np.c_[common + 0.02 * first, common]})
    proper = accuracies(study, "fc", c=[1e-6, 1e4])
    check_plant(proper, accuracies(study, "fc", c=[1e-6]))


def test_standardisation_sees_no_test_row(tmp_path: Path) -> None:
    """The column of the first cue is huge on test rows: an SD of all rows would shut it away."""
    y, first, second = cues(3)
    first[TRAIN:] *= 1e4
    layer = np.c_[first, second, noise(2)]
    study = split_study(tmp_path / "study", y, {"fc": layer})
    proper = accuracies(study, "fc", c=[0.01])
    by_all = split_study(tmp_path / "all", y, {"fc": (layer - layer.mean(0)) / layer.std(0)})
    check_plant(proper, accuracies(by_all, "fc", c=[0.01], scale="none"))


@pytest.mark.parametrize("scale", ["standard", "l2", "none", "auto"])
def test_shuffled_labels_are_at_chance_for_every_probe_layer_and_pooling(
    tmp_path: Path, scale: str
) -> None:
    """Features that tell other labels well, four layers of which one is pooled twice, and `best`.

    Every layer is within the binomial band of its 480 images, 99.9 % for all at once; all probes and
    layers together are within it too, as if they said the same.
    """
    drawn = np.random.default_rng(7)
    n, classes = 480, 4
    other, y = drawn.integers(0, classes, n), drawn.integers(0, classes, n)
    keys = {"low": 4, "middle": 40, "middle:avg": 12, "high": 600, "fc": 4}
    layers = {key: studies.signal(other, dim, 1.0, i) for i, (key, dim) in enumerate(keys.items())}
    study = studies.begin(tmp_path / "study", {"label": y.tolist()})
    studies.add(study, "net", layers)
    rows = fit(study.folder, probes=PROBES, scale=scale, c=[1e-3, 0.1]).rows
    pooled: dict[tuple[str, ...], list[float]] = {}
    for row in (row for row in rows if row.method in PROBES):
        pooled.setdefault((row.method, row.layer, row.pool), []).append(row.accuracy * row.n_test)
    assert len(pooled) == len(PROBES) * (len(keys) + 1)
    found = np.array([sum(right) / n for right in pooled.values()])
    chance = 1 / classes
    band = special.ndtri(1 - 0.0005 / len(pooled)) * np.sqrt(chance * (1 - chance) / n)
    assert np.abs(found - chance).max() < band, dict(zip(pooled, found, strict=True))
    assert abs(found.mean() - chance) < special.ndtri(0.9995) * np.sqrt(chance * (1 - chance) / n)

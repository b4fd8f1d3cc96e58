import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import probe.probes.linear
from probe.fitting import choosing
from probe.fitting.crossval import Outcome, cross_validate
from probe.folds.splits import Splits
from probe.probes import knn
from probe.probes.grid_fit import Scored
from probe.probes.layer import Source
from probe.probes.methods import GRID, METHODS
from probe.probes.scorer import Request, Scorer, Shared
from probe.probes.settings import ProbeSettings

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


COARSE = GRID[::4]


def settings(method: str, grid: tuple[float, ...] = COARSE, relative: bool = True) -> ProbeSettings:
    if method == "knn":
        return ProbeSettings("knn", "l2", METHODS["knn"].grid, False, knn.engine())
    return ProbeSettings(method, "standard", grid, relative, "grid")


def folds_of(n: int, folds: int) -> Splits:
    """Row i is tested in fold i % folds; two folds have three parts each."""
    if folds > 2:
        return Splits(np.arange(n) % folds, np.arange(folds))
    return Splits(np.arange(n) % 2 * 3 + np.arange(n) // 2 % 3, np.repeat([0, 1], 3))


def blobs(n: int, dim: int, classes: int, apart: float, seed: int = 0) -> tuple[Floats, Ints]:
    """Rows whose label has nothing to do with their number."""
    drawn = np.random.default_rng(seed)
    y = drawn.integers(0, classes, n)
    x = drawn.standard_normal((n, dim)) + apart * drawn.standard_normal((classes, dim))[y]
    return x.astype(np.float32), y


def accuracy(outcome: Outcome, y: Ints) -> float:
    return float((outcome.scores.argmax(1) == y).mean())


@pytest.mark.parametrize(("folds", "dim"), [(2, 200), (4, 12), (3, 200)])
@pytest.mark.parametrize("method", METHODS)
def test_labels_of_a_test_fold_change_nothing_about_it(method: str, dim: int, folds: int) -> None:
    x, y = blobs(120, dim, 3, 0.5)
    splits = folds_of(120, folds)
    made = cross_validate(x, y, 3, splits, settings(method))
    for fold in splits.folds:
        tested = splits.fold == fold
        lies = np.where(tested, (y + 1 + np.arange(120) % 2) % 3, y)
        again = cross_validate(x, lies, 3, splits, settings(method))
        assert again.folds[fold] == made.folds[fold]
        assert again.scores[tested].tobytes() == made.scores[tested].tobytes()
        assert again.scores.tobytes() != made.scores.tobytes()


@pytest.mark.parametrize("method", ["ridge", "knn"])
def test_of_many_folds_groups_choose_and_no_test_label_leaks(method: str) -> None:
    """The pairs of 40 folds would be 780 training sets; a fold's choice is its group's alone."""
    n = 120
    x, y = blobs(n, 6, 3, 0.7)
    splits = folds_of(n, 40)
    asked = [left for fold in splits.folds for _, left in splits.inner(fold)]
    assert len(set(asked)) == 45
    for fold in splits.folds:
        inner = list(splits.inner(fold))
        validated = np.concatenate([np.flatnonzero(splits.validating == part) for part, _ in inner])
        assert sorted(validated) == np.flatnonzero(splits.fold % 10 != fold % 10).tolist()
        for part, left in inner:
            trained = splits.training_rows(left)
            assert not np.isin(splits.fold[trained] % 10, [fold % 10]).any()
            assert not (splits.validating[trained] == part).any()
            assert len(trained) == n - n // 5
    made = cross_validate(x, y, 3, splits, settings(method))
    assert accuracy(made, y) > 0.5
    tested = splits.fold == 17
    lies = np.where(tested, (y + 1) % 3, y)
    again = cross_validate(x, lies, 3, splits, settings(method))
    assert again.folds[17] == made.folds[17]
    assert again.scores[tested].tobytes() == made.scores[tested].tobytes()
    assert again.scores.tobytes() != made.scores.tobytes()


def test_thirty_folds_choose_alone() -> None:
    splits = folds_of(90, 30)
    assert not splits.in_groups
    assert len({left for fold in splits.folds for _, left in splits.inner(fold)}) == 30 * 29 // 2


@pytest.mark.parametrize(("folds", "dim"), [(2, 200), (4, 12), (3, 200)])
@pytest.mark.parametrize("method", METHODS)
def test_features_of_a_test_fold_change_nothing_about_its_model(
    method: str, dim: int, folds: int
) -> None:
    """One test row is left as it was: the model scores it alike to the bit, whatever the others hold."""
    x, y = blobs(120, dim, 3, 0.5)
    splits = folds_of(120, folds)
    made = cross_validate(x, y, 3, splits, settings(method))
    for fold in splits.folds:
        kept, *spoiled = np.flatnonzero(splits.fold == fold)
        garbage = x.copy()
        drawn = np.random.default_rng(fold).standard_normal((len(spoiled), dim))
        garbage[spoiled] = 1e4 * drawn + 1e5 * y[spoiled, None]
        again = cross_validate(garbage, y, 3, splits, settings(method))
        assert again.folds[fold] == made.folds[fold]
        assert again.scores[kept].tobytes() == made.scores[kept].tobytes()
        assert not np.array_equal(again.scores[spoiled], made.scores[spoiled])


@pytest.mark.parametrize("method", METHODS)
def test_rows_that_take_no_part_are_not_looked_at(method: str) -> None:
    x, y = blobs(130, 10, 3, 0.5)
    splits = folds_of(130, 4)
    splits.part[::13] = -1
    with_garbage, without = x.copy(), x.copy()
    with_garbage[::13] = np.nan
    labels = y.copy()
    labels[::13] = -1
    a = cross_validate(without, y, 3, splits, settings(method))
    b = cross_validate(with_garbage, labels, 3, splits, settings(method))
    assert a.folds == b.folds
    assert np.isnan(a.scores[::13]).all()
    assert np.isfinite(np.delete(a.scores, np.s_[::13], axis=0)).all()
    assert a.scores.tobytes() == b.scores.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_a_label_seen_only_with_the_test_rows_does_not_help(method: str) -> None:
    """Feature f is the label in fold f and 0 elsewhere: dead on the very rows that train for fold f.

    Whoever fits, selects or scales with the test rows' labels in view would be right everywhere.
    """
    x, y = blobs(600, 6, 2, 0.0, seed=4)
    splits = folds_of(600, 5)
    planted = np.zeros((600, 5), dtype=np.float32)
    planted[np.arange(600), splits.fold] = 2 * y - 1
    found = accuracy(cross_validate(np.c_[x, planted], y, 2, splits, settings(method)), y)
    assert abs(found - 0.5) < 3.5 * np.sqrt(0.25 / 600)


@pytest.mark.parametrize("folds", [2, 5])
@pytest.mark.parametrize("method", METHODS)
def test_shuffled_labels_give_chance(method: str, folds: int) -> None:
    """160 rows and 200 features: any choice made with the test labels in view would find some."""
    classes, n, seeds = 4, 160, 4
    right = 0.0
    for seed in range(seeds):
        x, _ = blobs(n, 200, classes, 1.0, seed)
        y = np.random.default_rng([seed, 1]).integers(0, classes, n)
        right += accuracy(cross_validate(x, y, classes, folds_of(n, folds), settings(method)), y)
    band = 3.5 * np.sqrt(0.25 * 0.75 / (n * seeds))
    assert abs(right / seeds - 0.25) < band


@pytest.mark.parametrize("folds", [2, 5])
@pytest.mark.parametrize("method", METHODS)
def test_classes_far_apart_are_all_right(method: str, folds: int) -> None:
    x, y = blobs(100, 20, 3, 6.0)
    made = cross_validate(x, y, 3, folds_of(100, folds), settings(method))
    assert accuracy(made, y) == 1
    assert all(fold.converged for fold in made.folds)


def nested_by_hand(
    method: str, x: Floats, y: Ints, splits: Splits, grid: tuple[float, ...]
) -> tuple[list[float], list[float], Ints]:
    """C, inner score and predictions of a nested cross-validation by scikit-learn alone."""
    model = {
        "logistic": LogisticRegression(tol=1e-7, max_iter=10_000),
        "svm": LinearSVC(dual=False, tol=1e-8, max_iter=100_000),
    }[method]
    name = type(model).__name__.lower()
    chosen, inner, said = [], [], np.full(len(y), -1)
    for fold in splits.folds:
        train, test = np.flatnonzero(splits.fold != fold), np.flatnonzero(splits.fold == fold)
        search = GridSearchCV(
            make_pipeline(StandardScaler(), model),
            {f"{name}__C": list(grid)},
            scoring="neg_log_loss" if method == "logistic" else "accuracy",
            cv=LeaveOneGroupOut(),
        )
        search.fit(x[train].astype(np.float64), y[train], groups=splits.part[train])
        chosen.append(search.best_params_[f"{name}__C"])
        inner.append(search.best_score_)
        said[test] = search.predict(x[test].astype(np.float64))
    return chosen, inner, said


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("folds", [2, 4])
@pytest.mark.parametrize("method", ["logistic", "svm"])
def test_the_choice_is_that_of_a_nested_cross_validation(
    method: str, folds: int, classes: int
) -> None:
    """Parts of one size, so that scikit-learn's mean of parts is the mean over rows."""
    x, y = blobs(120, 8, classes, 0.6, seed=3)
    splits, grid = folds_of(120, folds), (0.0003, 0.01, 0.3)
    made = cross_validate(x, y, classes, splits, settings(method, grid, relative=False))
    chosen, inner, said = nested_by_hand(method, x, y, splits, grid)
    assert [fold.value for fold in made.folds] == chosen
    assert [fold.selection for fold in made.folds] == pytest.approx(inner, abs=1e-3)
    first, second = np.sort(made.scores, axis=1)[:, :-3:-1].T
    clear = first - second > 0.02
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(made.scores.argmax(1)[clear], said[clear])


def test_parts_of_unlike_size_count_by_their_rows() -> None:
    """Fits that only choose C end a little before their optimum: so far off may a mean loss be."""
    x, y = blobs(150, 8, 2, 0.5, seed=1)
    part = np.repeat(np.arange(4), [90, 30, 20, 10])
    splits = Splits(part, np.arange(4))
    grid = (0.001, 0.03, 1.0)
    made = cross_validate(x, y, 2, splits, settings("logistic", grid, relative=False))
    for fold in made.folds:
        losses = np.zeros((3, 150))
        for inner in set(range(4)) - {fold.fold}:
            train, away = (part != fold.fold) & (part != inner), part == inner
            for i, c in enumerate(grid):
                model = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8))
                p = model.fit(x[train], y[train]).predict_proba(x[away])
                losses[i, away] = -np.log(p[np.arange(len(p)), y[away]])
        mean = losses[:, part != fold.fold].mean(1)
        assert fold.value == grid[int(mean.argmin())]
        assert fold.selection == pytest.approx(-mean.min(), abs=3e-4)


def test_knn_chooses_k_as_a_nested_cross_validation_does() -> None:
    x, y = blobs(360, 8, 3, 0.6, seed=2)
    splits = folds_of(360, 4)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    made = cross_validate(x, y, 3, splits, settings("knn"))

    def right(train: NDArray[np.bool_], away: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
        model = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
        )
        return np.asarray(model.fit(unit[train], y[train]).predict(unit[away]) == y[away])

    for fold in made.folds:
        grid = [k for k in map(int, METHODS["knn"].grid) if k <= 180]
        mean = []
        for k in grid:
            parts = [p for p in range(4) if p != fold.fold]
            ok = [right(~np.isin(splits.part, (p, fold.fold)), splits.part == p, k) for p in parts]
            mean.append(np.concatenate(ok).mean())
        assert fold.selection == pytest.approx(max(mean), abs=0.01)
        assert mean[grid.index(int(fold.value))] >= max(mean) - 0.01
        tested = splits.part == fold.fold
        ok = made.scores[tested].argmax(1) == y[tested]
        assert (ok == right(~tested, tested, int(fold.value))).mean() > 0.97


@pytest.mark.parametrize("method", METHODS)
def test_the_selection_of_an_inner_set_is_measured_on_its_own_part(method: str) -> None:
    """A part that nothing can predict drags its inner score down, and no other fold's choice of rows."""
    x, y = blobs(400, 8, 2, 2.0, seed=5)
    splits = folds_of(400, 4)
    y = np.where(splits.part == 2, np.random.default_rng(0).integers(0, 2, 400), y)
    made = {f.fold: f.selection for f in cross_validate(x, y, 2, splits, settings(method)).folds}
    assert made[2] == max(made.values())  # alone in not validating on part 2
    if method != "logistic":
        assert made[2] > 0.95
        assert made[0] < 0.9


def test_the_strongest_penalty_wins_among_equals() -> None:
    x, y = blobs(60, 4, 2, 30.0)
    made = cross_validate(x, y, 2, folds_of(60, 3), settings("svm"))
    assert {fold.at_edge for fold in made.folds} == {True}
    unit = 4  # mean squared length of standardised rows
    assert [fold.value for fold in made.folds] == pytest.approx([COARSE[0] / unit] * 3)


def test_edges_and_one_point_grids() -> None:
    x, y = blobs(120, 8, 2, 0.5)

    def edges(grid: tuple[float, ...]) -> set[bool]:
        made = cross_validate(x, y, 2, folds_of(120, 4), settings("logistic", grid, False))
        return {fold.at_edge for fold in made.folds}

    assert edges((1e-6, 1e-5)) == {True}
    assert edges((1e2, 1e3, 1e4)) == {True}
    assert edges((1e-9, 0.3, 1e4)) == {False}
    assert edges((1.0,)) == {False}


def test_counts_of_rows() -> None:
    x, y = blobs(101, 5, 2, 1.0)
    part = np.arange(101) % 3
    part[:7] = -1
    made = cross_validate(x, y, 2, Splits(part, np.arange(3)), settings("ridge"))
    for fold in made.folds:
        assert fold.n_test == (part == fold.fold).sum()
        assert fold.n_train == ((part >= 0) & (part != fold.fold)).sum()


def test_the_same_bits_twice_and_with_shared_training_sets() -> None:
    """Also with what the probes before have left among the shared sets."""
    x, y = blobs(80, 20, 3, 0.5)
    splits = folds_of(80, 4)
    store = Shared()
    for method in METHODS:
        first = cross_validate(x, y, 3, splits, settings(method))
        again = cross_validate(x, y, 3, splits, settings(method), store)
        assert first.folds == again.folds
        assert first.scores.tobytes() == again.scores.tobytes()


def test_sets_made_from_a_file_are_kept_while_there_is_room_and_give_the_same() -> None:
    """Two probes need the ten sets that leave two folds out and the five that leave out one."""
    x, y = blobs(80, 300, 3, 0.5)
    splits, passes = folds_of(80, 5), 0

    def columns(start: int, stop: int) -> Floats:
        nonlocal passes
        passes += start == 0
        return x[:, start:stop]

    def source() -> Source:
        return Source(80, 300, lambda rows: x[rows], columns, held=False, width=128)

    whole = {m: cross_validate(x, y, 3, splits, settings(m, GRID)) for m in ("logistic", "svm")}
    # Room for all: one pass for choosing, one for the refits. No room: a pass for each set, or as before.
    for limit, memory, expected in ((1 << 21, 0, (2, 2)), (0, 0, (15, 30)), (0, 1 << 30, (2, 4))):
        file, store, passes = source(), Shared(limit), 0
        file.memory = memory
        for method, wanted in zip(whole, expected, strict=True):
            made = cross_validate(file, y, 3, splits, settings(method, GRID), store)
            assert passes == wanted
            assert [f.value for f in made.folds] == [f.value for f in whole[method].folds]
            np.testing.assert_allclose(made.scores, whole[method].scores, atol=0.02)
    assert len(store.sets) == 0


def test_sets_of_other_splits_make_room() -> None:
    x, y = blobs(80, 300, 3, 0.5)
    store = Shared(5 << 18)  # of 15 sets of 5 folds, or those of 4 folds, but not both
    file = Source(80, 300, lambda rows: x[rows], lambda a, b: x[:, a:b], held=False)
    for folds, sets in ((5, 15), (4, 10), (5, 15)):
        cross_validate(file, y, 3, folds_of(80, folds), settings("svm"), store)
        assert len(store.sets) == sets
        assert len({key[0] for key in store.sets}) == 1


@pytest.mark.parametrize("scale", ["standard", "l2", "none"])
def test_shared_training_sets_keep_scalings_and_folds_apart(scale: str) -> None:
    x, y = blobs(120, 10, 3, 0.5)
    x += 3
    store = Shared()
    for folds in (4, 3):
        for method in ("logistic", "svm", "ridge"):
            asked = replace(settings(method), scale=scale)
            alone = cross_validate(x, y, 3, folds_of(120, folds), asked)
            together = cross_validate(x, y, 3, folds_of(120, folds), asked, store)
            assert alone.folds == together.folds
            assert alone.scores.tobytes() == together.scores.tobytes()


def test_a_class_that_inner_training_lacks() -> None:
    """Class 2 is in two folds alone: leaving both out, nothing can be learnt about it."""
    x, y = blobs(120, 6, 2, 2.0)
    splits = folds_of(120, 4)
    y = np.where((np.arange(120) % 12 == 0) | (np.arange(120) % 12 == 5), 2, y)
    assert set(splits.fold[y == 2]) == {0, 1}
    for method in METHODS:
        made = cross_validate(x, y, 3, splits, settings(method))
        assert np.isfinite([fold.selection for fold in made.folds]).all()
        assert np.isfinite(made.scores).all()


@pytest.mark.parametrize("solver", ["grid", "sklearn"])
@pytest.mark.parametrize("method", ["logistic", "svm", "ridge"])
def test_an_inner_training_set_of_one_class(method: str, solver: str) -> None:
    x, _ = blobs(90, 6, 2, 2.0)
    splits = folds_of(90, 3)
    y = ((splits.fold < 2) & (np.arange(90) // 3 % 2 == 0)).astype(np.int64)
    made = cross_validate(x, y, 2, splits, replace(settings(method), solver=solver))
    assert np.isfinite(made.scores).all()


def test_scikit_learn_that_does_not_converge_is_marked_and_stays_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its warnings come from several threads at once, and the filters are the whole process's."""
    monkeypatch.setattr(probe.probes.linear, "MAX_ITER", 2)
    x, y = blobs(400, 40, 4, 0.5)
    before = list(warnings.filters)
    for method in ("logistic", "svm"):
        made = cross_validate(
            x, y, 4, folds_of(400, 5), replace(settings(method, GRID[-2:]), solver="sklearn")
        )
        assert not any(fold.converged for fold in made.folds)
        assert list(warnings.filters) == before


def test_the_log_loss_of_a_choice_is_scikit_learns() -> None:
    x, y = blobs(120, 8, 3, 0.6, seed=3)
    splits = folds_of(120, 4)
    fold = cross_validate(x, y, 3, splits, settings("logistic", (0.1,), relative=False)).folds[1]
    exact = x.astype(np.float64)
    p = np.zeros((120, 3))
    for part in (0, 2, 3):
        train, away = ~np.isin(splits.part, (1, part)), splits.part == part
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8))
        p[away] = model.fit(exact[train], y[train]).predict_proba(exact[away])
    rows = splits.part != 1
    assert -fold.selection == pytest.approx(sklearn_log_loss(y[rows], p[rows]), abs=1e-4)


def test_neighbours_without_scaling_are_euclidean_and_indifferent_to_units() -> None:
    """Features moved and stretched alike give the same votes; cosine does not."""
    y = np.arange(120) % 3
    x = (np.random.default_rng(0).normal(size=(120, 8)) + y[:, None] + 5).astype(np.float32)
    splits = Splits(np.arange(120) // 3 % 4, np.arange(4))
    grid = METHODS["knn"].grid
    found = {
        (scale, moved): cross_validate(
            (3 * x - 7 if moved else x).astype(np.float32),
            y, 3, splits, ProbeSettings("knn", scale, grid, False, knn.engine()),
        ).scores
        for scale in ("none", "l2") for moved in (False, True)
    }  # fmt: skip
    np.testing.assert_allclose(found["none", True], found["none", False], atol=1e-4)
    assert np.abs(found["l2", True] - found["l2", False]).max() > 0.01


def test_one_image_far_off_does_not_hold_a_path_on() -> None:
    """Of 400 images all lose a little beyond the best point and one loses hugely: the path ends."""
    truth = np.arange(400) % 2
    sign = np.where(truth == 1, 1, -1)[:, None] * np.array([-1, 1])

    def at(margin: float, far: float) -> np.ndarray:
        scores = (margin * sign).astype(np.float32)
        scores[0] *= far
        return choosing._smooth(scores, truth)

    rng = np.random.default_rng(0)
    noise = 0.05 * rng.standard_normal(400)
    path = [at(0.5, 1), at(0.8, 1), at(0.6, -300) + noise, at(0.5, -600) + noise]
    assert choosing._overfits(path)
    assert not choosing._overfits(path[:2])


@pytest.mark.parametrize("method", METHODS)
def test_scores_by_which_a_point_is_chosen_are_not_kept(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, kept = METHODS[method], []

    def scorer(*given: Any) -> Scorer:
        score = record.scorer(*given)

        def watched(requests: Sequence[Request]) -> list[list[Scored]]:
            made = score(requests)
            kept.append(sum(point.scores.nbytes for points in made for point in points))
            return made

        return watched

    monkeypatch.setitem(METHODS, method, replace(record, scorer=scorer))
    x, y = blobs(60, 12, 3, 0.5)
    cross_validate(x, y, 3, folds_of(60, 3), settings(method))
    assert kept == [0] * (len(kept) - 1) + [4 * 3 * 60]  # those of the test folds are

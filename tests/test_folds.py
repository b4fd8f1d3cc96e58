import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from features.data.manifest import Manifest
from features.data.tasks import Task
from features.errors import InputError
from features.study.drafting import draft
from features.study.study import Study
from probe.folds.given import training_of
from probe.folds.left_out import left_out_sentences
from probe.folds.make_splits import make_splits
from probe.folds.splits import Splits, Unfit
from probe.folds.stratified import QuickStratifiedGroupKFold

Ints = NDArray[np.int64]

MANY = [1_000_000, 0]
"""Rows from which subjects are dealt out; the same laws hold of them."""


def study_of(
    labels: list[str],
    subjects: list[str] | None = None,
    folds: list[str] | None = None,
    use: list[str] | None = None,
    split: list[str] | None = None,
) -> Study:
    columns = {"path": [f"{i}.jpg" for i in range(len(labels))], "label": labels}
    more = {"subject": subjects, "fold": folds, "use": use, "split": split}
    columns |= {name: values for name, values in more.items() if values is not None}
    task = Task("label", tuple(sorted(set(labels) - {""})))
    return draft(Path("study"), Manifest("here", Path(), columns, {"label": task}))


def split(
    study: Study,
    folds: int | None = None,
    seed: int = 0,
    readable: NDArray[np.bool_] | None = None,
) -> Splits:
    seen = np.ones(len(study), dtype=bool) if readable is None else readable
    return make_splits(study, study.tasks["label"], seen, folds, seed)


def people(n: int, per: int = 4, classes: int = 3, seed: int = 0) -> tuple[list[str], list[str]]:
    """Labels and subjects of `n` people with 1 to `2 per` images each, all of one class."""
    drawn = np.random.default_rng(seed)
    labels, subjects = [], []
    for person in range(n):
        images = int(drawn.integers(1, 2 * per))
        labels += [f"c{person % classes}"] * images
        subjects += [f"p{person}"] * images
    return labels, subjects


def check(splits: Splits, subjects: Ints) -> None:
    """The laws of every cross-validation: parts partition, subjects on one side, tests once."""
    tested = splits.part >= 0
    assert (splits.fold[tested] >= 0).all()
    assert (splits.fold[~tested] == -1).all()
    for fold in splits.folds:
        held = splits.held_out_rows(splits.tested(fold))
        np.testing.assert_array_equal(held, np.flatnonzero(splits.fold == fold))
        train = splits.training_rows(splits.tested(fold))
        assert len(held)
        assert len(train)
        assert not set(subjects[held]) & set(subjects[train])
        np.testing.assert_array_equal(np.sort(np.r_[held, train]), np.flatnonzero(tested))
        validated = []
        for part, left_out in splits.inner(fold):
            inner = splits.training_rows(left_out)
            away = np.flatnonzero(splits.part == part)
            assert part not in splits.tested(fold)
            assert splits.tested(fold) < left_out
            assert len(inner)
            assert len(away)
            assert not set(subjects[inner]) & (set(subjects[away]) | set(subjects[held]))
            assert not set(inner) & set(held)
            validated += away.tolist()
        assert sorted(validated) == train.tolist()


@pytest.mark.parametrize("folds", [2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(3))
def test_a_subject_is_on_one_side_of_every_split(folds: int, seed: int) -> None:
    labels, subjects = people(40, seed=seed)
    study = study_of(labels, subjects)
    splits = split(study, folds, seed)
    assert list(splits.folds) == list(range(folds))
    check(splits, study.subjects)
    assert (splits.part >= 0).all()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_given_folds_are_kept(count: int) -> None:
    labels, subjects = people(40)
    fold = [f"fold {int(name[1:]) // 3 % count}" for name in subjects]
    study = study_of(labels, subjects, fold)
    splits = split(study)
    np.testing.assert_array_equal(splits.fold, [int(name[-1]) for name in fold])
    check(splits, study.subjects)
    np.testing.assert_array_equal(split(study, count, seed=4).fold, splits.fold)


def test_two_folds_are_three_parts_each() -> None:
    labels, subjects = people(30)
    study = study_of(labels, subjects)
    splits = split(study, 2)
    assert splits.fold_of_part.tolist() == [0, 0, 0, 1, 1, 1]
    assert splits.tested(1) == {3, 4, 5}
    assert list(splits.inner(0)) == [(p, frozenset({0, 1, 2, p})) for p in (3, 4, 5)]


def test_five_folds_are_their_own_parts() -> None:
    labels, subjects = people(30)
    splits = split(study_of(labels, subjects))
    assert splits.fold_of_part.tolist() == [0, 1, 2, 3, 4]
    assert list(splits.inner(2)) == [(p, frozenset({2, p})) for p in (0, 1, 3, 4)]


def test_images_without_a_subject_stand_alone() -> None:
    labels = ["a", "b"] * 20
    study = study_of(labels, ["", "", "x", "x", "x"] * 8)
    splits = split(study)
    check(splits, study.subjects)
    assert len(set(splits.part[[i for i in range(40) if i % 5 > 1]])) == 1
    study = study_of(labels)
    check(split(study), study.subjects)


def test_a_subject_across_given_folds_is_refused() -> None:
    labels, subjects = ["a", "b"] * 6, ["u", "v", "w", "x", "y", "z"] * 2
    fold = ["0", "1", "2", "0", "1", "2", "0", "1", "2", "0", "1", "0"]
    with pytest.raises(InputError, match=r"images\.csv: 1 subjects .* \(first: z\)"):
        split(study_of(labels, subjects, fold))
    fold[11] = "2"
    check(split(study_of(labels, subjects, fold)), study_of(labels, subjects, fold).subjects)


def test_a_copy_in_another_fold_that_takes_no_part_is_let_through() -> None:
    labels, subjects = ["a", "b"] * 6, ["u", "v", "w", "x", "y", "z"] * 2
    fold = ["0", "1", "2", "0", "1", "2", "0", "1", "2", "0", "1", "0"]
    study = study_of(labels, subjects, fold, ["1"] * 11 + ["0"])
    splits = split(study)
    check(splits, study.subjects)
    assert splits.part[11] == splits.fold[11] == -1


def test_rows_without_label_or_features_take_no_part() -> None:
    labels, subjects = people(30)
    labels[3] = ""
    study = study_of(labels, subjects)
    readable = np.ones(len(labels), dtype=bool)
    readable[7] = False
    splits = split(study, readable=readable)
    assert np.flatnonzero(splits.part < 0).tolist() == [3, 7]
    check(splits, study.subjects)
    with pytest.raises(InputError, match="no image with a label has features"):
        split(study, readable=np.zeros(len(labels), dtype=bool))
    study.used[:] = False
    with pytest.raises(InputError, match="no image with a label takes part"):
        split(study)


@pytest.mark.parametrize(
    ("fold", "sentence"),
    [
        (["0", "1", ""] * 8, "some rows have a fold and some have none"),
        (["7"] * 24, "all rows are in fold 7"),
    ],
)
def test_given_folds_that_are_no_folds(fold: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        split(study_of(["a", "b"] * 12, folds=fold))


def test_another_number_than_the_given_folds_is_refused() -> None:
    study = study_of(["a", "b"] * 12, folds=["0", "1", "2", "1", "2", "0"] * 4)
    with pytest.raises(InputError, match=r"--folds 5: .* 3 folds of its own"):
        split(study, 5)


def test_fewer_subjects_than_folds() -> None:
    labels, subjects = people(4)
    study = study_of(labels, subjects)
    with pytest.raises(InputError, match=r"4 subjects are fewer than 5 folds; use --folds 4"):
        split(study)
    with pytest.raises(InputError, match="all images are of one subject"):
        split(study_of(["a", "b"] * 5, ["me"] * 10))
    with pytest.raises(InputError, match=r"--folds 1: .* two folds or more"):
        split(study, 1)


def test_advice_that_is_followed_is_not_given_again() -> None:
    """Four people make two folds of two; whatever is said then, it is not to use two folds."""
    labels, subjects = people(4, classes=2)
    study = study_of(labels, subjects)
    try:
        splits = split(study, 2)
    except InputError as error:
        assert "--folds 2 " not in str(error)  # noqa: PT017
    else:
        check(splits, study.subjects)


def test_one_subject_alone_in_the_other_fold_is_refused() -> None:
    """Of two people each is a test fold once; nobody is left to choose C on."""
    study = study_of(["a", "b"] * 6, ["u", "u", "v", "v"] * 3)
    with pytest.raises(InputError, match="subject"):
        split(study, 2)


def test_folds_serve_all_tasks_alike_where_labels_allow() -> None:
    labels, subjects = people(40, classes=2)
    other = ["yes" if int(name[1:]) % 4 < 2 else "no" for name in subjects]
    columns = {"path": [str(i) for i in range(len(labels))], "label": labels, "other": other}
    study = draft(Path("study"), Manifest("here", Path(), columns | {"subject": subjects}))
    readable = np.ones(len(study), dtype=bool)
    first, second = (make_splits(study, task, readable, 5, 0) for task in study.tasks.values())
    np.testing.assert_array_equal(first.part, second.part)
    check(first, study.subjects)
    other[0] = other[-1] = ""  # too rare a combination to spread
    study = draft(Path("study"), Manifest("here", Path(), columns | {"subject": subjects}))
    for name, task in study.tasks.items():
        splits = make_splits(study, task, readable, 5, 0)
        check(splits, study.subjects)
        np.testing.assert_array_equal(splits.part >= 0, study.labels(name) >= 0)


def test_a_class_of_one_fold_alone_takes_no_part() -> None:
    labels = ["a", "b"] * 12
    fold = ["0", "1", "2"] * 8
    labels[4] = labels[7] = "rare"
    assert fold[4] == fold[7] == "1"
    study = study_of(labels, folds=fold)
    splits = split(study)
    check(splits, study.subjects)
    assert np.flatnonzero(splits.part < 0).tolist() == [4, 7]
    assert left_out_sentences(study, study.tasks["label"], splits) == [
        "label: all images of the class 'rare' are in one fold, so nothing can be learnt about it there; "
        "2 images are left out of this task"
    ]
    labels[5] = "rare"
    check(split(study_of(labels, folds=fold)), np.arange(24))


def test_a_task_that_would_keep_one_class_is_unfit() -> None:
    labels, fold = ["a"] * 9 + ["b", "b", "c"], ["0", "1", "2"] * 4
    labels[10] = "a"
    assert fold[9] != fold[11]
    with pytest.raises(
        Unfit, match=r"all images of the class 'b' are in fold 0, so nothing can be"
    ):
        split(study_of(labels, folds=fold))


def test_a_class_of_one_subject_alone_takes_no_part() -> None:
    labels, subjects = people(20)
    labels = [
        "rare" if name == "p3" else label for name, label in zip(subjects, labels, strict=True)
    ]
    study = study_of(labels, subjects)
    splits = split(study)
    check(splits, study.subjects)
    assert splits.too_small == (study.tasks["label"].classes.index("rare"),)
    np.testing.assert_array_equal(splits.part < 0, np.array(labels) == "rare")


def test_images_of_one_class_are_refused() -> None:
    study = study_of(["a", "b"] * 12)
    with pytest.raises(InputError, match="all images with features are of the class 'a'"):
        split(study, readable=np.array([True, False] * 12))


@pytest.mark.parametrize("many", MANY)
def test_a_class_with_fewer_images_than_folds_is_split_in_silence(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning of scikit-learn's would reach the user, who is told in our words or not at all."""
    monkeypatch.setattr(sys.modules["probe.folds.make_splits"], "_MANY", many)
    labels = ["a", "b"] * 20 + ["rare"] * 3
    study = study_of(labels)
    splits = split(study)
    check(splits, study.subjects)
    assert len(set(splits.fold[-3:])) > 1


@pytest.mark.parametrize("many", MANY)
@pytest.mark.parametrize("folds", [2, 5])
def test_classes_are_spread_evenly(folds: int, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["probe.folds.make_splits"], "_MANY", many)
    labels, subjects = people(200 if many else 1_000, per=3, classes=4)
    study = study_of(labels, subjects)
    splits = split(study, folds)
    y = study.labels("label")
    whole = np.bincount(y) / len(y)
    for fold in splits.folds:
        here = np.bincount(y[splits.fold == fold], minlength=4)
        assert np.abs(here / here.sum() - whole).max() < 0.05
        assert abs(here.sum() / len(y) - 1 / folds) < 0.05


@pytest.mark.parametrize("many", MANY)
def test_a_seed_repeats_and_another_gives_other_folds(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["probe.folds.make_splits"], "_MANY", many)
    labels, subjects = people(60)
    study = study_of(labels, subjects)
    for folds in (2, 5):
        first = split(study, folds, 3).part
        np.testing.assert_array_equal(first, split(study, folds, 3).part)
        assert (first != split(study, folds, 4).part).any()


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_any_data_is_split_by_the_laws_or_refused_in_a_sentence(data: st.DataObject) -> None:
    n = data.draw(st.integers(4, 50))
    subjects = data.draw(st.lists(st.sampled_from("abcdefghij"), min_size=n, max_size=n))
    labels = data.draw(st.lists(st.sampled_from(["x", "y", "z", ""]), min_size=n, max_size=n))
    assume(len(set(labels) - {""}) >= 2)
    folds = data.draw(st.integers(2, 6))
    study = study_of(labels, subjects)
    try:
        splits = split(study, folds, data.draw(st.integers(0, 100)))
    except InputError as error:
        assert str(error).endswith(".")  # noqa: PT017
        return
    assert len(splits.folds) == folds
    check(splits, study.subjects)
    y = study.labels("label")
    takes_part = (y >= 0) & ~np.isin(y, splits.too_small)
    np.testing.assert_array_equal(splits.part >= 0, takes_part)
    for fold in splits.folds:
        seen = y[splits.training_rows(splits.tested(fold))]
        assert set(y[takes_part]) == set(seen)


def thirds(subjects: list[str], names: tuple[str, ...]) -> list[str]:
    return [names[int(name[1:]) // 3 % len(names)] for name in subjects]


def test_a_split_is_kept_to() -> None:
    """Test is the only fold, val alone chooses on what train has taught, the refit has both."""
    labels, subjects = people(30)
    own = thirds(subjects, ("Train", "validation", "test", "train"))
    splits = split(study_of(labels, subjects, split=own))
    rows = {name: [i for i, part in enumerate(own) if part == name] for name in set(own)}
    train = sorted(rows["Train"] + rows["train"])
    assert list(splits.folds) == [0]
    assert np.flatnonzero(splits.fold == 0).tolist() == rows["test"]
    assert splits.training_rows(splits.tested(0)).tolist() == sorted(train + rows["validation"])
    ((part, left_out),) = splits.inner(0)
    assert np.flatnonzero(splits.part == part).tolist() == rows["validation"]
    assert splits.training_rows(left_out).tolist() == train


@pytest.mark.parametrize("tested", ["test", "val"])
def test_a_split_of_two_chooses_inside_train(tested: str) -> None:
    labels, subjects = people(30)
    own = thirds(subjects, ("train", "train", tested))
    study = study_of(labels, subjects, split=own)
    splits = split(study)
    assert (splits.fold == 0).tolist() == [name == tested for name in own]
    assert len(list(splits.inner(0))) == 3
    check_inside(splits, study.subjects)


def check_inside(splits: Splits, subjects: Ints) -> None:
    held = splits.held_out_rows(splits.tested(0))
    for part, left_out in splits.inner(0):
        inner, away = splits.training_rows(left_out), np.flatnonzero(splits.part == part)
        assert len(inner)
        assert len(away)
        assert not {*subjects[away], *subjects[held]} & set(subjects[inner])
        assert not set(subjects[away]) & set(subjects[held])


def test_folds_go_before_a_split() -> None:
    labels, subjects = people(30)
    own, fold = thirds(subjects, ("train", "val", "test")), thirds(subjects, ("0", "1"))
    assert list(split(study_of(labels, subjects, fold, split=own)).folds) == [0, 1]
    assert len(split(study_of(labels, subjects, split=own), folds=4).folds) == 4
    assert len(split(study_of(labels, subjects, split=["train"] * len(labels))).folds) == 5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({0: ""}, "some rows have a split and some have none"),
        ({0: "other"}, "'other' is not train, val or test"),
        ({0: "test"}, r"subjects are in several splits \(first: p0\)"),
    ],
)
def test_a_split_that_is_none(change: dict[int, str], sentence: str) -> None:
    labels, subjects = people(30)
    own = thirds(subjects, ("train", "val", "test"))
    assert subjects[0] == subjects[1] == "p0"
    for row, name in change.items():
        own[row] = name
    with pytest.raises(InputError, match=sentence):
        split(study_of(labels, subjects, split=own))


def test_a_class_of_the_test_split_alone_takes_no_part() -> None:
    study = study_of(list("abababcab"), split=["train"] * 4 + ["test"] * 5)
    splits = split(study)
    assert np.flatnonzero(splits.part < 0).tolist() == [6]
    assert np.flatnonzero(splits.fold == 0).tolist() == [4, 5, 7, 8]
    held = np.ones(9, dtype=bool)
    trained = training_of(study, "label", splits.fold, 0, held)
    assert np.flatnonzero(trained).tolist() == [0, 1, 2, 3]
    with pytest.raises(Unfit, match="'c' are in the split test, so nothing can be learnt"):
        split(study_of(list("ababccc"), split=["train"] * 4 + ["test"] * 3))


@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.parametrize("folds", [2, 5, 10])
@pytest.mark.parametrize("classes", [1, 2, 30])
def test_quick_folds_are_those_of_scikit_learn_to_the_row(classes: int, folds: int) -> None:
    rng = np.random.default_rng(classes * folds)
    for groups in (25, 100):
        y = np.minimum(rng.geometric(2 / (classes + 1), 100), classes)
        group = rng.integers(0, groups, 100)
        made = [
            [
                test.tolist()
                for _, test in kind(folds, shuffle=True, random_state=1).split(y, y, group)
            ]
            for kind in (StratifiedGroupKFold, QuickStratifiedGroupKFold)
        ]
        assert made[0] == made[1]

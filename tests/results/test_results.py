from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import InputError
from probe.results import predictions
from probe.results import rows as results
from probe.results.predictions import Prediction
from probe.results.rows import BEST, Row

ROW = Row(
    backbone="net", domain="faces", layer="fc6", pool="none", depth=0.75, method="logistic",
    task="age", fold=0, accuracy=0.5, balanced_accuracy=0.25, macro_f1=0.125, one_off=None,
    mae=None, n_test=10, n_train=40, dim=7, scale="standard", solver="grid", C=0.01, at_edge=0,
    selection=-1.5, chosen="", seed=0, views="center", repeat=0, shots=None, draw=None, crops=1,
    converged=1, error=1e-6, protocol="0123456789ab",
)  # fmt: skip


def text() -> st.SearchStrategy[str]:
    """Any name without control characters; other ends of line that Unicode knows are among them."""
    return st.text(
        st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from(",\"';\t\n\u2028"),
        max_size=9,
    )


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(data=st.data())
def test_rows_come_back_as_they_were(tmp_path: Path, data: st.DataObject) -> None:
    number = st.floats(-1e6, 1e6, allow_nan=False)
    rows = [
        replace(
            ROW,
            backbone=data.draw(text()), layer=data.draw(text()), task=data.draw(text()),
            accuracy=data.draw(st.floats(0, 1)), one_off=data.draw(st.none() | number),
            depth=data.draw(st.none() | number), dim=data.draw(st.none() | st.integers(0, 2**40)),
            fold=data.draw(st.integers(0, 99)), shots=data.draw(st.none() | st.integers(1, 99)),
        )
        for _ in range(data.draw(st.integers(0, 4)))
    ]  # fmt: skip
    results.write(tmp_path / "results.csv", rows)
    read = results.read(tmp_path / "results.csv")
    assert len(read) == len(rows)
    for row, same in zip(rows, read, strict=True):
        for name in (f.name for f in fields(Row)):
            value = getattr(row, name)
            assert getattr(same, name) == value, name
            assert type(getattr(same, name)) is type(value)
    results.write(tmp_path / "again.csv", read)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "results.csv").read_bytes()


def test_there_are_the_promised_columns(tmp_path: Path) -> None:
    results.write(tmp_path / "results.csv", [ROW])
    header = (tmp_path / "results.csv").read_text().splitlines()[0].split(",")
    assert header[:3] == ["backbone", "domain", "layer"]
    promised = (
        "backbone domain layer depth method task fold accuracy balanced_accuracy macro_f1 n_test "
        "one_off mae pool dim scale seed views n_train solver C repeat shots draw crops protocol "
        "log_loss calibration_error auc epochs recipe"
    )
    assert set(header) >= set(promised.split())


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert results.read(tmp_path / "results.csv") == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("accuracy,", "exactness,", "the column accuracy is missing"),
        ("0.25", "", "a number is missing"),
        ("0.25", "much", "much"),
        (",center,", ",", "cells under"),
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    file = tmp_path / "results.csv"
    results.write(file, [ROW])
    written = file.read_text()
    assert old in written
    file.write_text(written.replace(old, new, 1))
    with pytest.raises(InputError, match=sentence) as caught:
        results.read(file)
    assert str(caught.value).startswith(str(file))
    assert str(caught.value).endswith(".")


def test_a_column_more_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    results.write(file, [ROW])
    lines = file.read_text().splitlines()
    file.write_text("".join(f"mine,{line}\n" for line in lines))
    assert results.read(file) == [ROW]


def test_columns_of_a_later_version_may_be_missing(tmp_path: Path) -> None:
    """A file of the first version has no log loss, no draws: those cells are as if empty."""
    file = tmp_path / "results.csv"
    results.write(file, [replace(ROW, log_loss=0.5, shots=5, draw=1)])
    header, cells = (line.split(",") for line in file.read_text().splitlines())
    kept = [i for i, name in enumerate(header) if name not in ("log_loss", "shots", "draw")]
    file.write_text("\n".join(",".join(line[i] for i in kept) for line in (header, cells)) + "\n")
    assert results.read(file) == [ROW]


def test_a_row_of_a_fine_tune_has_no_c_and_perhaps_no_layer(tmp_path: Path) -> None:
    row = Row(
        backbone="net", domain="faces", layer="", method="scratch", task="age", fold=1, n_test=3,
        accuracy=0.5, balanced_accuracy=0.5, macro_f1=0.5, n_train=9, protocol="0123456789ab",
        epochs=12, recipe="sgd",
    )  # fmt: skip
    results.write(tmp_path / "results.csv", [row])
    assert results.read(tmp_path / "results.csv") == [row]
    file = tmp_path / "predictions"
    predictions.add(
        file, {row.stored: prediction(3), replace(row, layer="fc").stored: prediction()}
    )
    assert_same(predictions.read(file, row.stored), prediction(3))


def test_a_row_made_again_takes_the_place_of_the_old() -> None:
    rows = [replace(ROW, fold=f, layer=layer) for layer in ("a", "b") for f in (0, 1)]
    new = [replace(rows[1], accuracy=0.9), replace(ROW, layer="c")]
    assert results.replace(rows, new) == [rows[0], new[0], *rows[2:], new[1]]


def test_rows_of_another_protocol_go_with_the_fold_that_is_made_again() -> None:
    old = [replace(ROW, fold=f, layer=layer) for layer in ("a", "b") for f in range(5)]
    new = [replace(ROW, fold=f, layer="a", protocol="three folds") for f in range(3)]
    read = results.replace(old, new)
    assert sorted(map(str, read)) == sorted(map(str, new + old[5:]))


def test_views_and_draws_of_another_protocol_go_too_and_repeats_stay() -> None:
    of_it = [
        replace(ROW, views="flip", crops=2),
        replace(ROW, shots=5, draw=3),
        replace(ROW, fold=3),
    ]
    others = [
        replace(ROW, repeat=1, protocol="the folds of another seed"),
        replace(ROW, layer="other", shots=5, draw=3),
        replace(ROW, method="knn", views="flip", crops=2),
    ]
    new = [replace(ROW, protocol="three folds")]
    assert results.replace([ROW, *of_it, *others], new) == [*others, *new]


@pytest.mark.parametrize(
    "change",
    [
        {"task": "x"}, {"backbone": "x"}, {"layer": "x"}, {"pool": "x"}, {"method": "x"}, {"fold": 1},
        {"views": "flip"}, {"crops": 10}, {"repeat": 1}, {"shots": 5}, {"draw": 0},
    ],
)  # fmt: skip
def test_what_tells_rows_apart(change: dict[str, object]) -> None:
    assert len(results.replace([ROW], [replace(ROW, **change)])) == 2  # type: ignore[arg-type]
    assert len(results.replace([ROW], [replace(ROW, accuracy=0.1, C=3.0)])) == 1


@pytest.mark.parametrize(
    ("pool", "key"), [("none", "fc6"), ("auto", "fc6"), ("", "fc6"), ("avg", "fc6:avg")]
)
def test_the_key_of_a_layer_in_the_files(pool: str, key: str) -> None:
    assert replace(ROW, pool=pool).features_key == key


def test_what_tells_results_apart_tells_their_scores_apart() -> None:
    changes = [
        {"views": "flip"}, {"crops": 10}, {"repeat": 1}, {"shots": 5}, {"shots": 5, "draw": 0},
        {"method": "knn"}, {"layer": BEST, "pool": ""}, {"pool": "avg"}, {"fold": 3},
    ]  # fmt: skip
    rows = [replace(ROW, **change) for change in changes]  # type: ignore[arg-type]
    assert len({row.stored for row in (ROW, *rows)}) == len(rows)  # a fold is no other result
    assert replace(ROW, shots=5, draw=0).stored[-1] == "logistic,shots=5,draw=0"


def prediction(seed: int = 0, n: int = 6) -> Prediction:
    drawn = np.random.default_rng(seed)
    scores = drawn.normal(size=(n, 3)).astype(np.float32)
    scores[0], scores[1, 1] = np.nan, -np.inf
    return Prediction(scores, np.array([-1, *drawn.integers(0, 3, n - 1)], dtype=np.int16))


def assert_same(a: Prediction, b: Prediction) -> None:
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(a.fold, b.fold)
    assert (a.scores.dtype, a.fold.dtype) == (np.float32, np.int16)


def test_predictions_come_back_and_lie_where_the_docstring_says(tmp_path: Path) -> None:
    file = tmp_path / "predictions"
    keys = [
        ("age", "timm:a/b", "conv/1:avg", "knn"),
        ("age", "net", BEST, "svm"),
        ("größe", "net", "fc6", "svm"),
    ]
    predictions.add(file, {keys[0]: prediction(0)})
    predictions.add(file, {keys[1]: prediction(1), keys[2]: prediction(2)})
    for seed, key in enumerate(keys):
        assert_same(predictions.read(file, key), prediction(seed))
    assert list(predictions.read_all(file, keys)) == keys
    with np.load(file / "age/timm%3Aa.b/conv.1%3Aavg/knn.npz") as opened:
        assert opened["scores"].shape == (6, 3)
        assert opened["fold"].dtype == np.int16
    assert (file / "age/net/best/svm.npz").is_file()
    predictions.add(file, {keys[1]: prediction(7)})
    assert_same(predictions.read(file, keys[1]), prediction(7))
    assert_same(predictions.read(file, keys[0]), prediction(0))


def test_folds_beyond_sixteen_bits_keep_their_numbers(tmp_path: Path) -> None:
    file, key = tmp_path / "predictions", ("age", "net", "fc", "svm")
    fold = np.array([-1, 32767, 32768, 70_000])
    predictions.add(file, {key: Prediction(np.zeros((4, 2), dtype=np.float32), fold)})
    np.testing.assert_array_equal(predictions.read(file, key).fold, fold)


def test_discarding_a_backbone_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "predictions"
    keys = [(task, net, "fc", "svm") for task in ("age", "sex") for net in ("a/b", "a")]
    predictions.add(file, {key: prediction(i) for i, key in enumerate(keys)})
    predictions.discard(file, "a/b")
    for i, key in enumerate(keys):
        if key[1] == "a":
            assert_same(predictions.read(file, key), prediction(i))
        else:
            with pytest.raises(InputError, match="missing or damaged"):
                predictions.read(file, key)
    predictions.discard(tmp_path / "none", "a")
    assert not (tmp_path / "none").exists()


def test_names_that_file_systems_refuse_are_told_apart(tmp_path: Path) -> None:
    names = [
        "..",
        ".",
        "",
        ".a",
        "a",
        "a b",
        "a_b",
        "a:b",
        "a?b",
        "a%3Ab",
        "\u00e4",
        "x" * 300,
        "x" * 301,
    ]
    keys = [("age", name, name, "svm,shots=5,draw=0") for name in names]
    predictions.add(tmp_path / "predictions", {key: prediction(i) for i, key in enumerate(keys)})
    for i, key in enumerate(keys):
        assert_same(predictions.read(tmp_path / "predictions", key), prediction(i))
    assert [path.name for path in tmp_path.iterdir()] == ["predictions"]
    for file in (tmp_path / "predictions").rglob("*.npz"):
        assert len(file.relative_to(tmp_path).parts) == 5
        assert all(len(part) <= 130 and not part.startswith(".") for part in file.parts[-4:])


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04"])
def test_predictions_that_are_missing_or_damaged(tmp_path: Path, content: bytes | None) -> None:
    store, key = tmp_path / "predictions", ("a", "b", "c", "d")
    if content is not None:
        predictions.add(store, {key: prediction()})
        predictions.file_of(store, key).write_bytes(content)
    with pytest.raises(InputError, match=r"d.npz: missing or damaged.*--redo"):
        predictions.read(store, key)
    assert predictions.marks(store, [key]) == {}


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    store, key = tmp_path / "predictions", ("a", "b", "c", "d")
    predictions.add(store, {key: prediction()})
    file = predictions.file_of(store, key)
    content = bytearray(file.read_bytes())
    at = content.index(prediction().scores[2].tobytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="missing or damaged"):
        predictions.read(store, key)


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = tmp_path / "predictions", ("age", "net", "fc", "svm")
    predictions.add(store, {key: prediction(0)})
    file = predictions.file_of(store, key)
    before = file.read_bytes()

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="No space"):
        predictions.add(store, {key: prediction(1)})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def before(store: Path, keys: list[predictions.Key]) -> None:
    """Predictions in the one file of studies of before."""
    with h5py.File(store.with_suffix(".h5"), "w") as old:
        for i, key in enumerate(keys):
            group = old.create_group("/".join(part.replace("/", ".") or "-" for part in key))
            group["scores"], group["fold"] = prediction(i).scores, prediction(i).fold
            group.attrs["protocol"], group.attrs["features"] = f'{{"p": {i}}}', f"f{i}"


OLD = [
    ("age", "timm:a/b", "conv/1:avg", "knn"),
    ("age", "net", "", "finetune"),
    ("sex", "net", "fc", "svm"),
]


def test_predictions_of_before_are_read_and_taken_apart_by_the_first_write(tmp_path: Path) -> None:
    store = tmp_path / "predictions"
    before(store, OLD)
    for _ in range(2):
        for i, key in enumerate(OLD):
            assert_same(predictions.read(store, key), prediction(i))
        assert predictions.marks(store, OLD) == {
            k: (f'{{"p": {i}}}', f"f{i}") for i, k in enumerate(OLD)
        }
        assert predictions.holds(store, "net")
        assert not predictions.holds(store, "a")
        predictions.add(store, {("age", "net", "fc", "svm"): prediction(9)})
    assert not store.with_suffix(".h5").exists()
    predictions.add(store, {OLD[0]: prediction(8)})
    assert_same(predictions.read(store, OLD[0]), prediction(8))


def test_a_backbone_of_before_is_discarded(tmp_path: Path) -> None:
    store = tmp_path / "predictions"
    before(store, OLD)
    predictions.discard(store, "net")
    assert not predictions.holds(store, "net")
    assert_same(predictions.read(store, OLD[0]), prediction(0))


def test_killed_while_taking_apart_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, new = tmp_path / "predictions", ("age", "net", "fc", "svm")
    before(store, OLD)
    real, left = np.savez, [2]

    def dying(*given: object, **arrays: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(*given, **arrays)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", dying)
        with pytest.raises(KeyboardInterrupt):
            predictions.add(store, {new: prediction(9)})
    for i, key in enumerate(OLD):
        assert_same(predictions.read(store, key), prediction(i))
    predictions.add(store, {new: prediction(9)})
    for i, key in enumerate(OLD):
        assert_same(predictions.read(store, key), prediction(i))
    assert not store.with_suffix(".h5").exists()


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_a_file_of_before_that_is_damaged_stops_nothing(tmp_path: Path, content: bytes) -> None:
    store, key = tmp_path / "predictions", ("age", "net", "fc", "svm")
    store.with_suffix(".h5").write_bytes(content)
    assert not predictions.holds(store, "net")
    with pytest.raises(InputError, match="missing or damaged"):
        predictions.read(store, key)
    predictions.add(store, {key: prediction()})
    assert_same(predictions.read(store, key), prediction())

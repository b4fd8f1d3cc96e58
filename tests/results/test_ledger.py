"""The ledger: rows and scores that are kept, replaced and removed together, killed anywhere."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import InputError, Stopped
from features.machine.locks import locked
from probe.results import predictions
from probe.results import rows as results
from probe.results.ledger import Ledger, open_ledger
from probe.results.predictions import Prediction
from probe.results.protocol import mark
from probe.results.rows import BEST, Row

FOLDS = (0, 1)
FOLD_OF = np.array([0, 0, 1, 1], dtype=np.int16)


def protocol(scale: str, parts: str = "") -> str:
    return json.dumps({"settings": {"scale": scale}, "parts": parts}, sort_keys=True)


A, B = protocol("l2"), protocol("none")


def rows(under: str, **columns: Any) -> list[Row]:
    """The rows of a result, one per fold."""
    given = {"backbone": "net", "layer": "fc", "method": "svm", "task": "age"} | columns
    return [
        Row(
            **given, domain="faces", fold=fold, accuracy=0.5, balanced_accuracy=0.5, macro_f1=0.5,
            n_test=2, n_train=2, protocol=mark(under),
        )
        for fold in FOLDS
    ]  # fmt: skip


def scores(under: str, fill: float = 0.0, features: str = "") -> Prediction:
    return Prediction(np.full((4, 2), fill, dtype=np.float32), FOLD_OF, under, features)


def put(ledger: Ledger, under: str, features: str = "", **columns: Any) -> predictions.Key:
    made = rows(under, **columns)
    ledger.put(made[0].stored, scores(under, features=features), made)
    return made[0].stored


def write(folder: Path, under: str, *, features: str = "", changes: Sequence[Any] = ({},)) -> None:
    with open_ledger(folder) as ledger:
        for columns in changes:
            put(ledger, under, features, **columns)
        ledger.commit()


KEY = rows(A)[0].stored


def test_a_result_is_held_under_its_protocol_of_its_features_with_all_folds(tmp_path: Path) -> None:
    assert not Ledger(tmp_path).holds(KEY, A, FOLDS)
    write(tmp_path, A, features="f")
    ledger = Ledger(tmp_path)
    assert ledger.holds(KEY, A, FOLDS, "f")
    assert ledger.rows_of(KEY) == ledger.rows == rows(A)
    assert not ledger.holds(KEY, B, FOLDS, "f")
    assert not ledger.holds(KEY, A, FOLDS, "g")
    assert not ledger.holds(KEY, A, (*FOLDS, 2), "f")
    assert not ledger.holds(rows(A, layer="conv")[0].stored, A, FOLDS, "f")
    predictions.file_of(tmp_path / "predictions", KEY).unlink()
    assert not Ledger(tmp_path).holds(KEY, A, FOLDS, "f")


def test_what_is_put_is_held_after_the_commit(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        put(ledger, A)
        ledger.commit(after=3600.0)
        assert not (tmp_path / "results.csv").exists()
        assert not ledger.holds(KEY, A, FOLDS)
        ledger.commit()
        assert ledger.holds(KEY, A, FOLDS)
        assert Ledger(tmp_path).rows == ledger.rows == ledger.rows_of(KEY)


class Killed(BaseException):
    pass


def killed_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """The `step`-th write of a file, of results.csv or predictions, does not happen any more."""
    left = [step]

    def dying(write: Any) -> Any:
        def call(*given: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            write(*given)

        return call

    for module, name in ((results, "write"), (predictions, "add"), (predictions, "discard")):
        patch.setattr(module, name, dying(getattr(module, name)))


def assert_rows_speak_of_their_scores(folder: Path) -> None:
    left = results.read(folder / "results.csv")
    stored = predictions.protocols(folder / "predictions", {row.stored for row in left})
    assert [mark(stored[row.stored]) for row in left] == [row.protocol for row in left]


@pytest.mark.parametrize("columns", [{}, {"method": "finetune", "layer": ""}])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_killed_anywhere_in_a_commit_no_row_speaks_of_other_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, columns: dict[str, str]
) -> None:
    """Also of a fine-tune, whose rows of before would otherwise stand beside its new scores."""
    key, other = rows(A, **columns)[0].stored, rows(A, task="sex")[0].stored
    write(tmp_path, A, changes=(columns, {"task": "sex"}))
    with monkeypatch.context() as patch:
        killed_at(step, patch)
        with pytest.raises(Killed):
            write(tmp_path, B, changes=(columns,))
    assert_rows_speak_of_their_scores(tmp_path)
    ledger = Ledger(tmp_path)
    assert ledger.holds(key, A, FOLDS) == (step == 0)
    assert not ledger.holds(key, B, FOLDS)
    assert ledger.holds(other, A, FOLDS)
    write(tmp_path, B, changes=(columns,))
    assert Ledger(tmp_path).holds(key, B, FOLDS)
    assert_rows_speak_of_their_scores(tmp_path)


@pytest.mark.parametrize("step", [0, 1])
def test_killed_anywhere_in_a_removal_no_row_speaks_of_other_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    write(tmp_path, A, changes=({}, {"backbone": "other"}))
    with monkeypatch.context() as patch, open_ledger(tmp_path) as ledger:
        killed_at(step, patch)
        with pytest.raises(Killed):
            ledger.remove("net")
    assert_rows_speak_of_their_scores(tmp_path)
    with open_ledger(tmp_path) as ledger:
        ledger.remove("net")
        assert {row.backbone for row in ledger.rows} == {"other"}
        assert ledger.remove("net") == 0


def test_draws_of_other_settings_go_and_those_of_the_same_stay(tmp_path: Path) -> None:
    draws = [{"shots": 5, "draw": draw} for draw in range(3)]
    write(tmp_path, A, changes=({}, *draws, {"layer": "conv"}))
    write(tmp_path, A, changes=draws[:1])
    assert {row.draw for row in Ledger(tmp_path).rows} == {None, 0, 1, 2}
    write(tmp_path, B, changes=draws[:1])
    left = Ledger(tmp_path).rows
    assert {(row.layer, row.draw) for row in left} == {("conv", None), ("fc", 0)}


@pytest.mark.parametrize("scale", ["l2", "none"])
def test_repeats_on_other_folds_stay_and_of_other_settings_go(tmp_path: Path, scale: str) -> None:
    """Each repeat has folds, and so a protocol, of its own."""
    for repeat in range(3):
        write(tmp_path, protocol("l2", str(repeat)), changes=({"repeat": repeat},))
    write(tmp_path, protocol(scale, "0"))
    kept = {0, 1, 2} if scale == "l2" else {0}
    assert {row.repeat for row in Ledger(tmp_path).rows} == kept


def test_a_series_of_replaced_features_keeps_what_the_run_expects_alone(tmp_path: Path) -> None:
    draws = [{"shots": 5, "draw": draw} for draw in range(3)]
    best = [{**draw, "layer": BEST} for draw in draws]
    write(tmp_path, A, features="old", changes=(*draws, *best, {"method": "knn"}))
    with open_ledger(tmp_path) as ledger:
        ledger.expect([rows(A, **draw)[0].stored for draw in draws[:2]])
        put(ledger, A, "new", **draws[0])
        ledger.commit()
    left = Ledger(tmp_path).rows
    assert {(row.method, row.layer, row.draw) for row in left} == {
        ("knn", "fc", None), ("svm", "fc", 0), ("svm", "fc", 1),
    }  # fmt: skip


def test_rows_that_do_not_read_are_no_other_process(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("backbone\nnet\n")
    with pytest.raises(InputError, match="the column domain is missing"), open_ledger(tmp_path, 1):
        pass


def test_a_ledger_that_another_process_writes(tmp_path: Path) -> None:
    with locked(tmp_path / ".results.lock", "this test"):
        with pytest.raises(InputError, match="another process is writing"), open_ledger(tmp_path):
            pass
        with pytest.raises(Stopped, match="trained is kept"), open_ledger(tmp_path, wait=0.1):
            pass

"""What a fit refuses, in a sentence that says what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies

from features.errors import InputError
from features.machine.locks import locked
from features.study.study import Study
from probe.fitting.fit import Fitted, fit
from probe.reporting.report import report


def run(study: Study, **options: Any) -> Fitted:
    """Ridge alone unless said otherwise: it needs no iterations."""
    return fit(study.folder, **({"probes": ("ridge",)} | options))


def test_another_process_at_work_is_named(study: Study) -> None:
    with (
        locked(study.folder / ".results.lock", "test"),
        pytest.raises(InputError, match="another process"),
    ):
        run(study)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"probes": ("rigde",)}, "--probe rigde: not a probe; did you mean ridge"),
        ({"tasks": ("lable",)}, "--task lable: there is no such label column; did you mean label"),
        (
            {"tasks": ("label:sorted",)},
            "--task label:sorted: after the colon stands `ordered`, `number` or `labels`",
        ),
        ({"layers": ("hihg",)}, "--layer hihg: not extracted here; did you mean high"),
        ({"backbones": ("nett",)}, "--backbone nett: not extracted here; did you mean net"),
        ({"scale": "standart"}, "--scale standart: not a scaling; did you mean standard"),
        ({"solver": "gird"}, "--solver gird: not a solver; did you mean grid"),
        ({"c": []}, "--C: give positive numbers"),
        ({"c": [1.0, 0.0]}, "--C: give positive numbers"),
        ({"c": [1.0, float("nan")]}, "--C: give positive numbers"),
        ({"folds": 1}, "--folds 1: a cross-validation needs two folds or more"),
        ({"folds": 21}, "20 subjects are fewer than 21 folds"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_was_meant(
    study: Study, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        run(study, **options)
    assert sentence in str(caught.value)
    assert str(caught.value).rstrip("?").count("\n") == 0
    assert not (study.folder / "results.csv").exists()
    assert not (study.folder / "predictions").exists()


def test_fit_before_extraction(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no study here"):
        fit(tmp_path / "none")
    study = studies.begin(tmp_path / "study", {"label": ["a", "b"] * 5})
    with pytest.raises(
        InputError, match=r"no features are extracted yet; run `probe extract` first"
    ):
        fit(study.folder)
    (study.folder / "features" / "net.h5.partial").touch()
    with pytest.raises(InputError, match=r"run `probe extract` again to finish it"):
        fit(study.folder)


def test_a_task_with_one_class(tmp_path: Path) -> None:
    y = np.arange(40) % 2
    study = studies.begin(tmp_path / "study", {"label": y, "same": ["x"] * 40})
    studies.add(study, "net", {"fc": studies.signal(y, 3, 1.0)}, refused=np.flatnonzero(y).tolist())
    with pytest.raises(InputError, match=r"task same: the data has only the class 'x'; .* two"):
        run(study, tasks=("same",))
    with pytest.raises(InputError, match="all images with features are of the class '0'"):
        run(study, tasks=("label",))


def test_features_of_another_table_are_refused(study: Study) -> None:
    table = study.folder / "images.csv"
    table.write_text(table.read_text().replace("row-000004", "row-4"))
    with pytest.raises(InputError, match=r"its rows belong to another images\.csv"):
        run(study)


def test_backbones_that_hold_other_rows_are_refused_before_anything_is_fitted(
    tmp_path: Path,
) -> None:
    y = np.arange(60) % 2
    study = studies.begin(tmp_path / "study", {"label": y})
    studies.add(study, "all", {"fc": studies.signal(y, 3, 1.0)})
    studies.add(study, "some", {"fc": studies.signal(y, 3, 1.0)}, refused=range(40, 60))
    sentence = "all has 60 of 60 images and some 40; only the same images can be compared"
    with pytest.raises(InputError, match=sentence):
        run(study)
    assert not (study.folder / "results.csv").exists()
    for name in ("all", "some"):
        run(study, backbones=(name,))
    (task,) = report(study.folder).tasks  # of what was fitted last
    assert {best.backbone for best in task.best} == {"some"}
    (words,) = task.left_out
    assert "only the same images can be compared" in words

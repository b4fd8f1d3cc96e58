"""A study in Python: its results as arrays and as Arrow, its curves as figures, and what objects print."""

from __future__ import annotations

import builtins
import csv
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import labelled, pair

import probe
from features.errors import InputError, OptionError
from probe import open_study
from probe.notebook.opened import OpenedStudy


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> OpenedStudy:
    return open_study(pair(tmp_path_factory.mktemp("notebook")).folder)


def cells(study: OpenedStudy, column: str) -> list[str]:
    with (study.folder / "results.csv").open() as file:
        return [line[column] for line in csv.DictReader(file)]


def test_columns_are_those_of_results_csv(study: OpenedStudy) -> None:
    table = study.results()
    arrays = table.to_dict()
    assert list(arrays) == list(table.keys())
    assert {len(array) for array in arrays.values()} == {len(table)}
    assert arrays["layer"].tolist() == cells(study, "layer")
    assert arrays["n_test"].dtype == np.int64
    np.testing.assert_array_equal(arrays["accuracy"], [float(x) for x in cells(study, "accuracy")])
    assert np.isnan(arrays["epochs"]).all()  # empty cells
    assert dict(table).keys() == arrays.keys()
    assert [row.layer for row in table] == arrays["layer"].tolist()
    with pytest.raises(InputError, match="no column acuracy; did you mean accuracy"):
        table["acuracy"]


def test_arrow_takes_the_table_with_nulls_for_empty_cells(study: OpenedStudy) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    taken = pyarrow.table(study.results())
    assert taken["accuracy"].to_pylist() == [float(x) for x in cells(study, "accuracy")]
    assert taken["epochs"].null_count == len(taken)
    assert str(taken.schema.field("fold").type) == "int64"
    assert str(taken.schema.field("backbone").type) == "string"


def test_without_pyarrow_a_sentence_says_so(
    study: OpenedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pyarrow":
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"needs pyarrow; .*to_dict"):
        study.results().__arrow_c_stream__()


def test_a_study_without_results_has_an_empty_table(tmp_path: Path) -> None:
    study = open_study(labelled(tmp_path).folder)
    assert len(study.results()) == 0
    assert repr(study.results()) == "<results: 0 rows>"
    assert "0 rows" in study.results()._repr_html_()
    task = next(iter(study.tasks))
    with pytest.raises(InputError, match="probe fit"):
        study.curve(task)


def test_a_curve_has_the_points_of_the_report_and_draws_itself(study: OpenedStudy) -> None:
    task = next(iter(study.tasks))
    curve = study.curve(task)
    arrays = curve.to_dict()
    (known,) = [each for each in probe.curves(study) if each.task == task]
    wanted = [p.accuracy.value for c in known.panels[0].curves for p in c.points]
    np.testing.assert_array_equal(arrays["value"], wanted)
    assert (arrays["low"] <= arrays["value"]).all()
    assert (arrays["value"] <= arrays["high"]).all()
    assert ElementTree.fromstring(curve._repr_svg_()).tag.endswith("svg")
    assert curve._repr_html_().startswith("<figure><svg")
    assert curve.figure().axes[0].has_data()
    assert repr(curve).startswith(f"<{task}: accuracy over depth; ")
    with pytest.raises(InputError, match=f"no task {task}x; did you mean {task}"):
        study.curve(f"{task}x")
    with pytest.raises(OptionError, match="no curve of it"):
        study.curve(task, "acuracy")
    assert study.curve(task, "balanced").metric == "balanced"


def test_objects_tell_what_they_hold_in_a_few_words(study: OpenedStudy) -> None:
    html = study._repr_html_()
    assert html.startswith("<table>")
    assert study.source in html
    for each in (
        study,
        study.results(),
        study.curve(next(iter(study.tasks))),
        *probe.curves(study),
    ):
        assert len(repr(each)) < 300
        assert "\n" not in repr(each)
    assert len(study.results()._repr_html_()) < 4000
    assert {"rank", "compare", "finetune", "load_probe"} <= set(dir(probe))


def test_features_are_an_array_without_a_with_block(study: OpenedStudy) -> None:
    (backbone, *_) = study.backbones()
    file = study.features(backbone)
    layer = file.keys[0]
    assert file[layer].shape == (len(study), file.about(layer)["dim"])
    file.close()

"""The file that makes a study again, of studies that no file makes alone."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import studies

from features.extraction.imported import import_features
from probe.fitting.fit import fit
from probe.reporting.as_file import file_of
from probe.results import predictions


def begun(folder: Path) -> Path:
    study = studies.begin(
        folder / "study", {"label": [i % 2 for i in range(40)], "size": range(40)}
    )
    np.save(folder / "x.npy", studies.signal(study.labels("label"), 4, 2.0))
    import_features(study.folder, folder / "x.npy", name="net", layer="fc")
    return study.folder


def test_imported_features_are_a_note(tmp_path: Path) -> None:
    text, notes = file_of(begun(tmp_path))
    assert notes == [
        "nothing is fitted yet, so the file only extracts",
        "net: imported, which no table of a file does",
    ]
    assert "[[extract]]" not in text


@pytest.mark.parametrize("lost", [False, True])
def test_a_number_that_was_fitted_without_the_classes(tmp_path: Path, lost: bool) -> None:
    study = begun(tmp_path)
    fit(study, tasks=("label", "size:number"), probes=("ridge",), folds=2, c=(1.0,))
    if lost:
        key = ("label", "net", "fc", "ridge")
        predictions.file_of(study / "predictions", key).write_bytes(b"junk")
    text, notes = file_of(study)
    (table,) = tomllib.loads(text)["fit"]
    assert table["task"] == (["size:number"] if lost else ["label", "size:number"])
    told = "1 results have no protocol or task any more; their options are not told"
    assert (told in notes) == lost


def test_what_is_unfinished_is_a_note(tmp_path: Path) -> None:
    study = begun(tmp_path)
    fit(study, tasks=("label",), probes=("ridge",), folds=2, c=(1.0,))
    import_features(study, tmp_path / "x.npy", name="other", layer="fc")
    (study / "features" / "third.h5.partial").touch()
    _, notes = file_of(study)
    assert notes[:2] == [
        "third: its extraction has not finished, so that is not told",
        "not fitted yet: other",
    ]


def test_results_of_a_column_that_is_gone_are_a_note(tmp_path: Path) -> None:
    study = begun(tmp_path)
    fit(study, tasks=("label", "size:number"), probes=("ridge",), folds=2, c=(1.0,))
    table = study / "images.csv"
    table.write_text(table.read_text().replace("size", "breadth", 1))
    text, notes = file_of(study)
    (of_fit,) = tomllib.loads(text)["fit"]
    assert of_fit.get("task", ["label"]) == ["label"]
    assert "1 results have no protocol or task any more; their options are not told" in notes

"""What changes under a study's results is noticed: its images, labels, classes and features."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import studies
from PIL import Image

from features.data.tasks import Task
from features.errors import InputError
from features.extraction.extract import extract
from features.extraction.update import grow
from features.store.contents import contents_of
from features.study.saving import save
from features.study.study import Study, open_study
from probe.analysis.compare import compare
from probe.analysis.curves import curves, difference
from probe.fitting.fit import fit
from probe.reporting.report import report
from probe.reporting.words import findings
from probe.results import rows as results
from probe.results.ledger import remove

pytestmark = pytest.mark.usefixtures("svg_alone")

Y = np.arange(80) % 2
PAIR = ("net/fc/ridge", "net/best/ridge")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = studies.begin(tmp_path / "study", {"label": Y}, subject=np.arange(80) // 2)
    studies.add(made, "net", {"fc": studies.signal(Y, 4, 2.0)})
    fit(made.folder, probes=("ridge",))
    return open_study(made.folder)


def reordered(study: Study) -> Study:
    task = study.tasks["label"]
    return replace(study, tasks={**study.tasks, "label": replace(task, classes=task.classes[::-1])})


def other(column: str, value: str) -> Callable[[Study], Study]:
    """One image is given another value."""

    def change(study: Study) -> Study:
        values = [value, *study.columns[column][1:]]
        return replace(study, columns={**study.columns, column: values})

    return change


def grown(study: Study) -> Study:
    new = {"path": "late.png", "label": "1", "subject": "late"}
    columns = {n: [*v, new.get(n, "1")] for n, v in study.columns.items()}
    return replace(study, columns=columns)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (reordered, "the classes of label changed"),
        (other("label", "1"), "the labels of label, or subjects changed"),
        (other("subject", "7"), "the labels of label, or subjects changed"),
        (other("use", "0"), "which images are in use changed"),
        (grown, "its images changed"),
    ],
)
def test_results_of_another_state_of_the_study_are_refused(
    study: Study, change: Callable[[Study], Study], said: str
) -> None:
    assert curves(study)[0].best[0].accuracy.value > 0.8
    if "use" not in study.columns:
        study = replace(study, columns={**study.columns, "use": ["1"] * len(study)})
    save(change(study))
    path = study.feature_path("net")
    grow(open_study(study.folder), path, contents_of(path))
    with pytest.raises(InputError, match=said):
        compare(study.folder, *PAIR)
    with pytest.raises(InputError, match=said):
        curves(open_study(study.folder))
    fit(study.folder, probes=("logistic",))  # another probe does not make the first one true again
    (found,) = curves(open_study(study.folder))
    assert {best.method for best in found.best} == {"logistic"}
    assert any("so they are left out" in sentence for sentence in findings(found))
    report(study.folder)


def test_a_task_that_is_left_out_is_named(study: Study) -> None:
    columns = {**study.columns, "other": [str(v) for v in np.roll(Y, 1)]}
    save(replace(study, columns=columns, tasks={**study.tasks, "other": Task("other", ("0", "1"))}))
    fit(study.folder, probes=("ridge",))
    save(reordered(open_study(study.folder)))
    found = report(study.folder)
    assert [task.task for task in found.tasks] == ["other"]
    assert any(said.startswith("label: left out") for said in found.contents.warnings)


def test_results_of_other_folds_are_not_set_against_each_other(study: Study) -> None:
    fit(study.folder, probes=("knn",))
    found = curves(study)[0]
    rows = {best.method: best.rows for best in found.best}
    assert difference(found.outcomes, rows["ridge"], rows["knn"]) is not None
    fit(study.folder, probes=("knn",), folds=2)
    found = curves(study)[0]
    rows = {best.method: best.rows for best in found.best}
    assert difference(found.outcomes, rows["ridge"], rows["knn"]) is None
    names = (rows["ridge"][0].result_name, rows["knn"][0].result_name)
    assert found.outcomes.unlike(*names) == ["number of folds", "images of the folds"]


def test_other_features_under_the_same_name_are_fitted_anew(study: Study) -> None:
    assert fit(study.folder, probes=("ridge",)).fitted == 0
    study.feature_path("net").unlink()
    studies.add(study, "net", {"fc": studies.signal(Y, 4, 0.0, seed=5)})
    done = fit(study.folder, probes=("ridge",))
    assert done.fitted == 1
    assert np.mean([r.accuracy for r in done.rows if r.layer == "fc"]) < 0.8


def test_repeats_of_other_features_go_with_them(study: Study) -> None:
    fit(study.folder, probes=("ridge",), repeats=3)
    study.feature_path("net").unlink()
    studies.add(study, "net", {"fc": studies.signal(Y, 4, 0.0, seed=5)})
    rows = fit(study.folder, probes=("ridge",)).rows
    assert {r.repeat for r in rows if r.layer in ("fc", "best")} == {0}


def test_more_folds_than_a_byte_holds(tmp_path: Path) -> None:
    y = np.arange(260) % 2
    folds = np.arange(260) // 2  # 130, as when one subject is left out at a time
    made = studies.begin(tmp_path / "study", {"label": y}, subject=folds, fold=folds)
    studies.add(made, "net", {"fc": studies.signal(y, 3, 2.0)})
    fit(made.folder, probes=("knn",))
    assert curves(open_study(made.folder))[0].n == 260


def test_unlike_rows_count_only_where_they_take_part(tmp_path: Path) -> None:
    made = studies.begin(tmp_path / "study", {"label": Y}, use=["0", *["1"] * 79])
    studies.add(made, "whole", {"fc": studies.signal(Y, 3, 1.0)})
    studies.add(made, "broken", {"fc": studies.signal(Y, 3, 1.0)}, refused=[0])
    assert fit(made.folder, probes=("ridge",)).fitted == 2


def test_rows_whose_features_are_gone_can_be_removed(study: Study) -> None:
    study.feature_path("net").unlink()
    assert remove(study.folder, "net") > 0
    assert {r.backbone for r in results.read(study.folder / "results.csv")} == {"control:majority"}
    with pytest.raises(InputError, match="no features of it"):
        remove(study.folder, "net")


def test_copies_among_rows_that_come_later_are_found(
    tmp_path: Path, tiny_card: Callable[..., Path]
) -> None:
    """Labels are drawn by chance: only copies on both sides of a split lift 1-nearest neighbour."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(3)
    labels = rng.choice(["a", "b"], 60)
    lines = ["path,label"]
    for i, label in enumerate(labels):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{label}")
    manifest = folder / "data.csv"
    manifest.write_text("\n".join(lines) + "\n")
    study, card = tmp_path / "study", str(tiny_card("[8, 8]", "[8, 8]"))
    options = {"layers": ("conv",), "pool": ("none",), "device": "cpu"}
    extract(study, card, data=str(manifest), **options)
    fit(study, probes=("knn",))
    for i, label in enumerate(labels):
        shutil.copy(folder / f"{i}.png", folder / f"copy-{i}.png")
        lines.append(f"copy-{i}.png,{label}")
    manifest.write_text("\n".join(lines) + "\n")
    extract(study, card, update=True, **options)
    rows = fit(study, probes=("knn",)).rows
    assert np.mean([r.accuracy for r in rows if r.layer == "conv"]) < 0.75

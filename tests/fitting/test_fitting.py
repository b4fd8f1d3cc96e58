import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies
from scored import check, stored
from sklearn.dummy import DummyClassifier

import probe.fitting.fit
import probe.fitting.probe_job
import probe.probes.layer
import probe.probes.solver
from features.errors import InputError
from features.study.study import Study, open_study
from probe.analysis.compare import compare
from probe.analysis.curves import curves
from probe.fitting.fit import Fitted, fit
from probe.fitting.job import ProbeJob
from probe.probes.scorer import Shared
from probe.probes.settings import TOL
from probe.results import rows as results
from probe.results.rows import BEST, Row
from probe.scoring.agreement import measured


def run(study: Study, **options: Any) -> Fitted:
    """Ridge alone unless said otherwise: it needs no iterations."""
    return fit(study.folder, **({"probes": ("ridge",)} | options))


def probed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.backbone != "control:majority"]


def test_every_layer_of_every_task_and_probe(study: Study) -> None:
    done = run(study, probes=("ridge", "svm", "logistic", "knn"))
    assert (done.fitted, done.kept, done.notes) == (3 * 2 * 4, 0, [])
    # Three layers and two best of four probes, and the majority class, in five folds.
    assert len(done.rows) == ((3 + 2) * 4 + 1) * 2 * 5
    check(study, done.rows)
    read = results.read(study.folder / "results.csv")
    assert [row.key for row in read] == [row.key for row in done.rows]
    net = [r for r in done.rows if r.backbone == "net" and r.layer == "high"]
    assert {(r.domain, r.depth, r.dim, r.pool) for r in net} == {("faces", 1.0, 5, "none")}
    assert {r.n_test + r.n_train for r in done.rows} == {90}
    assert {r.scale for r in done.rows if r.method == "knn"} == {"l2"}
    assert {r.scale for r in probed(done.rows) if r.method != "knn"} == {"standard"}


@pytest.mark.parametrize("dim", [40, 400])
def test_a_layer_that_is_the_same_for_every_image_tells_nothing(tmp_path: Path, dim: int) -> None:
    """As a dead one is: what is predicted is how often the classes come in training."""
    study = studies.begin(tmp_path, {"label": [0] * 42 + [1] * 18})
    studies.add(study, "dead", {"fc": np.zeros((60, dim), dtype=np.float32)})
    rows = run(study, probes=("logistic", "svm", "ridge", "knn"), folds=3).rows
    made = [row for row in rows if row.backbone == "dead" and row.method != "knn"]
    assert len(made) == 2 * 3 * 3
    assert {row.accuracy for row in made} == {0.7}
    for row in made:
        if row.method == "logistic":
            assert row.log_loss == pytest.approx(0.6109, abs=1e-3)


def test_by_default_logistic_and_svm(study: Study) -> None:
    rows = probed(fit(study.folder, layers=("low",), tasks=("other",)).rows)
    assert {row.method for row in rows} == {"logistic", "svm"}
    assert all(row.converged for row in rows)
    assert all(row.error is not None and 0 <= row.error <= TOL for row in rows)


def test_only_what_is_asked_for(study: Study) -> None:
    rows = run(study, backbones=("net",), layers=("high",), tasks=("label",)).rows
    assert {(r.backbone, r.layer, r.task) for r in probed(rows)} == {
        ("net", "high", "label"),
        ("net", BEST, "label"),
    }


def test_ordered_classes_get_their_distance(study: Study) -> None:
    rows = run(study, layers=("high",), tasks=("label:ordered", "other")).rows
    check(study, rows)
    assert all((r.mae is None) == (r.task == "other") for r in rows)


def test_a_second_run_keeps_all_and_writes_the_same(study: Study) -> None:
    run(study)
    table = study.folder / "results.csv"
    first = table.read_bytes()
    before = {key: stored(study, row).scores for row in results.read(table) for key in [row.key]}
    done = run(study)
    assert (done.fitted, done.kept) == (0, 6)
    assert table.read_bytes() == first
    for row in results.read(table):
        np.testing.assert_array_equal(stored(study, row).scores, before[row.key])


def test_redo_fits_again_and_gets_the_same_numbers(study: Study) -> None:
    run(study)
    first = (study.folder / "results.csv").read_bytes()
    done = run(study, redo=True)
    assert (done.fitted, done.kept) == (6, 0)
    assert (study.folder / "results.csv").read_bytes() == first


def test_redo_mends_predictions_that_are_gone(study: Study) -> None:
    run(study)
    shutil.rmtree(study.folder / "predictions")
    check(study, run(study, redo=True).rows)


@pytest.mark.parametrize(
    "change",
    [{"c": [0.1, 1.0]}, {"scale": "l2"}, {"scale": "none"}, {"seed": 1}, {"solver": "sklearn"}],
)
def test_another_protocol_takes_the_place_of_the_first(
    study: Study, change: dict[str, Any]
) -> None:
    first = run(study)
    done = run(study, **change)
    assert (done.fitted, done.kept) == (6, 0)
    assert {row.key for row in done.rows} == {row.key for row in first.rows}
    old, new = ({row.protocol for row in probed(rows)} for rows in (first.rows, done.rows))
    assert not old & new
    check(study, done.rows)
    assert run(study).fitted == 6


def test_fewer_folds_leave_none_of_the_old(study: Study) -> None:
    run(study)
    done = run(study, folds=3)
    assert {row.fold for row in done.rows} == {0, 1, 2}
    assert len(done.rows) == (3 + 2 + 1) * 2 * 3
    check(study, done.rows)
    assert (run(study, folds=3).fitted, run(study, folds=3).kept) == (0, 6)


def test_a_changed_label_is_another_protocol(study: Study) -> None:
    first = run(study).rows
    table = study.folder / "images.csv"
    lines = table.read_text().splitlines()
    assert lines[1].startswith("row-000000,0,0,")
    lines[1] = lines[1].replace("row-000000,0,0,", "row-000000,1,0,")
    table.write_text("\n".join(lines) + "\n")
    done = run(study).rows
    marks = [{row.protocol for row in rows if row.task == "label"} for rows in (first, done)]
    assert not marks[0] & marks[1]
    check(open_study(study.folder), done)


class Interrupted(Exception):
    pass


def test_the_majority_class_has_rows_and_scores_of_its_own(tmp_path: Path) -> None:
    """Said again by scikit-learn, on training rows whose majority is not that of the test rows.

    It is no backbone to rank.
    """
    y = np.repeat([0, 1, 2] * 3, [18, 8, 4, 18, 4, 8, 4, 20, 6])
    own = np.repeat([0, 1, 2], 30)
    study = studies.begin(
        tmp_path / "study", {"label": y.tolist(), "other": (y > 0).tolist()}, fold=own.tolist()
    )
    for name in ("net", "toy"):
        studies.add(study, name, {"low": studies.signal(y, 5, 0.5, len(name))})
    done = run(study)
    mine = [row for row in done.rows if row.backbone == "control:majority"]
    assert [(r.layer, r.method, r.domain) for r in mine] == [
        ("majority", "majority", "control")
    ] * 6
    probe_rows = {(r.task, r.fold): r for r in probed(done.rows)}
    for row in mine:
        labels, prediction = study.labels(row.task), stored(study, row)
        test = own == row.fold
        assert (prediction.fold == own).all()
        nothing = np.zeros((90, 1))
        dummy = DummyClassifier().fit(nothing[~test], labels[~test])
        assert (prediction.scores[test].argmax(1) == dummy.predict(nothing[test])).all()
        assert row.accuracy == pytest.approx(dummy.score(nothing[test], labels[test]))
        beside = probe_rows[row.task, row.fold]
        assert (row.n_test, row.n_train) == (beside.n_test, beside.n_train)
    assert len({row.protocol for row in mine}) == 2
    for task in curves(study):
        assert {b.backbone for b in task.best} == {"net", "toy"}
        assert task.tuned == ()
        assert task.floor is not None
        kept = [row.accuracy for row in mine if row.task == task.task]
        assert [row.accuracy for row in task.floor.rows] == kept
    assert {key[3] for key in measured(study)} == {"ridge"}
    (versus,) = compare(
        study.folder, "net/low/ridge", "control:majority/majority/majority", tasks=["label"]
    )
    assert versus.accuracy_b.value == pytest.approx(
        np.mean([row.accuracy for row in mine if row.task == "label"])
    )


@pytest.mark.parametrize("first", ["deep", "deep:avg", "low"])
def test_of_equal_layers_the_shallowest_is_best_whatever_was_fitted_first(
    tmp_path: Path, first: str
) -> None:
    y = np.arange(60) % 2
    study = studies.begin(tmp_path / "study", {"label": y.tolist()})
    x = studies.signal(y, 5, 9.0)
    layers = [first, *sorted({"deep", "deep:avg", "low"} - {first})]
    depth = {"deep": 1.0, "low": 0.5}
    studies.add(
        study,
        "net",
        dict.fromkeys(layers, x),
        depths=[depth[name] for name in dict.fromkeys(key.partition(":")[0] for key in layers)],
    )
    deep = [row.chosen for row in run(study, layers=["deep"]).rows if row.layer == BEST]
    assert deep == ["deep"] * 5
    both = [row.chosen for row in run(study).rows if row.layer == BEST]
    assert both == ["low"] * 5


@pytest.mark.parametrize("at", [1, 3, 5])
def test_an_interrupted_run_keeps_what_was_done(study: Study, at: int) -> None:
    def stop(done: int, _total: int, _job: ProbeJob | None) -> None:
        if done == at:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(study, progress=stop)
    rows = results.read(study.folder / "results.csv")
    assert len(rows) == at * 5
    check(study, rows)
    done = run(study)
    assert (done.fitted, done.kept) == (6 - at, at)
    table = (study.folder / "results.csv").read_text().splitlines()
    run(study, redo=True)
    assert sorted(table) == sorted((study.folder / "results.csv").read_text().splitlines())


def test_work_is_committed_on_the_way(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.fitting.fit._COMMIT_SECONDS", -1.0)
    seen = []

    def look(done: int, total: int, job: ProbeJob | None) -> None:
        seen.append((done, total, job is None, len(results.read(study.folder / "results.csv"))))

    run(study, progress=look)
    assert [call[:3] for call in seen] == [(i, 6, i == 6) for i in range(7)]
    assert [call[3] for call in seen] == [5 * i for i in range(7)]


def test_the_next_job_is_named_in_progress(study: Study) -> None:
    seen: list[ProbeJob] = []
    run(study, progress=lambda _done, _all, job: seen.append(job) if job else None)
    assert {(j.backbone, j.key, j.task.name, j.method) for j in seen} == {
        (backbone, key, task, "ridge")
        for backbone, key in (("net", "low"), ("net", "high"), ("toy", "only"))
        for task in ("label", "other")
    }


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused_with_layer_and_row(
    tmp_path: Path, value: float
) -> None:
    y = np.arange(40) % 2
    study = studies.begin(tmp_path / "study", {"label": y})
    good, bad = studies.signal(y, 3, 1.0), studies.signal(y, 3, 1.0)
    bad[17, 1] = value
    studies.add(study, "net", {"fine": good, "broken": bad})
    with pytest.raises(InputError, match=r"layer broken .* row 17 \(017\.png\)"):
        run(study)
    rows = results.read(study.folder / "results.csv")
    assert {row.layer for row in rows} == {"fine"}
    check(study, rows)


def test_features_of_a_row_that_takes_no_part_may_be_anything(tmp_path: Path) -> None:
    y = np.arange(40) % 2
    labels = [str(v) for v in y]
    labels[17] = ""
    study = studies.begin(tmp_path / "study", {"label": labels})
    x = studies.signal(y, 3, 1.0)
    x[17, 1] = np.nan
    studies.add(study, "net", {"fc": x}, refused=[4])
    check(study, run(study).rows)
    assert np.flatnonzero(stored(study, run(study).rows[0]).fold < 0).tolist() == [4, 17]


def test_a_layer_of_one_backbone_alone_may_be_asked_for(study: Study) -> None:
    rows = probed(run(study, layers=("only",)).rows)
    assert {row.backbone for row in rows} == {"toy"}


def test_probes_and_tasks_that_share_a_layer_get_what_they_get_alone(study: Study) -> None:
    c = [0.01, 0.1, 1.0]
    together = run(study, probes=("ridge", "svm", "logistic"), c=c).rows
    for alone in ("svm", "logistic"):
        for task in ("label", "other"):
            run(study, probes=(alone,), tasks=(task,), c=c, redo=True)
    kept = {row.key: row for row in results.read(study.folder / "results.csv")}
    for row in probed(together):
        assert kept[row.key].accuracy == pytest.approx(row.accuracy, abs=1e-6)
        assert kept[row.key].selection == pytest.approx(row.selection, rel=1e-4)


def test_a_layer_too_large_to_share_is_fitted_alike(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"probes": ("ridge", "logistic"), "c": [0.01, 0.1, 1.0]}
    first = run(study, **options).rows
    monkeypatch.setattr(Shared, "room", lambda _: 0)
    assert run(study, **options, redo=True).rows == first


def test_what_did_not_converge_is_noted(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.probes.solver, "_MAX_ITER", 1)
    done = run(study, probes=("logistic",), layers=("high",), tasks=("label",), c=[1e4])
    assert done.notes == ["label: net/high/logistic: 5 folds did not converge"]
    rows = probed(done.rows)
    assert {row.converged for row in rows} == {0}
    assert all(row.error is not None and row.error > TOL for row in rows)


@pytest.mark.parametrize(("dim", "memory"), [(6, 1e-6), (900, 1e-6), (900, 5e-4)])
@pytest.mark.parametrize("scale", ["standard", "l2"])
def test_a_layer_larger_than_memory_is_read_in_blocks_and_fitted_alike(
    tmp_path: Path, scale: str, dim: int, memory: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of thirty rows or 256 columns; one training set at a time, or all of them kept."""
    monkeypatch.setattr(probe.probes.layer, "ROWS_BYTES", 30 * 4 * dim)
    y = np.arange(90) % 3
    study = studies.begin(tmp_path / "study", {"label": y})
    studies.add(study, "net", {"fc": studies.signal(y, dim, 0.3)}, refused=[4])
    probes = ("ridge", "svm", "logistic", "knn")
    told: list[str] = []
    options: dict[str, Any] = {"probes": probes, "scale": scale, "folds": 3, "c": [0.01, 0.1, 1.0]}
    whole = run(study, **options, announce=told.append).rows
    assert not any("in blocks" in line for line in told)
    blocks = run(study, **options, memory=memory, redo=True, announce=told.append).rows
    (line,) = {line for line in told if "in blocks" in line}
    assert line.startswith("net/fc: ")
    assert line.endswith("MB even so")
    for a, b in zip(probed(whole), probed(blocks), strict=True):
        assert (a.key, a.C, a.scale) == (b.key, pytest.approx(b.C, rel=1e-5), b.scale)
        assert a.accuracy == pytest.approx(b.accuracy, abs=0.06)
        assert a.selection == pytest.approx(b.selection, abs=2e-3)


def test_rows_that_are_not_done_take_no_memory(tmp_path: Path) -> None:
    """Of 900 rows 60 are done: what they need is held, what all would need is not."""
    y = np.arange(900) % 3
    study = studies.begin(tmp_path / "study", {"label": y})
    studies.add(study, "net", {"fc": studies.signal(y, 40, 0.3)}, refused=range(60, 900))
    few, all_of_them = (probe.fitting.probe_job._needs(n, 40) for n in (60, 900))
    told: list[str] = []
    held = run(study, probes=("ridge",), memory=few / 1e9, announce=told.append).rows
    assert not any("in blocks" in line for line in told)
    assert few < all_of_them / 2
    assert {row.n_test for row in probed(held)} == {12}
    assert run(study, probes=("ridge",), redo=True).rows == held


def test_auto_takes_the_scaling_that_is_better_inside(study: Study) -> None:
    scales = ("standard", "l2", "auto")
    both = {scale: probed(run(study, scale=scale, redo=True).rows) for scale in scales}
    for standard, l2, auto in zip(both["standard"], both["l2"], both["auto"], strict=True):
        if auto.layer == BEST:
            continue
        better = standard if standard.selection >= l2.selection else l2
        assert (auto.scale, auto.selection, auto.C) == (
            better.scale,
            better.selection,
            better.C,
        )
    assert {row.scale for row in both["auto"]} == {"standard", "l2"}

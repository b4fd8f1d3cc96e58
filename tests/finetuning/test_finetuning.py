"""Fine-tunes through the library, on small images with a planted answer."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from brighthalves import PLAIN, QUICK, N, rows_of, write_data
from PIL import Image
from torch.nn import functional

from features.backbone import load
from features.extraction.extract import extract
from features.study.study import open_study
from probe.analysis.compare import compare
from probe.analysis.curves import curves
from probe.finetuning import history
from probe.finetuning.finetune import finetune
from probe.fitting.fit import fit
from probe.reporting.report import report
from probe.results import predictions
from probe.training.recipes import recipe

pytestmark = pytest.mark.usefixtures("svg_alone")


def test_rows_predictions_and_history(tmp_path: Path, card: str, data: str) -> None:
    study = tmp_path / "study"
    early = recipe("modern", epochs=12, patience=3, batch_size=8, rate=3e-3)
    done = finetune(study, card, data=data, tasks=["side"], recipe=early, device="cpu")
    assert done.trained == 3
    rows = rows_of(study)
    assert len(rows) == 6  # three folds, two views
    assert {(r.backbone, r.domain, r.method, r.layer) for r in rows} == {
        ("tiny", "toys", "finetune", "")
    }
    assert {(r.views, r.crops) for r in rows} == {("center", 1), ("10crop", 10)}
    assert {r.n_train for r in rows} == {32}
    assert min(r.accuracy for r in rows) > 0.9
    opened = open_study(study)
    y = opened.labels("side")
    for view in ("center", "10crop"):
        mine = [r for r in rows if r.views == view]
        stored = predictions.read(study / "predictions", mine[0].stored)
        assert (stored.fold == np.array([int(f) for f in opened.columns["fold"]])).all()
        for r in mine:
            tested = stored.fold == r.fold
            hits = stored.scores[tested].argmax(1) == y[tested]
            assert hits.mean() == pytest.approx(r.accuracy)
            np.testing.assert_allclose(np.exp(stored.scores[tested]).sum(1), 1, rtol=1e-4)
    with (study / "training.csv").open() as file:
        lines = list(csv.DictReader(file))
    for r in (r for r in rows if r.views == "center"):
        inner = [x for x in lines if x["fold"] == str(r.fold) and x["stage"] == "inner"]
        losses = [float(x["inner_loss"]) for x in inner]
        assert r.epochs == int(np.argmin(losses)) + 1
        assert r.selection == pytest.approx(-min(losses), rel=1e-4)
        whole = [x for x in lines if x["fold"] == str(r.fold) and x["stage"] == "whole"]
        assert len(whole) == r.epochs
    assert not list((study / "training").rglob("*.pt"))


def test_same_key_and_protocol_is_kept_and_redo_repeats_it(
    tmp_path: Path, card: str, data: str
) -> None:
    study = tmp_path / "study"
    first = finetune(study, card, data=data, tasks=["side"], recipe=QUICK, device="cpu")
    table = (study / "results.csv").read_bytes()
    again = finetune(study, card, tasks=["side"], recipe=QUICK, device="cpu")
    assert (first.trained, again.trained, again.kept) == (3, 0, 1)
    assert {r.key for r in again.rows} == {r.key for r in first.rows}
    redone = finetune(study, card, tasks=["side"], recipe=QUICK, device="cpu", redo=True)
    assert redone.trained == 3
    assert (study / "results.csv").read_bytes() == table
    other = recipe("modern", epochs=1, patience=0, batch_size=8)
    assert finetune(study, card, tasks=["side"], recipe=other, device="cpu").trained == 3
    assert len(rows_of(study, method="finetune")) == 6


def test_variants_stand_side_by_side(tmp_path: Path, card: str, data: str) -> None:
    study = tmp_path / "study"
    finetune(
        study,
        card,
        data=data,
        tasks=["side"],
        from_scratch=True,
        freeze_through=["conv", "pool"],
        copy_through=["conv"],
        recipe=QUICK,
        views=["center"],
        device="cpu",
    )
    variants = {(r.method, r.layer, r.depth, r.domain) for r in rows_of(study)}
    assert variants == {
        ("scratch", "", None, "task"),
        ("frozen", "conv", 0.5, "toys"),
        ("frozen", "pool", 0.5, "toys"),
        ("copied", "conv", 0.5, "toys"),
    }


def test_ways_of_training_stand_side_by_side_and_can_be_compared(
    tmp_path: Path, card: str, data: str
) -> None:
    study = tmp_path / "study"
    gilnet = recipe("gilnet", epochs=1, batch_size=8)
    for how in (
        {},
        {"probe_first": True},
        {"recipe": gilnet},
        {"from_scratch": True, "recipe": gilnet},
    ):
        options = {"recipe": QUICK, "tasks": ["side"], "views": ["center"], "save": True, **how}
        done = finetune(study, card, data=data, device="cpu", **options)  # type: ignore[arg-type]
        assert done.trained == 3
    methods = ["finetune", "finetune+probe-first", "finetune+gilnet", "scratch+gilnet"]
    assert [r.method for r in rows_of(study, fold=0)] == methods
    assert finetune(
        study, card, tasks=["side"], views=["center"], recipe=QUICK, device="cpu"
    ).kept == 1  # fmt: skip
    names = sorted(f.stem for f in (study / "networks").glob("*-fold0.toml"))
    assert names == sorted(f"tiny@side-{m}-fold0" for m in methods)
    with (study / "training.csv").open() as file:
        assert list(dict.fromkeys(x["method"] for x in csv.DictReader(file))) == methods
    for other in methods[1:]:
        (comparison,) = compare(study, "tiny/-/finetune", f"tiny/-/{other}")
        assert comparison.images == N
    report(study)
    page = (study / "report" / "index.html").read_text()
    assert "side: loss by epoch" in page
    assert 'data-name="finetune+probe-first tiny"' in page
    with (study / "report" / "training.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [x["method"] for x in lines if x["epoch"] == "1"] == methods
    epochs = [e for e in history.read(study / "training.csv") if e.method == "finetune"]
    assert {e.stage for e in epochs} == {"whole"}
    for x in lines[:2]:
        mine = [e.epoch for e in epochs if e.epoch.epoch == int(x["epoch"]) - 1]
        assert len(mine) == 3
        assert float(x["loss"]) == pytest.approx(np.mean([e.loss for e in mine]))
        assert float(x["accuracy"]) == pytest.approx(np.mean([e.accuracy for e in mine]))
    (task,) = curves(open_study(study))
    assert sorted(c.method for c in task.tuned) == sorted(methods)
    assert {c.method: c.kind for c in task.tuned}["scratch+gilnet"] == "scratch"
    finetune(
        study, card, tasks=["side"], base="scratch+gilnet", freeze_through=["conv"], recipe=QUICK,
        views=["center"], device="cpu",
    )  # fmt: skip
    (first, *_) = rows_of(study, method="frozen")
    assert (first.backbone, first.domain) == ("tiny@scratch+gilnet", "task")


def test_a_test_folds_labels_and_pixels_change_nothing_but_its_score(
    tmp_path: Path, card: str, data: str
) -> None:
    flipped = {row: "lower" if row % 2 == 0 else "upper" for row in range(N) if row % 6 // 2 == 1}
    other = write_data(tmp_path / "other", other=flipped)
    early = recipe("modern", epochs=4, patience=2, batch_size=8)
    scores = []
    for name, source in (("a", data), ("b", str(other))):
        finetune(
            tmp_path / name, card, data=source, tasks=["side"], recipe=early, views=["center"],
            device="cpu",
        )  # fmt: skip
        (row, *_) = rows_of(tmp_path / name)
        scores.append(predictions.read(tmp_path / name / "predictions", row.stored).scores)
    tested = np.array([row % 6 // 2 == 1 for row in range(N)])
    np.testing.assert_array_equal(scores[0][tested], scores[1][tested])
    assert not np.array_equal(scores[0][~tested], scores[1][~tested])


def test_kept_features_and_recomputed_ones_train_the_same_network(
    tmp_path: Path, card: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = []
    for name, share in (("kept", 0.1), ("recomputed", 0.0)):
        monkeypatch.setattr("probe.training.kept_prefix._DISK_SHARE", share)
        finetune(
            tmp_path / name, card, data=data, tasks=["side"], freeze_through=["pool"],
            recipe=PLAIN, device="cpu",
        )  # fmt: skip
        rows = rows_of(tmp_path / name)
        assert {r.recipe.partition("; prefix ")[2].split(" ")[0] for r in rows} == {name}
        store = tmp_path / name / "predictions"
        scores.append([predictions.read(store, r.stored).scores for r in rows])
        assert not list((tmp_path / name).rglob("*.kept"))
    for a, b in zip(*scores, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_ten_crops_equal_the_mean_by_hand(tmp_path: Path, card: str, data: str) -> None:
    """All frozen and no epoch's worth of learning: the network is known, so the mean can be made."""
    from probe.training.feed import ImageFeed
    from probe.training.setup import Goal, TrainingJob
    from probe.training.train import predict
    from probe.training.variants import Variant, start

    tiny = load(card)
    network, prefix = start(tiny, Variant("finetune"), 2, 0)
    finetune(tmp_path / "s", card, data=data, tasks=["side"], recipe=QUICK, device="cpu")
    study = open_study(tmp_path / "s")
    wanted = tiny.architecture.input
    feed = ImageFeed(study, wanted, PLAIN, torch.device("cpu"))
    job = TrainingJob(
        network, prefix, PLAIN, 1.0, Goal(study.labels("side")[:, None], (2,)), feed, 1, 0
    )
    rows = np.array([5, 0, 7])
    predicted = predict(job, rows, "10crop")
    network.eval()
    for row, p in zip(rows.tolist(), predicted, strict=True):
        image = Image.open(study.root / study.paths[row]).convert("RGB").resize((8, 8), 2)
        pixels = np.asarray(image).astype(np.float32)
        # Resized to the crop's own size: the image and its mirror image.
        total = softmax_of(network, pixels) + softmax_of(network, pixels[:, ::-1])
        np.testing.assert_allclose(p, total / 2, rtol=1e-5)


def softmax_of(network: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    x = (torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None] - 127) / 64
    with torch.no_grad():
        return functional.softmax(network(x), 1)[0].double().numpy()


def test_two_tasks_share_a_network(tmp_path: Path, card: str, data: str) -> None:
    study = tmp_path / "study"
    learn = recipe("modern", epochs=12, patience=0, batch_size=8, rate=3e-3, colour=0.0)
    done = finetune(study, card, data=data, tasks=["side", "tone"], recipe=learn, device="cpu")
    assert done.trained == 3
    for task in ("side", "tone"):
        rows = rows_of(study, task=task, views="center")
        assert np.mean([r.accuracy for r in rows]) > 0.9, task
        assert {r.recipe for r in rows} == {"modern; one network for side+tone"}


def test_every_task_by_itself_if_none_is_named(tmp_path: Path, card: str, data: str) -> None:
    done = finetune(tmp_path / "s", card, data=data, recipe=QUICK, views=["flip"], device="cpu")
    assert done.trained == 6
    assert {(r.task, r.recipe, r.views, r.crops) for r in rows_of(tmp_path / "s")} == {
        ("side", "modern", "flip", 2),
        ("tone", "modern", "flip", 2),
    }


def test_an_unreadable_image_is_left_out(tmp_path: Path, card: str, data: str) -> None:
    (tmp_path / "data" / "3.png").write_text("no image")
    done = finetune(tmp_path / "s", card, data=data, tasks=["side"], recipe=QUICK, device="cpu")
    assert done.notes == ["1 image cannot be read (3.png); left out"]
    (row, *_) = rows_of(tmp_path / "s")
    assert predictions.read(tmp_path / "s" / "predictions", row.stored).fold[3] == -1


@pytest.mark.parametrize("task", ["age"])
def test_frozen_through_the_last_layer_is_a_probe(tmp_path: Path, task: str) -> None:
    """On the sample: the same features, so the same accuracy as logistic, within its noise.

    Noise is that of the paired difference over 1,200 images: its standard error from the images on
    which the two disagree.
    """
    extract(tmp_path, "sample-faces", data="sample", layers=["fc6"], device="cpu")
    fit(tmp_path, probes=["logistic"], tasks=[task])
    plain = recipe(
        "modern", epochs=12, patience=4, crop=False, mirror=False, colour=0.0, smoothing=0.0
    )
    finetune(
        tmp_path, "sample-faces", tasks=[task], freeze_through=["fc6"], recipe=plain,
        views=["center"], device="cpu",
    )  # fmt: skip
    y = open_study(tmp_path).labels(task)
    hits = []
    for method in ("frozen", "logistic"):
        (row, *_) = rows_of(tmp_path, method=method, layer="fc6", task=task)
        hits.append(predictions.read(tmp_path / "predictions", row.stored).scores.argmax(1) == y)
    difference = hits[0].astype(float) - hits[1]
    assert abs(difference.mean()) < 2.6 * difference.std() / np.sqrt(len(y)), [
        h.mean() for h in hits
    ]
    assert np.mean([h.mean() for h in hits]) > 1.5 / 8  # and both have learnt something


def test_from_scratch_begins_at_chance(tmp_path: Path, data: str) -> None:
    """A new network knows nothing: its loss is log 2, not that of untrained layers' noise scaled up."""
    still = recipe("modern", epochs=1, patience=0, batch_size=8, rate=1e-9)
    finetune(
        tmp_path / "study",
        "sample-faces",
        data=data,
        tasks=["side"],
        from_scratch=True,
        recipe=still,
        views=["center"],
        device="cpu",
    )
    for line in history.read(tmp_path / "study" / "training.csv"):
        assert line.epoch.loss == pytest.approx(np.log(2), abs=0.02)


def test_a_limited_extraction_limits_the_fine_tune_too(
    tmp_path: Path, card: str, data: str
) -> None:
    """Its rows stand beside the probes': of the same images, and the report takes both."""
    study = tmp_path / "s"
    extract(study, card, data=data, limit=24, layers=["fc"], device="cpu")
    fit(study, tasks=["side"], probes=["logistic"])
    told: list[str] = []
    finetune(
        study, card, tasks=["side"], recipe=QUICK, views=["center"], device="cpu",
        announce=told.append,
    )  # fmt: skip
    assert "24 of 48 images take part, those that are extracted" in told
    tested = {
        r.method: predictions.read(study / "predictions", r.stored).fold >= 0
        for r in rows_of(study)
        if r.method in ("logistic", "finetune")
    }
    assert tested["logistic"].sum() == 24
    assert (tested["logistic"] == tested["finetune"]).all()
    report(study)

"""Fine-tunes through the library and the command line, on small images with a planted answer."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch.nn import functional
from typer.testing import CliRunner

from cli.app import app
from features.backbone import load
from features.errors import InputError, Stopped
from features.extraction.extract import extract
from features.study.study import open_study
from probe.analysis.compare import compare
from probe.analysis.curves import curves
from probe.finetuning import history
from probe.finetuning.finetune import finetune
from probe.fitting.fit import fit
from probe.probes.linear import GRID
from probe.reporting.report import report
from probe.results import predictions
from probe.results import rows as results
from probe.results.rows import Row
from probe.scoring.cka import alignment, linear_gram, u_centred
from probe.training.recipes import recipe

N = 48
QUICK = recipe("modern", epochs=2, patience=0, batch_size=8)
PLAIN = recipe("modern", epochs=2, patience=0, batch_size=8, crop=False, mirror=False, colour=0.0)


def write_data(folder: Path, *, folds: int = 3, other: dict[int, str] | None = None) -> Path:
    """Images whose class is the brighter half; `other` labels replace some."""
    folder.mkdir(exist_ok=True)
    lines = ["path,side,tone,fold"]
    for row in range(N):
        pixels = np.random.default_rng([9, row]).integers(0, 160, (8, 8, 3), dtype=np.uint8)
        side, tone = row % 2, row // 2 % 2
        pixels[4 * side : 4 * side + 4] += 95
        pixels[..., 0] //= 1 + 3 * tone
        Image.fromarray(pixels).save(folder / f"{row}.png")
        label = (other or {}).get(row, "upper" if side == 0 else "lower")
        lines.append(f"{row}.png,{label},{('red', 'blue')[tone]},{row % (2 * folds) // 2}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return folder / "data.csv"


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_data(tmp_path / "data"))


@pytest.fixture
def card(tiny_card: Callable[..., Path]) -> str:
    return str(
        tiny_card("[8, 8]", "[8, 8]\nmean = [127.0, 127.0, 127.0]\nstd = [64.0, 64.0, 64.0]")
    )


def rows_of(study: Path, **wanted: object) -> list[Row]:
    found = results.read(study / "results.csv")
    return [r for r in found if all(getattr(r, k) == v for k, v in wanted.items())]


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
        stored = predictions.read(study / "predictions.h5", mine[0].stored)
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
    found = {(r.method, r.layer, r.depth, r.domain) for r in rows_of(study)}
    assert found == {
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
        (one,) = compare(study, "tiny/-/finetune", f"tiny/-/{other}")
        assert one.images == N
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
    (found,) = curves(open_study(study))
    assert sorted(c.method for c in found.tuned) == sorted(methods)
    assert {c.method: c.kind for c in found.tuned}["scratch+gilnet"] == "scratch"
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
        scores.append(predictions.read(tmp_path / name / "predictions.h5", row.stored).scores)
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
        store = tmp_path / name / "predictions.h5"
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
    found = predict(job, rows, "10crop")
    network.eval()
    for row, p in zip(rows.tolist(), found, strict=True):
        image = Image.open(study.root / study.paths[row]).convert("RGB").resize((9, 9), 2)
        pixels = np.asarray(image).astype(np.float32)
        total = np.zeros(2)
        for top in (0, 1):
            for left in (0, 1):
                total += softmax_of(network, pixels[top : top + 8, left : left + 8])
                total += softmax_of(network, pixels[top : top + 8, left : left + 8][:, ::-1])
        total += softmax_of(network, pixels[:8, :8]) + softmax_of(network, pixels[:8, :8][:, ::-1])
        np.testing.assert_allclose(p, total / 10, rtol=1e-5)


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
    assert done.notes == ["1 images cannot be read (first: 3.png); left out"]
    (row, *_) = rows_of(tmp_path / "s")
    assert predictions.read(tmp_path / "s" / "predictions.h5", row.stored).fold[3] == -1


@pytest.mark.parametrize("task", ["age"])
def test_frozen_through_the_last_layer_is_a_probe(tmp_path: Path, task: str) -> None:
    """On the sample: the same features, so the same accuracy as logistic, within its noise.

    Noise is that of the paired difference over 600 images: its standard error from the images on
    which the two disagree.
    """
    extract(tmp_path, "sample-faces", data="sample", layers=["fc6"], device="cpu")
    fit(tmp_path, probes=["logistic"], tasks=[task])
    plain = recipe(
        "modern", epochs=25, patience=5, crop=False, mirror=False, colour=0.0, smoothing=0.0
    )
    finetune(
        tmp_path, "sample-faces", tasks=[task], freeze_through=["fc6"], recipe=plain,
        views=["center"], device="cpu",
    )  # fmt: skip
    y = open_study(tmp_path).labels(task)
    hits = []
    for method in ("frozen", "logistic"):
        (row, *_) = rows_of(tmp_path, method=method, layer="fc6", task=task)
        hits.append(predictions.read(tmp_path / "predictions.h5", row.stored).scores.argmax(1) == y)
    difference = hits[0].astype(float) - hits[1]
    assert abs(difference.mean()) < 2.6 * difference.std() / np.sqrt(len(y)), [
        h.mean() for h in hits
    ]
    assert np.mean([h.mean() for h in hits]) > 1.5 / 8  # and both have learnt something


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["finetune", "--device", "cpu", *words])
    return done.exit_code, done.stderr


def test_command(tmp_path: Path, card: str, data: str) -> None:
    study = tmp_path / "study"
    words = ["finetune", "--study", str(study), "-b", card, "--data", data, "-t", "side", "--json"]
    words += ["--freeze-through", "all", "--epochs", "1", "--patience", "0", "--device", "cpu"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert {r["layer"] for r in json.loads(done.stdout)["rows"]} == {
        "pixels",
        "conv",
        "act",
        "pool",
        "fc",
    }
    done = CliRunner().invoke(app, words)
    assert "0 networks trained" in done.stderr
    assert "5 results were there already" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--freeze-through", "cnv"], 3, "error: tiny has no layer cnv; did you mean conv"),
        (["-t", "sidd"], 3, "error: --task sidd: there is no such label column; did you mean side"),
        (["--recipe", "x"], 3, "error: --recipe x: not a recipe"),
        (["--views", "11crop"], 3, "error: --view 11crop: not a view; did you mean 10crop"),
        (["--accumulate", "0"], 3, "error: --accumulate 0"),
        (["--precision", "amp"], 3, "error: --precision amp: mixed precision is for a GPU"),
        (["--keep-above"], 3, "error: --keep-above: says what lies above a cut"),
        (["--rate", "1e35", "-t", "side"], 4, "error: the loss became NaN or infinite in epoch "),
    ],
)
def test_errors_are_one_sentence(
    tmp_path: Path, card: str, data: str, words: list[str], code: int, said: str
) -> None:
    study = tmp_path / "study"
    found, stderr = run("--study", str(study), "-b", card, "--data", data, *words)
    assert found == code
    assert stderr.splitlines()[-1].startswith(said)
    assert code == 4 or not study.exists()


def test_epochs_go_to_tensorboard(
    tmp_path: Path, card: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--study", str(tmp_path / "s"), "-b", card, "--data", data, "-t", "side"]
    words += ["--epochs", "2", "--patience", "2", "--views", "center"]
    words += ["--tensorboard", str(tmp_path / "board")]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        code, stderr = run(*words)
    assert code == 3
    assert "the package tensorboard is not installed; run `pip install" in stderr.splitlines()[-1]
    assert not (tmp_path / "s").exists()
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert run(*words)[0] == 0
    for line in history.read(tmp_path / "s" / "training.csv"):
        stage = line.stage if line.stage == "whole" else f"inner-{line.rate:g}"
        folder = tmp_path / "board" / f"tiny@side-finetune-fold{line.fold}-{stage}"
        found = loading.EventAccumulator(str(folder))
        found.Reload()
        scalars = {(e.step): e.value for e in found.Scalars("loss")}
        assert scalars[line.epoch.epoch + 1] == pytest.approx(line.epoch.loss, rel=1e-4)
        assert ("inner_loss" in found.Tags()["scalars"]) == (line.stage == "inner")


NORMED = """
name = "normed"
domain = "d"
network = "./normed.py:build"
[input]
size = [8, 8]
[layers]
norm = "1"
"""
BUILD = """
from torch import nn
def build():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 5))
"""


@pytest.mark.parametrize(
    "words", [["--batch-size", "1"], ["--batch-size", "4", "--accumulate", "4"]]
)
def test_batches_of_one_are_refused_with_a_batch_norm_that_learns(
    tmp_path: Path, data: str, words: list[str]
) -> None:
    (tmp_path / "normed.py").write_text(BUILD)
    (tmp_path / "normed.toml").write_text(NORMED)
    words = [*words, "-b", str(tmp_path / "normed.toml"), "--data", data, "--weights", "random"]
    words += ["-t", "side", "--epochs", "1", "--patience", "0", "--study", str(tmp_path / "s")]
    code, stderr = run(*words)
    assert code == 3
    said = stderr.splitlines()[-1]
    assert said.startswith("error: --batch-size ")
    assert "the batch norm 1 needs two images or more at a time, and gets 1" in said
    assert not (tmp_path / "s").exists()
    assert run(*words, "--freeze-through", "norm")[0] == 0


def test_a_class_in_one_fold_only_is_said(tmp_path: Path, card: str) -> None:
    other = write_data(tmp_path / "d", other={0: "both", 6: "both"})
    found, stderr = run(
        "--study", str(tmp_path / "s"), "-b", card, "--data", str(other), "-t", "side"
    )
    assert found == 3
    assert "all images of the class 'both' are in fold 0" in stderr


def test_a_backbone_without_weights_cannot_be_trained(tmp_path: Path, data: str) -> None:
    found, stderr = run("--study", str(tmp_path / "s"), "-b", "control:pixels", "--data", data)
    assert found == 3
    assert "has no weights that could be trained" in stderr


@pytest.mark.slow
def test_killed_from_outside_at_twenty_moments(tmp_path: Path, card: str, data: str) -> None:
    """SIGKILL, again and again, until the run is through: weights and scores of a run left alone."""
    words = [sys.executable, "-c", "from cli.app import main; main()", "finetune", "-b", card]
    words += ["--data", data, "-t", "side", "--device", "cpu", "--epochs", "30", "--patience", "30"]
    words += ["--batch-size", "8", "--save"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = tmp_path / "whole"
    started = time.monotonic()
    subprocess.run([*words, "--study", str(whole)], env=environment, check=True)
    seconds = time.monotonic() - started
    (row, *_) = rows_of(whole)
    scores = predictions.read(whole / "predictions.h5", row.stored).scores
    kills, number, chance, resumed = 0, 0, np.random.default_rng(0), 0
    while kills < 20:
        study = tmp_path / str(number)
        for _ in range(3):
            with subprocess.Popen([*words, "--study", str(study)], env=environment) as process:
                time.sleep(seconds * chance.uniform(0.3, 0.95))
                process.send_signal(signal.SIGKILL)
            kills += process.returncode == -signal.SIGKILL
        resumed += any((study / "training").rglob("fold-*"))
        subprocess.run([*words, "--study", str(study)], env=environment, check=True)
        again = predictions.read(study / "predictions.h5", row.stored).scores
        np.testing.assert_array_equal(again, scores)
        for fold in range(3):
            name = f"networks/tiny@side-finetune-fold{fold}.safetensors"
            one, other = load_file(whole / name), load_file(study / name)
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key], other[key]) for key in one)
        number += 1
        assert number < 40
    assert resumed  # some were killed amid training, not only before or after


def test_search_takes_the_rate_with_the_best_inner_loss(
    tmp_path: Path, card: str, data: str
) -> None:
    study = tmp_path / "study"
    tried = recipe("modern", epochs=6, patience=3, batch_size=8, rate=1e-3)
    finetune(study, card, data=data, tasks=["side"], recipe=tried, search=True, device="cpu")
    with (study / "training.csv").open() as file:
        lines = list(csv.DictReader(file))
    for row in rows_of(study, views="center"):
        inner = [x for x in lines if x["stage"] == "inner" and int(x["fold"]) == row.fold]
        assert len({x["rate"] for x in inner}) == 3
        best = min(inner, key=lambda x: float(x["inner_loss"]))
        assert row.epochs == int(best["epoch"])
        assert f"rate {float(best['rate']):g} chosen" in row.recipe
        whole = [x for x in lines if x["stage"] == "whole" and int(x["fold"]) == row.fold]
        assert {x["rate"] for x in whole} == {best["rate"]}
        assert row.selection == pytest.approx(-float(best["inner_loss"]), rel=1e-4)


def test_search_without_patience_chooses_the_rate_alone(
    tmp_path: Path, card: str, data: str
) -> None:
    """All epochs are trained, so that a rate is judged by what it comes to after all of them."""
    tried = recipe("modern", epochs=6, patience=0, batch_size=8, rate=0.1)
    done = finetune(
        tmp_path / "s", card, data=data, tasks=["side"], recipe=tried, search=True, device="cpu"
    )
    assert not done.notes
    epochs = history.read(tmp_path / "s" / "training.csv")
    for row in rows_of(tmp_path / "s", views="center"):
        mine = [e for e in epochs if e.fold == row.fold]
        last = {
            e.rate: e.epoch.inner_loss for e in mine if e.stage == "inner" and e.epoch.epoch == 5
        }
        best = min(last, key=lambda rate: last[rate] or 0.0)
        assert len(last) == 3
        assert {e.rate for e in mine if e.stage == "whole"} == {best}
        assert len([e for e in mine if e.stage == "whole"]) == row.epochs == 6
        assert row.selection == pytest.approx(-(last[best] or 0.0))
        assert (row.at_edge, row.converged) == (0, 1)


def test_a_rate_that_diverges_loses_the_search(tmp_path: Path, card: str, data: str) -> None:
    wild = recipe("gilnet", epochs=2, batch_size=8, rate=1e18, crop=False)
    with pytest.raises(Stopped):
        finetune(tmp_path / "a", card, data=data, tasks=["side"], recipe=wild, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probe.finetuning.plan.SEARCH", (1e-22, 1.0))
        finetune(
            tmp_path / "b", card, data=data, tasks=["side"], recipe=wild, search=True, device="cpu"
        )
    assert {r.recipe for r in rows_of(tmp_path / "b")} == {"gilnet; rate 0.0001 chosen"}


def test_a_trained_network_is_a_backbone_of_its_own(tmp_path: Path, card: str, data: str) -> None:
    """Its features come from the trained layers, and its scores are those in predictions.h5."""
    study = tmp_path / "study"
    learn = recipe(
        "modern", epochs=3, patience=0, batch_size=8, crop=False, mirror=False, colour=0.0
    )
    finetune(study, card, data=data, tasks=["side"], recipe=learn, save=True, device="cpu")
    cards = sorted((study / "networks").glob("*.toml"))
    assert [c.stem for c in cards] == [f"tiny@side-finetune-fold{f}" for f in range(3)]
    made = load(str(cards[1]))
    assert (made.name, made.domain) == ("tiny@side-finetune-fold1", "task")
    assert made.architecture.card.pair == "tiny"
    assert [x.name for x in made.layers()] == [x.name for x in load(card).layers()]
    (row, *_) = rows_of(study, views="center")
    stored = predictions.read(study / "predictions.h5", row.stored)
    tested = np.flatnonzero(stored.fold == 1)
    extract(study, str(cards[1]), layers=["conv", "fc"], device="cpu")
    with open_study(study).features(made.name) as file:
        scores, conv = file.read("fc")[tested], file.read("conv")[tested]
    shifted = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    np.testing.assert_allclose(shifted, stored.scores[tested], rtol=1e-3, atol=1e-4)
    extract(study, card, layers=["conv"], device="cpu")
    with open_study(study).features("tiny") as file:
        before = file.read("conv")
    assert not np.allclose(before[tested], conv)
    report(study)
    legend = (study / "report" / "index.html").read_text(encoding="utf-8")
    assert "fine-tuned</li>" in legend
    assert "trained from scratch</li>" not in legend
    with (study / "report" / "changes.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert (line["backbone"], line["origin"], line["layer"]) == (made.name, "tiny", "conv")
    with open_study(study).features(made.name) as file:
        grams = [u_centred(linear_gram(x)) for x in (before, file.read("conv"))]
    assert float(line["cka"]) == pytest.approx(alignment(*grams))
    assert 0.1 < float(line["cka"]) < 0.9999


def test_selffer_networks_start_from_the_network_of_their_own_fold(
    tmp_path: Path, card: str, data: str
) -> None:
    study = tmp_path / "study"
    with pytest.raises(InputError, match=r"no such network was trained here; run .* --save first"):
        finetune(
            study, card, data=data, tasks=["side"], base="scratch", freeze_through=["conv"],
            recipe=QUICK, device="cpu",
        )  # fmt: skip
    assert not study.exists()
    finetune(
        study, card, data=data, tasks=["side"], from_scratch=True, recipe=QUICK, save=True,
        device="cpu",
    )  # fmt: skip
    finetune(
        study, card, tasks=["side"], base="scratch", freeze_through=["conv"], recipe=QUICK,
        save=True, device="cpu",
    )  # fmt: skip
    rows = rows_of(study, method="frozen")
    assert {(r.backbone, r.domain, r.layer) for r in rows} == {("tiny@scratch", "task", "conv")}
    for fold in range(3):
        first = load_file(study / "networks" / f"tiny@side-scratch-fold{fold}.safetensors")
        second = load_file(
            study / "networks" / f"tiny@scratch@side-frozen-conv-fold{fold}.safetensors"
        )
        assert torch.equal(first["conv.weight"], second["conv.weight"])
        assert not torch.equal(first["fc.weight"], second["fc.weight"])
    other = load_file(study / "networks" / "tiny@side-scratch-fold0.safetensors")
    assert not torch.equal(first["conv.weight"], other["conv.weight"])


def test_a_network_that_saw_the_test_fold_is_refused(tmp_path: Path, card: str, data: str) -> None:
    study = tmp_path / "study"
    finetune(study, card, data=data, tasks=["side"], recipe=QUICK, save=True, device="cpu")
    folder = study / "networks"
    shutil.copy(
        folder / "tiny@side-finetune-fold1.safetensors",
        folder / "tiny@side-finetune-fold0.safetensors",
    )
    with pytest.raises(InputError, match="trained on other rows than this fold's training rows"):
        finetune(
            study, card, tasks=["side"], base="finetune", copy_through=["conv"], recipe=QUICK,
            device="cpu",
        )  # fmt: skip


@pytest.mark.parametrize("tasks", [["tone"], ["side", "tone"]])
def test_the_head_starts_as_the_probe(
    tmp_path: Path, card: str, data: str, tasks: list[str]
) -> None:
    """At a rate of nothing, what is scored is scikit-learn's logistic regression at one of its C."""
    study = tmp_path / "study"
    still = recipe(
        "modern",
        epochs=1,
        patience=0,
        batch_size=8,
        rate=1e-30,
        crop=False,
        mirror=False,
        colour=0.0,
    )
    finetune(
        study, card, data=data, tasks=tasks, freeze_through=["pool"], probe_first=True, recipe=still,
        views=["center"], device="cpu",
    )  # fmt: skip
    extract(study, card, layers=["pool"], pool=["none"], device="cpu")
    with open_study(study).features("tiny") as file:
        x = file.read("pool").astype(float)
    for task in tasks:
        y = open_study(study).labels(task)
        (row, *_) = rows_of(study, task=task)
        assert "head from the probe" in row.recipe
        stored = predictions.read(study / "predictions.h5", row.stored)
        for fold in range(3):
            train, test = stored.fold != fold, stored.fold == fold
            mean, sd = x[train].mean(0), x[train].std(0)
            z = (x - mean) / np.where(sd > 0, sd, np.inf)
            nearest = np.inf
            for point in GRID[::2]:
                c = point / (z[train] ** 2).sum(1).mean()
                model = LogisticRegression(C=c, max_iter=2000).fit(z[train], y[train])
                apart = np.abs(model.predict_proba(z[test]) - np.exp(stored.scores[test])).max()
                nearest = min(nearest, apart)
            assert nearest < 0.02


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
        r.method: predictions.read(study / "predictions.h5", r.stored).fold >= 0
        for r in rows_of(study)
        if r.method in ("logistic", "finetune")
    }
    assert tested["logistic"].sum() == 24
    assert (tested["logistic"] == tested["finetune"]).all()
    report(study)

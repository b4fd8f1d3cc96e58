"""The command line: exit codes, one sentence per mistake, nothing left behind, data on stdout."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cli.app import app
from features.study.study import open_study


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Result, *said: str, code: int = 3) -> None:
    """The exit code, one line on stderr that says all of `said`, no traceback."""
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in said:
        assert word in errors[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def images(folder: Path) -> Path:
    """Two classes of twelve images, told apart by colour."""
    rng = np.random.default_rng(0)
    for label, shade in (("dark", 60), ("light", 190)):
        (folder / "images" / label).mkdir(parents=True)
        for i in range(12):
            pixels = rng.normal(shade, 40, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / label / f"{i:02}.png")
    return folder / "images"


PIXELS = ("extract", "--backbone", "control:pixels")


def test_the_three_commands_and_their_files(images: Path) -> None:
    assert run(*PIXELS, "--data", images).exit_code == 0
    assert run("fit", "--probe", "knn", "--folds", "3").exit_code == 0
    assert run("report").exit_code == 0
    names = {path.name for path in Path("study/report").iterdir()}
    tables = ("best", "table", "folds", "classes", "confusion", "backbones", "cost")
    assert names == {"index.html"} | {
        f"{stem}.{kind}" for stem in tables for kind in ("csv", "md", "tex")
    } | {f"curves-label.{kind}" for kind in ("svg", "png", "pdf")}


def test_json_is_all_there_is_on_stdout(images: Path) -> None:
    for words in (
        (*PIXELS, "--data", str(images)),
        ("fit", "--folds", "3"),
        ("report",),
        ("status",),
    ):
        result = run(*words, "--json")
        assert result.exit_code == 0, result.output
        json.loads(result.stdout)


def test_no_data_and_no_study_means_the_sample(folder: Path) -> None:
    result = run(*PIXELS, "--limit", "16")
    assert result.exit_code == 0
    assert "sample" in result.stderr
    assert "SYNTHETIC" in result.stderr


def test_weights_that_are_not_here_name_the_way_to_get_them(folder: Path) -> None:
    result = run("extract", "--backbone", "alexnet", "--data", "sample")
    refused(result, "alexnet", "--weights FILE", "--weights random")
    assert not Path("study").exists()


def test_empty_folder(folder: Path) -> None:
    Path("nothing").mkdir()
    refused(run(*PIXELS, "--data", "nothing"), "nothing", "no image")
    assert not Path("study").exists()


def test_a_text_file_among_images_is_listed_and_the_rest_goes_on(images: Path) -> None:
    (images / "dark" / "note.jpg").write_text("not an image")
    result = run(*PIXELS, "--data", images)
    assert result.exit_code == 0
    assert "dark/note.jpg" in result.stderr
    assert json.loads(run("status", "--json").stdout)["unreadable"] == {
        "dark/note.jpg": "not an image"
    }
    assert run("fit", "--folds", "3", "--probe", "ridge").exit_code == 0


def test_strict_stops_at_it(images: Path) -> None:
    (images / "dark" / "note.jpg").write_text("not an image")
    refused(run(*PIXELS, "--data", images, "--strict"), "note.jpg")


def test_manifest_without_path(folder: Path) -> None:
    Path("m.csv").write_text("file,label\na.png,x\n")
    refused(run(*PIXELS, "--data", "m.csv"), "m.csv", "path")
    assert not Path("study").exists()


def test_a_task_with_one_class(images: Path) -> None:
    rows = [f"images/dark/{i:02}.png,same" for i in range(12)]
    Path("m.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    refused(run(*PIXELS, "--data", "m.csv"), "label", "two classes")
    assert not Path("study").exists()


def test_fewer_subjects_than_folds(images: Path) -> None:
    rows = [
        f"images/{label}/{i:02}.png,{label},s{i % 3}"
        for label in ("dark", "light")
        for i in range(12)
    ]
    Path("m.csv").write_text("path,shade,subject\n" + "\n".join(rows) + "\n")
    assert run(*PIXELS, "--data", "m.csv").exit_code == 0
    refused(run("fit"), "3 subjects", "5 folds", "--folds 3")
    assert run("fit", "--folds", "3", "--probe", "ridge").exit_code == 0


def test_unknown_layer_has_near_matches(folder: Path) -> None:
    result = run("extract", "--backbone", "gilnet", "--layer", "fc66", "--weights", "random")
    refused(result, "fc66", "fc6")
    assert not Path("study").exists()


def test_fit_before_extract(folder: Path) -> None:
    refused(run("fit"), "no study", "probe extract")
    refused(run("report"), "no study")
    assert not Path("study").exists()


def test_report_before_fit(images: Path) -> None:
    run(*PIXELS, "--data", images)
    refused(run("report"), "probe fit")


def test_a_card_with_a_typo(folder: Path) -> None:
    Path("mine.toml").write_text(
        'name = "x"\ndomain = "d"\nnetwork = "torchvision:alexnet"\n[input]\nsizes = [1, 2]\n'
    )
    refused(run("extract", "--backbone", "./mine.toml"), "mine.toml line 5", "sizes", "size")
    assert not Path("study").exists()


def test_weights_that_are_a_web_page(folder: Path) -> None:
    Path("w.pth").write_text("<!DOCTYPE html><html><body>404</body></html>")
    refused(run("extract", "--backbone", "alexnet", "--weights", "w.pth"), "w.pth", "web page")
    assert not Path("study").exists()


def test_nan_features_name_image_and_layer(images: Path) -> None:
    Path("net.py").write_text(
        "import torch\n"
        "class Bad(torch.nn.Module):\n"
        "    def forward(self, x): return x.flatten(1).log() * 0 + float('nan')\n"
        "def build():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), Bad())\n"
    )
    Path("mine.toml").write_text(
        'name = "bad"\ndomain = "d"\nnetwork = "./net.py:build"\n[input]\nsize = [8, 8]\n'
        '[layers]\nout = "1"\n'
    )
    words = ("extract", "--backbone", "./mine.toml", "--weights", "random", "--data", images)
    refused(run(*words), "dark/00.png", "out", "NaN")
    assert not Path("study").exists()


def test_a_wrong_option_is_the_command_lines_fault(folder: Path) -> None:
    assert run("fit", "--nonsense").exit_code == 2
    assert run("extract").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("fit", "--task", "lable"),
        ("fit", "--layer", "pixel"),
        ("fit", "--backbone", "control:pixel"),
        ("remove", "control:pixel"),
        ("layers", "vggfase"),
        (*PIXELS, "--data", "elsewhere"),
    ],
)
def test_unknown_names_are_refused_with_a_sentence(images: Path, words: tuple[str, ...]) -> None:
    run(*PIXELS, "--data", images)
    refused(run(*words))


def test_a_value_that_an_option_never_takes_is_the_command_lines_fault(images: Path) -> None:
    run(*PIXELS, "--data", images)
    run("fit", "--folds", "3", "--probe", "ridge")
    for command, option, value in (
        (("fit",), "--C", "1,x"),
        (("fit",), "--C", "-1"),
        (("fit",), "--shots", "1,five"),
        (("fit",), "--shots", "0"),
        (("fit",), "--view", "11crop"),
        (("fit",), "--folds", "1"),
        (("fit",), "--tol", "2"),
        (("rank",), "--rows", "3"),
        (("finetune", "-b", "sample-faces"), "--epochs", "0"),
        (("finetune", "-b", "sample-faces"), "--precision", "float"),
        (PIXELS, "--pool", "grid:x"),
        (PIXELS, "--device", "gpu"),
        (PIXELS, "--dtype", "float64"),
        (PIXELS, "--precision", "fp8"),
        (PIXELS, "--compress", "zip"),
        (PIXELS, "--limit", "0"),
    ):
        refused(run(*command, option, value), option, code=2)
    refused(run("compare", "control:pixels", "a/b/c"), "a/b/c: no such result")
    refused(run("compare", "a/b/c", "a/b/c"), "no such result")


def test_what_was_checked_is_what_is_extracted(images: Path) -> None:
    """Without --data, and said so; of data that nobody checked the sample is drawn."""
    assert run("data", "check", "--data", images).exit_code == 0
    done = run(*PIXELS)
    assert done.exit_code == 0
    assert f"using {images.resolve()}, which `probe data check` looked at last" in done.stderr
    assert open_study("study").source == str(images.resolve())
    assert "no --data given" not in run(*PIXELS).stderr  # the study remembers it by then
    assert "built-in sample" in run(*PIXELS, "--limit", "2", "--study", "other").stderr


def test_other_data_for_the_same_study_are_refused(images: Path) -> None:
    run(*PIXELS, "--data", images)
    refused(run(*PIXELS, "--data", "sample"), "another --study")


def test_remove_takes_a_backbone_out(images: Path) -> None:
    run(*PIXELS, "--data", images)
    run("fit", "--folds", "3", "--probe", "ridge")
    assert run("remove", "control:pixels").exit_code == 0
    assert json.loads(run("status", "--json").stdout)["features"] == []
    with Path("study/results.csv").open() as file:
        left = [row["backbone"] for row in csv.DictReader(file)]
    assert left == ["control:majority"] * 3  # which is of the data
    assert "nothing is fitted yet" in run("report").stderr


def test_import_fit_report(folder: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.repeat(["a", "b"], 30)
    features = rng.normal(size=(60, 5)) + 3 * (label == "b")[:, None]
    np.savez("f.npz", features=features, label=label)
    assert run("import", "f.npz", "--name", "mine", "--layer", "last").exit_code == 0
    assert run("fit", "--probe", "logistic").exit_code == 0
    result = run("report", "--json")
    best = [
        line for line in json.loads(result.stdout)["tables"]["table"] if line["layer"] == "best"
    ]
    assert best[0]["accuracy"] > 0.95


def test_every_listing_is_tab_separated_in_a_pipe(folder: Path) -> None:
    lines = run("layers", "gilnet").stdout.splitlines()
    assert lines[0].split("\t") == [
        "layer",
        "module",
        "output",
        "shape",
        "size",
        "depth",
        "default",
    ]
    assert [line.split("\t")[0] for line in lines[1:]][:3] == ["conv1", "pool1", "norm1"]


def test_rows_that_came_later_are_fitted_and_reported(images: Path) -> None:
    assert run(*PIXELS, "--data", images).exit_code == 0
    assert run("fit", "--probe", "knn", "--folds", "3").exit_code == 0
    rng = np.random.default_rng(1)
    for label, shade in (("dark", 60), ("light", 190)):
        for i in range(12, 18):
            pixels = rng.normal(shade, 40, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(images / label / f"{i:02}.png")
    assert run(*PIXELS, "--update").exit_code == 0
    assert run("fit", "--probe", "knn", "--folds", "3").exit_code == 0
    assert run("report").exit_code == 0
    with Path("study/results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["layer"] == "pixels"]
    assert [row["fold"] for row in rows] == ["0", "1", "2"]
    assert sum(int(row["n_test"]) for row in rows) == 36


def test_an_npy_file_is_a_layer_of_a_study_that_is_there(folder: Path) -> None:
    features = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    np.savez("f.npz", features=features, label=np.arange(20) % 2)
    np.save("more.npy", features + 1)
    refused(run("import", "more.npy", "--name", "mine", "--layer", "first"), "label")
    assert run("import", "f.npz", "--name", "mine", "--layer", "first").exit_code == 0
    assert run("import", "more.npy", "--name", "mine", "--layer", "last").exit_code == 0
    with open_study("study").features("mine") as file:
        assert (file.read("last") == features + 1).all()
    Path("bad.npy").write_bytes(b"not numbers")
    refused(
        run("import", "bad.npy", "--name", "mine", "--layer", "other"), "bad.npy: cannot be read"
    )
    np.save("objects.npy", np.array([{}] * 20))
    refused(run("import", "objects.npy", "--name", "mine", "--layer", "other"), "objects.npy")

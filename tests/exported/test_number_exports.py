"""Exports of a number: the weights, the promise, the file, the command and the graphs."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toys
from exported.conftest import photo
from sklearn.linear_model import Ridge
from typer.testing import CliRunner

from cli.app import app
from features.arrays import Doubles, Floats, Ints
from features.errors import InputError
from features.extraction.extract import extract
from features.study.study import Study, open_study
from probe.analysis.statistics import mean_interval
from probe.exported import file as files
from probe.exported.export import export
from probe.exported.exported_probe import load_probe
from probe.exported.number_promise import NumberPromise, number_promise_of
from probe.exported.refit import Refitted
from probe.exported.refit_numbers import refit_numbers
from probe.fitting.fit import fit
from probe.folds.splits import Splits
from probe.probes.layer import Source
from probe.probes.settings import ProbeSettings

ALPHAS = (1e4, 100.0, 1.0, 0.01)


def drawn(n: int, dim: int) -> tuple[Floats, Doubles]:
    random = np.random.default_rng(dim)
    x = (random.standard_normal((n, dim)) * random.uniform(0.1, 9, dim) + 7).astype(np.float32)
    return x, 40 + x @ random.standard_normal(dim) / dim + random.standard_normal(n)


def refitted(x: Floats, y: Doubles, scale: str, part: Ints) -> Refitted:
    settings = ProbeSettings("ridge", scale, tuple(1 / a for a in ALPHAS), False, "grid")
    return refit_numbers(Source.of(x), y, Splits(part, np.arange(5)), settings)


def scaled(x: Floats, of: Floats, scale: str) -> Doubles:
    z = x.astype(np.float64)
    if scale == "l2":
        return z / np.linalg.norm(z, axis=1, keepdims=True)
    if scale == "standard":
        return (z - of.mean(0, dtype=np.float64)) / of.std(0, dtype=np.float64)
    return z


@pytest.mark.parametrize("scale", ["standard", "l2", "none"])
@pytest.mark.parametrize("dim", [7, 120])
def test_the_weights_are_those_of_scikit_learns_ridge(dim: int, scale: str) -> None:
    x, y = drawn(80, dim)
    part = np.arange(80) // 4 % 5
    errors = dict.fromkeys(ALPHAS, 0.0)
    for fold in range(5):
        out = part == fold
        for alpha in ALPHAS:
            model = Ridge(alpha).fit(scaled(x[~out], x[~out], scale), y[~out])
            off = model.predict(scaled(x[out], x[~out], scale)) - y[out]
            errors[alpha] += np.square(off).sum()
    # Rows of no part have no say, and no number.
    wild = np.concatenate([x, 1e3 * np.ones((3, dim), dtype=np.float32)])
    made = refitted(wild, np.append(y, [np.nan] * 3), scale, np.concatenate([part, np.full(3, -1)]))
    assert made.choice.value == pytest.approx(min(errors, key=lambda a: errors[a]))
    model = Ridge(made.choice.value).fit(scaled(x, x, scale), y)
    new, _ = drawn(30, dim)
    wanted = model.predict(scaled(new, x, scale))
    np.testing.assert_allclose(made.probe.scores(new)[:, 0], wanted, rtol=2e-5)


@pytest.mark.parametrize(("each", "new"), [(1, 200), (4, 60), (1, 1), (2, 6)])
def test_new_errors_lie_inside_as_often_as_promised(each: int, new: int) -> None:
    def errors(subjects: Ints, seed: int) -> Doubles:
        random = np.random.default_rng(seed)
        spread = random.gamma(4, 2, int(subjects.max()) + 1)[subjects]
        return np.abs(spread * random.standard_normal(len(subjects)))

    inside, times = 0, 600
    for seed in range(times):
        subjects = np.arange(300) // each
        first = errors(subjects, seed)
        promise = number_promise_of(mean_interval(first, subjects), first, subjects, "years")
        others = np.arange(new) // each
        low, high = promise.predicted(others.tolist())
        inside += low <= errors(others, 10_000 + seed).mean() <= high
    assert 0.92 <= inside / times <= 0.985


def test_one_sample_that_knows_everything_leaves_the_chance_of_the_other() -> None:
    known = NumberPromise(8.0, 8.0, 8.0, 10**9, 10**9, 1e9, 0.0, 4.0, "years")
    low, high = known.predicted([None] * 400)
    assert low == pytest.approx(8 - 1.96 * 4 / 20, abs=0.02)
    assert high == pytest.approx(8 + 1.96 * 4 / 20, abs=0.02)
    both = replace(known, low=8 - 0.392, high=8 + 0.392).predicted([None] * 400)
    assert both[1] - both[0] == pytest.approx(2**0.5 * (high - low), rel=0.01)
    many = replace(known, sd=4e-4).predicted([None] * 400)
    assert many == pytest.approx((8 - 3.92e-5, 8 + 3.92e-5), abs=1e-7)


def write_ages(folder: Path, rows: range) -> Path:
    """Images and their manifest: the brighter, the older; two of every subject, one without an age."""
    folder.mkdir(parents=True)
    lines = ["path,age,tone,subject"]
    for row in rows:
        image = photo(row)
        image.save(folder / f"{row:03}.png")
        age = f"{np.asarray(image).mean() / 4 + np.random.default_rng(row).normal(0, 1):.2f}"
        tone = ("dark", "bright")[row % 2]
        lines.append(f"{row:03}.png,{age if row % 20 else ''},{tone},s{row // 2}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return folder / "data.csv"


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("aged")
    card = toys.write_card(folder / "cards")
    extract(
        folder / "study", str(card), data=str(write_ages(folder / "photos", range(60))),
        layers=["pool", "fc"], pool=["auto"],
    )  # fmt: skip
    fit(folder / "study", tasks=["age:number"], probes=["ridge", "knn"])
    return open_study(folder / "study")


def card_of(study: Study) -> str:
    return str(study.folder.parent / "cards" / "tiny.toml")


def test_a_number_is_exported_and_held_to_its_promise(aged: Study, tmp_path: Path) -> None:
    out, new = tmp_path / "age.probe", write_ages(tmp_path / "new", range(60, 100))
    result = CliRunner().invoke(
        app,
        ["export", "--study", str(aged.folder), "-t", "age:number", "--out", str(out),
         "-b", card_of(aged)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "promises a mean absolute error of" in result.stderr.replace("\n", " ")
    with new.open("a") as manifest:
        manifest.write("061.png,old,,\nnone.png,3,,\n")
    result = CliRunner().invoke(app, ["predict", str(out), str(new), "-b", card_of(aged)])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    lines = list(csv.DictReader(result.stdout.splitlines()))
    assert list(lines[0]) == ["path", "value", "distance", "quantile", "far", "unreadable"]
    assert lines[-1]["value"] == ""
    assert lines[-1]["unreadable"]
    truth = [line.split(",")[1] for line in new.read_text().splitlines()[1:]]
    off = [
        abs(float(line["value"]) - float(age))
        for line, age in zip(lines[:40], truth[:40], strict=True)
        if age
    ]
    assert (
        f"age: off by {np.mean(off):.2f} units of age in the mean over 38 labelled images" in said
    )
    assert "the promise is kept" in said
    assert "'old' first, no number" in said
    one = load_probe(out, backbone=card_of(aged))
    made = one.predict([tmp_path / "new" / "061.png", tmp_path / "new" / "062.png"])
    assert made.values is not None
    assert made.labels == [None, None]
    assert made.values[0] == pytest.approx(float(lines[1]["value"]), abs=1e-4)
    assert "median" in repr(made)
    assert "mean absolute error" in repr(one)
    assert next(set(line) for line in made) == {"path", "value", "distance", "quantile", "far"}


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_graph_gives_the_number(aged: Study, tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"age.{kind}"
    said: list[str] = []
    export(
        aged.folder, "tiny/pool/ridge", out=out, format=kind, backbone=card_of(aged),
        announce=said.append,
    )  # fmt: skip
    assert "values differ" in said[-1]
    assert float(said[-1].split(" by ")[1].split()[0]) < 1e-4


def test_what_cannot_be_exported_is_said(aged: Study) -> None:
    with pytest.raises(InputError, match="such as tiny/fc/ridge"):
        export(aged.folder, "tiny/fc/knn", tasks=["age"])


def test_a_file_is_refused_whose_promise_is_none(aged: Study, tmp_path: Path) -> None:
    out = tmp_path / "age.probe"
    export(aged.folder, "tiny/fc/ridge", out=out, backbone=card_of(aged))
    contents = files.read(out)
    assert contents.about.is_number
    for wrong in ({"mae": -1.0}, {"high": 0.0}, {"sd": "x"}, {"within": 2.0}):
        about = replace(contents.about, promise={**contents.about.promise, **wrong})
        files.write(out, replace(contents, about=about))
        with pytest.raises(InputError, match="says less than an export has to"):
            files.read(out)
    files.write(out, replace(contents, about=replace(contents.about, classes=("a", "b"))))
    with pytest.raises(InputError, match="those of a number"):
        files.read(out)


def test_files_of_classes_stay_as_they_were(made: Study, tmp_path: Path) -> None:
    from safetensors import safe_open

    out = tmp_path / "tone.probe"
    export(made.folder, "tiny/fc/logistic", out=out)
    with safe_open(out, "pt") as opened:
        assert opened.metadata()["version"] == "2"
        about = json.loads(opened.metadata()["about"])
    del about["kind"], about["unit"]  # as files of before have it
    assert files._about(about).kind == "classes"

"""Features under a view are the mean over its crops, and stand beside those of the centre."""

import csv
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import studies
import torch
from sklearn.preprocessing import Normalizer, StandardScaler
from test_extract import contents, run
from torchvision.transforms.v2 import functional as F
from toys import draw, write_images

from features.backbone import Layer
from features.cards.network import build
from features.cards.reading import read_file
from features.errors import InputError
from features.extraction import pool as pooling
from features.store.featurefile import FeatureFile
from probe.fitting.fit import fit
from probe.probes.linear import sklearn_model
from probe.reporting.report import report
from probe.reporting.tables.variations import views_table
from probe.results import predictions
from probe.results import rows as results

pytestmark = pytest.mark.usefixtures("svg_alone")

LAYERS = ("pixels", "conv", "act", "pool", "fc")
ROOM = ("size = [8, 8]", "size = [8, 8]\nresize = [12, 10]\nmean = [90.0, 100.0, 110.0]")


def by_torchvision(card: Path, row: int, view: str) -> dict[str, Any]:
    """Every layer's mean over the crops that torchvision cuts."""
    image = draw(row).resize((10, 12), 2)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    if view == "flip":
        middle = F.center_crop(pixels, [8, 8])
        seen = [middle, F.horizontal_flip(middle)]
    else:
        seen = list(F.ten_crop(pixels, [8, 8]))
    x = torch.stack(seen).float() - torch.tensor([90.0, 100.0, 110.0]).view(3, 1, 1)
    net = build(read_file(card), seed=0)
    outputs = {"pixels": x}
    with torch.no_grad():
        outputs["conv"] = net.conv(x)  # type: ignore[operator]
        outputs["act"] = outputs["conv"].relu()
        outputs["pool"] = torch.nn.functional.max_pool2d(outputs["act"], 2)
        outputs["fc"] = net.fc(outputs["pool"].flatten(1))  # type: ignore[operator]
    found = {name: y.mean(0).flatten().numpy() for name, y in outputs.items()}
    return found | {
        f"{name}:avg": y.mean((0, 2, 3)).numpy() for name, y in outputs.items() if y.ndim == 4
    }


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_layer_under_every_view(
    tiny_card: Callable[..., Path], tmp_path: Path, dtype: str
) -> None:
    card, manifest = tiny_card(*ROOM), write_images(tmp_path / "images", 9, (4,), {8: 2})
    result = run(tmp_path / "s", card, manifest, views=("flip", "10crop"), dtype=dtype)
    plain = run(tmp_path / "plain", card, manifest, dtype=dtype)
    with FeatureFile(result.file) as file:
        with FeatureFile(plain.file) as other:
            assert file.keys == other.keys == other.stored
            for key in file.keys:
                np.testing.assert_array_equal(file.read(key), other.read(key))
        assert set(file.stored) == {
            f"{key}{at}" for key in file.keys for at in ("", "@flip", "@10crop")
        }
        assert not file.verify()
        for view in ("flip", "10crop"):
            for row in (0, 3, 7, 8):
                expected = by_torchvision(card, 2 if row == 8 else row, view)
                for key in file.keys:
                    np.testing.assert_allclose(
                        file.read(f"{key}@{view}")[row],
                        expected[key],
                        rtol=1e-4 if dtype == "float32" else 2e-3,
                        atol=1e-3 if dtype == "float32" else 0.1,
                    )
            assert np.isnan(file.read(f"fc@{view}")[4]).all()


def test_ten_crops_of_another_canvas_take_no_further_rows(
    tiny_card: Callable[..., Path], tmp_path: Path
) -> None:
    """As files of before, of a card that resizes to the crop's size: their crops were of 9 x 9 pixels."""
    card, manifest = tiny_card(), write_images(tmp_path / "images", 6, (), {})
    done = run(tmp_path / "s", card, manifest, views=("10crop",), limit=4)
    with h5py.File(done.file, "r+") as file:
        for key, data in file["layers"].items():
            if key.endswith("@10crop"):
                assert data.attrs["canvas"] == "8 x 8"
                del data.attrs["canvas"]
    with pytest.raises(
        InputError, match=r"cut from 9 x 9 pixels and now .* from 8 x 8; write `canvas"
    ):
        run(tmp_path / "s", card, views=("10crop",))
    run(
        tmp_path / "s",
        tiny_card("size = [8, 8]", "size = [8, 8]\ncanvas = [9, 9]"),
        views=("10crop",),
    )


def test_views_added_later_and_by_two_workers_are_the_same_bytes(
    tiny_card: Callable[..., Path], tmp_path: Path
) -> None:
    card, manifest = tiny_card(*ROOM), write_images(tmp_path / "images", 13, (4,), {8: 2})
    at_once = run(tmp_path / "once", card, manifest, lanes=1, views=("10crop",))
    run(tmp_path / "s", card, manifest, lanes=1)
    later = run(tmp_path / "s", card, lanes=1, views=("10crop",), workers=2)
    found, expected = contents(later.file), contents(at_once.file)
    assert found.keys() == expected.keys()
    for name in found:
        if name.startswith(("layers/", "checksums/")):
            assert found[name][0] == expected[name][0], name


def test_rows_that_come_later_are_seen_under_their_views(
    tiny_card: Callable[..., Path], tmp_path: Path
) -> None:
    card, manifest = tiny_card(*ROOM), write_images(tmp_path / "images", 13, (4,), {8: 2})
    options = {"views": ("flip", "10crop"), "batch_size": 1}  # so that batches are the same
    at_once = run(tmp_path / "once", card, manifest, **options)
    run(tmp_path / "s", card, manifest, limit=5, **options)
    later = run(tmp_path / "s", card, **options)
    found, expected = contents(later.file), contents(at_once.file)
    for name in expected:
        if name.startswith(("layers/", "checksums/")):
            assert found[name][0] == expected[name][0], name


def test_keys_of_a_plan_go_view_by_view() -> None:
    layers = [Layer("a", "a", (3, 4, 4), 0.5), Layer("b", "b", (7,), 1.0)]
    keys = [p.key for p in pooling.plan(layers, ["auto", "avg"], ["center", "flip"])]
    assert keys == ["a", "a:avg", "b", "a@flip", "a:avg@flip", "b@flip"]


def test_an_unknown_view_is_refused(tiny_card: Callable[..., Path], tmp_path: Path) -> None:
    manifest = write_images(tmp_path / "images", 3)
    with pytest.raises(InputError, match="--view 5crop: not a view; "):
        run(tmp_path / "s", tiny_card(), manifest, views=("5crop",))
    assert not (tmp_path / "s").exists()


def seen_otherwise(path: Path, key: str, view: str, x: npt.NDArray[np.float32]) -> None:
    """Put features under a view into a finished file."""
    with h5py.File(path, "r+") as file:
        made = file.create_dataset(f"layers/{key}@{view}", data=x)
        made.attrs.update({**file[f"layers/{key}"].attrs, "view": view})
        sums = [zlib.crc32(row.data) for row in x]
        file.create_dataset(f"checksums/{key}@{view}", data=np.array(sums, dtype=np.uint32))


@pytest.fixture
def viewed(tmp_path: Path) -> tuple[Path, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A study, the features of its layer, and those under the view `flip`: noisier, and shifted."""
    x, y = studies.blobs(120, 12, 3, 0.6)
    study = studies.begin(
        tmp_path / "s", {"label": y.tolist()}, fold=(np.arange(120) // 40).tolist()
    )
    studies.add(study, "net", {"low": x[:, :5], "high": x})
    other = (x + np.random.default_rng(1).standard_normal(x.shape) + 0.3).astype(np.float32)
    path = study.feature_path("net")
    seen_otherwise(path, "low", "flip", other[:, :5])
    seen_otherwise(path, "high", "flip", other)
    return study.folder, x, other


METHODS = ("logistic", "svm", "ridge", "knn")


@pytest.mark.parametrize("memory", [None, 1e-4])
def test_a_probe_is_fitted_on_the_centre_and_scored_under_the_view(
    viewed: tuple[Path, npt.NDArray[np.float32], npt.NDArray[np.float32]], memory: float | None
) -> None:
    folder, x, other = viewed
    fit(folder, probes=METHODS, views=("flip",), memory=memory)
    rows = [r for r in results.read(folder / "results.csv") if r.backbone == "net"]
    y = np.arange(120) % 3
    fold = np.arange(120) // 40
    checked = 0
    for row in rows:
        if row.layer != "high" or row.views != "flip":
            continue
        train, test = fold != row.fold, fold == row.fold
        scaler = StandardScaler().fit(x[train])
        a, b = scaler.transform(x[train]), scaler.transform(other[test])
        if row.method == "knn":
            unit = Normalizer()
            near = unit.transform(other[test]) @ unit.transform(x[train]).T
            scores = np.stack([_votes(near, y[train], c, int(row.C or 0)) for c in range(3)], 1)
        else:
            c = 1 / (row.C or 1) if row.method == "ridge" else row.C or 1
            scores = sklearn_model(row.method, c).fit(a, y[train]).decision_function(b)
        assert row.accuracy == pytest.approx(np.mean(scores.argmax(1) == y[test]), abs=0.026)
        assert row.crops == 2
        checked += 1
    assert checked == 12
    for row in rows:
        if row.views == "flip":
            [plain] = [
                r
                for r in rows
                if r.views == "center"
                and (r.layer, r.method, r.fold) == (row.layer, row.method, row.fold)
            ]
            chosen = (row.C, row.selection, row.n_train, row.chosen, row.scale)
            assert chosen == (plain.C, plain.selection, plain.n_train, plain.chosen, plain.scale)
    assert {r.layer for r in rows if r.views == "flip"} == {"low", "high", "best"}
    again = fit(folder, probes=METHODS, views=("flip",), memory=memory)
    assert (again.fitted, again.kept) == (0, 16)


def _votes(near: npt.NDArray[Any], y: npt.NDArray[Any], c: int, k: int) -> npt.NDArray[Any]:
    order = np.argsort(-near, axis=1)[:, :k]
    weight = np.exp(np.take_along_axis(near, order, 1) / 0.07)
    return np.asarray((weight * (y[order] == c)).sum(1))


def test_the_view_of_training_rows_is_not_looked_at(
    viewed: tuple[Path, npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    """Scores of a test fold come from its own rows under the view, and from no other row's."""
    folder, _, other = viewed
    run_on = {"probes": METHODS, "views": ("flip",), "layers": ("high",), "redo": True}
    fit(folder, **run_on)  # type: ignore[arg-type]
    before = predictions.read(
        folder / "predictions", ("label", "net", "high", "logistic,views=flip,crops=2")
    )
    path = folder / "features" / "net.h5"
    wild = other.copy()
    wild[40:] = 1e3 * np.random.default_rng(3).standard_normal(wild[40:].shape)
    with h5py.File(path, "r+") as file:
        del file["layers/high@flip"], file["checksums/high@flip"]
    seen_otherwise(path, "high", "flip", wild)
    fit(folder, **run_on)  # type: ignore[arg-type]
    for method in METHODS:
        key = ("label", "net", "high", f"{method},views=flip,crops=2")
        after = predictions.read(folder / "predictions", key)
        if method == "logistic":
            np.testing.assert_array_equal(after.scores[:40], before.scores[:40])
        assert not np.array_equal(after.scores[40:], before.scores[40:])


def test_views_of_other_settings_go(
    viewed: tuple[Path, npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    folder, _, _ = viewed
    fit(folder, probes=("ridge",), views=("flip",))
    assert {r.views for r in fit(folder, probes=("ridge",)).rows} == {"center", "flip"}
    rows = fit(folder, probes=("ridge",), c=[1e-9]).rows
    assert {r.views for r in rows} == {"center"}
    assert views_table(rows) is None


def test_a_view_that_was_not_extracted_is_said(tmp_path: Path) -> None:
    x, y = studies.blobs(30, 4, 2, 1.0)
    study = studies.begin(tmp_path / "s", {"label": y.tolist()})
    studies.add(study, "net", {"c": x})
    with pytest.raises(InputError, match="--view 10crop: layer c of net is not extracted"):
        fit(study.folder, views=("10crop",))
    assert not (study.folder / "results.csv").exists()


def test_views_stand_in_the_report_beside_the_centre(
    viewed: tuple[Path, npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    folder, _, _ = viewed
    fit(folder, probes=("logistic",))
    assert not (report(folder).folder / "views.csv").exists()
    fit(folder, probes=("logistic",), views=("flip",))
    with (report(folder).folder / "views.csv").open() as file:
        [line] = csv.DictReader(file)
    rows: dict[str, list[float]] = {"center": [], "flip": []}
    for row in results.read(folder / "results.csv"):
        if row.backbone == "net" and row.layer == "best":
            rows[row.views].append(row.accuracy)  # folds are of one size
    assert float(line["accuracy"]) == pytest.approx(np.mean(rows["flip"]))
    assert float(line["centre"]) == pytest.approx(np.mean(rows["center"]))
    assert float(line["difference"]) == pytest.approx(
        np.mean(rows["flip"]) - np.mean(rows["center"]), abs=1e-6
    )
    assert (line["views"], line["crops"], line["n_test"]) == ("flip", "2", "120")
    assert "Views of a test image" in (folder / "report" / "index.html").read_text()

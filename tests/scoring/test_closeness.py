"""Distances between sets of images: laws, closed forms, and a study with source samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import studies
from PIL import Image
from scipy import linalg
from typer.testing import CliRunner

from cli.app import app
from features.arrays import Doubles, Ints
from features.extraction.domain_samples import domain_samples, sample_folder
from features.store.featurefile import FeatureFile
from features.study.study import Study, open_study
from probe.analysis.curves import curves
from probe.fitting.fit import fit
from probe.reporting.report import report
from probe.scoring import closeness as measured
from probe.scoring.closeness import Closeness, closeness, correlate, correlations, sentences
from probe.scoring.distances import common_space, frechet, proxy_a

pytestmark = pytest.mark.usefixtures("svg_alone")


def cloud(n: int, d: int, seed: int, shift: float = 0.0, wide: float = 1.0) -> Doubles:
    return wide * np.random.default_rng(seed).standard_normal((n, d)) + shift


@pytest.mark.parametrize("distance", [frechet, proxy_a])
def test_a_set_is_at_no_distance_from_itself(distance: measured.Distance) -> None:
    x = cloud(90, 12, 0)
    assert distance(x, x) == pytest.approx(0, abs=1e-9)
    here, there = common_space(x, x)
    assert distance(here, there) == pytest.approx(0, abs=1e-9)
    assert distance(cloud(90, 12, 1), cloud(90, 12, 2)) >= 0


def test_frechet_has_its_closed_forms() -> None:
    """Means apart and equal covariances: the squared length; one dimension: (m - n)^2 + (s - t)^2."""
    x = cloud(80, 5, 0)
    assert frechet(x, x + 2) == pytest.approx(20)
    a, b = cloud(70, 1, 1), cloud(90, 1, 2, 1.5, 3.0)
    wanted = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert frechet(a, b) == pytest.approx(wanted)


def test_frechet_is_the_formula_with_a_matrix_root() -> None:
    """As pytorch-fid has it: scipy's square root of the product of the covariances."""
    a, b = cloud(200, 6, 0), cloud(150, 6, 1, 0.3) @ np.diag([1, 2, 0.5, 1, 1, 3])
    first, second = (np.cov(x, rowvar=False, ddof=0) for x in (a, b))
    root = np.real(linalg.sqrtm(first @ second))
    apart = a.mean(0) - b.mean(0)
    wanted = apart @ apart + np.trace(first + second - 2 * root)
    assert frechet(a, b) == pytest.approx(wanted)
    assert frechet(a, b) == pytest.approx(frechet(b, a))


def test_proxy_a_runs_from_a_coin_to_certainty() -> None:
    assert proxy_a(cloud(200, 4, 0), cloud(200, 4, 1, 9.0)) == 2
    # One dimension, normals d apart: the best line errs with probability Phi(-d / 2).
    a, b = cloud(4000, 1, 2), cloud(4000, 1, 3, 1.0)
    assert proxy_a(a, b) == pytest.approx(2 * (1 - 2 * 0.30854), abs=0.05)
    assert proxy_a(cloud(400, 4, 4), cloud(400, 4, 5)) < 0.25
    # Unequal sizes do not make a set recognisable.
    assert proxy_a(cloud(100, 4, 6), cloud(900, 4, 7)) < 0.35


def test_the_common_space_keeps_proportions_and_forgets_size() -> None:
    x, y = cloud(60, 200, 0), cloud(40, 200, 1, 0.2)
    here, there = common_space(x, y, dimensions=99)
    assert here.shape == (60, 99)
    # All axes are kept, so distances are those of the features but for one scale.
    ratio = linalg.norm(here[0] - there[0]) / linalg.norm(x[0] - y[0])
    assert linalg.norm(here[5] - there[7]) == pytest.approx(ratio * linalg.norm(x[5] - y[7]))
    again = common_space(7 * x + 3, 7 * y + 3, dimensions=99)
    assert frechet(*again) == pytest.approx(frechet(here, there))
    tall = common_space(cloud(60, 8, 0), cloud(40, 8, 1))
    assert tall[0].shape == (60, 8)


def with_sources(folder: Path) -> Study:
    """A pair of backbones in which `faces` is near at every layer and `objects` further with depth."""
    n = 120
    y = np.arange(n) % 2
    study = studies.begin(folder, {"label": y}, closest="faces")
    names = [f"l{i}" for i in range(6)]
    for sample, shift in (("faces", 0.0), ("objects", 1.0)):
        here = sample_folder(folder, sample)
        studies.begin(here, {"half": np.arange(80) % 2})
        for seed, name in enumerate(("near", "far")):
            layers = {
                layer: cloud(80, 10, 7 * i + seed, shift * i).astype(np.float32)
                for i, layer in enumerate(names)
            }
            studies.add(open_study(here), name, layers)
    for seed, name in enumerate(("near", "far")):
        apart = 0.25 if name == "near" else 0.0
        layers = {
            layer: cloud(n, 10, 90 + 7 * i + seed).astype(np.float32)
            + (apart * i * (y - 0.5))[:, None].astype(np.float32)
            for i, layer in enumerate(names)
        }
        studies.add(study, name, layers, domain="faces" if name == "near" else "objects",
                    card={"pair": "far" if name == "near" else "near"})  # fmt: skip
    fit(folder, probes=("ridge",))
    return open_study(folder)


def halves(study: Study, file: FeatureFile) -> tuple[Ints, Ints]:
    first, second = measured._halves(study, file, measured.IMAGES)
    assert not set(study.subjects[first]) & set(study.subjects[second])
    return first, second


@pytest.mark.parametrize(
    "sizes", [[1] * 40, [20, 1, 1, 1], [1, 1, 1, 20], [23], [5, 4, 3, 11, 2, 7]]
)
def test_halves_are_equal_and_share_no_subject(sizes: list[int], tmp_path: Path) -> None:
    subjects = [str(s) for s, size in enumerate(sizes) for _ in range(size)]
    y = [i % 2 for i in range(len(subjects))]
    study = studies.begin(tmp_path / "study", {"label": y}, subject=subjects)
    studies.add(study, "net", {"fc": np.ones((len(y), 2), dtype=np.float32)})
    with study.features("net") as file:
        first, second = measured._halves(study, file, 12)
    assert 1 <= len(first) == len(second) <= 12
    assert not set(first) & set(second)
    if len(sizes) > 1:
        assert not set(study.subjects[first]) & set(study.subjects[second])


def test_the_floor_is_the_distance_of_equally_large_sets_of_one_kind(tmp_path: Path) -> None:
    """Were its sets half as large as the others, it would be twice the distance of a set like them."""
    floors, values = [], []
    for seed in range(6):
        folder = tmp_path / str(seed)
        study = studies.begin(folder, {"label": [i % 2 for i in range(160)]})
        source = studies.begin(folder / "sources" / "same", {"label": [i % 2 for i in range(160)]})
        for number, which in enumerate((study, source)):
            x = cloud(160, 10, 100 * seed + number).astype(np.float32)
            studies.add(which, "net", {"fc": x}, domain="faces")
        (distance,) = (c for c in closeness(open_study(folder)) if c.measure == "frechet")
        floors.append(distance.floor)
        values.append(distance.value)
    assert 0.8 < np.mean(floors) / np.mean(values) < 1.25


def test_distances_of_a_study_again(tmp_path: Path) -> None:
    study = with_sources(tmp_path / "study")
    distances = closeness(study)
    assert {(c.backbone, c.source, c.measure) for c in distances} == {
        (b, s, m)
        for b in ("near", "far")
        for s in ("faces", "objects")
        for m in ("frechet", "proxy_a")
    }
    with study.features("near") as file:
        target = file.read("l5")
        first, second = halves(study, file)
    there = []
    for name in ("faces", "objects"):
        with domain_samples(study)[name].features("near") as file:
            drawn = np.random.default_rng(0).permutation(len(file))[:60]
            there.append(file.read("l5")[np.sort(drawn)])
    space = common_space(target[first], target[second], *there)
    distance = next(
        c for c in distances
        if (c.backbone, c.key, c.source, c.measure) == ("near", "l5", "objects", "frechet")
    )  # fmt: skip
    assert distance.value == pytest.approx(frechet(space[0], space[3]))
    assert distance.floor == pytest.approx(frechet(space[0], space[1]))
    assert distance.images == distance.source_images == 60
    assert distance.low < distance.value < distance.high
    assert distance.low > distance.floor
    by_layer = [
        c.value
        for c in distances
        if (c.backbone, c.source, c.measure) == ("near", "objects", "frechet")
    ]
    assert by_layer[5] > by_layer[3] > by_layer[1]
    near = [
        c
        for c in distances
        if (c.backbone, c.source) == ("near", "faces") and c.measure == "proxy_a"
    ]
    assert max(c.value for c in near) < 0.6


def test_distances_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = with_sources(tmp_path / "study")
    distances = closeness(study)
    monkeypatch.setattr(measured, "_measure", lambda *_: pytest.fail("measured again"))
    assert closeness(study) == distances


def test_the_gap_goes_with_the_distance_where_it_was_made_to(tmp_path: Path) -> None:
    study = with_sources(tmp_path / "study")
    related = correlations(curves(study), closeness(study))
    assert {c.n for c in related} == {6}
    correlation = next(c for c in related if (c.source, c.measure) == ("objects", "frechet"))
    assert correlation.low > 0
    words = sentences(related)
    assert len(words) == sum(c.low > 0 or c.high < 0 for c in related)
    assert any("the gap near − far is larger" in sentence for sentence in words)
    made = report(study)
    text = made.index.read_text()
    assert "How close the source domains are" in text
    assert f"r = {correlation.r:+.2f}" in text
    assert (made.folder / "closeness.csv").is_file()


def test_a_distance_of_nought_is_a_distance(tmp_path: Path) -> None:
    """Under pooling avg the distances go against those under auto, and one of them is 0."""
    y = np.arange(120) % 2
    study = studies.begin(tmp_path / "study", {"label": y}, closest="faces")
    names = [f"l{i}" for i in range(6)]
    for name, apart in (("near", 0.25), ("far", 0.0)):
        layers = {
            key: studies.signal(y, 6, apart * i, i)
            for i, layer in enumerate(names)
            for key in (layer, f"{layer}:avg")
        }
        domain = "faces" if name == "near" else "objects"
        studies.add(study, name, layers, domain=domain, card={"pair": "far"})
    fit(study.folder, probes=("ridge",))
    tasks = curves(open_study(study.folder))
    value = {"auto": [5.0, 4.0, 3.0, 2.0, 1.0, 0.5], "avg": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]}
    lines = [
        Closeness("near", "faces", layer if pool == "auto" else f"{layer}:avg", 0.5, "things",
                  "proxy_a", value[pool][i], 0.0, 2.0, 0.0, 9, 9, "")
        for pool in value
        for i, layer in enumerate(names)
    ]  # fmt: skip
    made = correlations(tasks, lines)
    assert {c.pool: c.n for c in made} == {"auto": 6, "avg": 6}
    for c in made:
        panel = next(p for p in tasks[0].panels if p.pool == c.pool)
        gap = [p.gap for p in panel.gaps[0].points]
        assert c.r == pytest.approx(np.corrcoef(value[c.pool], gap)[0, 1])
    # A layer that was measured under the other pooling only is left out.
    without = [c for c in lines if c.key != "l3:avg"]
    assert {c.pool: c.n for c in correlations(tasks, without)} == {"auto": 6, "avg": 5}


def test_correlation_and_its_interval() -> None:
    """By hand: r = .8 over 20 pairs has z = 1.0986 +- 1.96 / sqrt(17), so [.553, .918]."""
    x = np.arange(20.0)
    noise = np.random.default_rng(0).standard_normal(20)
    noise -= noise.mean() + (noise @ (x - x.mean())) / ((x - x.mean()) ** 2).sum() * (x - x.mean())
    y = (x - x.mean()) / x.std() * 0.8 + noise / noise.std() * 0.6
    r, low, high = correlate(x.tolist(), y.tolist())
    assert (r, low, high) == pytest.approx((0.8, 0.5534, 0.9177), abs=1e-4)
    assert np.isnan(correlate([1, 1, 1, 1], [1, 2, 3, 4])[0])


def test_nothing_is_said_of_a_doubtful_sign() -> None:
    doubtful = measured.Correlation(
        "t", "m", "none", "a − b", "faces", "frechet", 0.4, -0.1, 0.7, 9
    )
    assert sentences([doubtful]) == []


def test_a_study_without_samples_says_how_to_take_them(tmp_path: Path) -> None:
    study = studies.begin(tmp_path / "study", {"label": np.arange(60) % 2})
    studies.add(study, "net", {"fc": studies.signal(np.arange(60) % 2, 4, 1.0)})
    fit(study.folder, probes=("ridge",))
    assert closeness(study) == []
    made = report(study)
    assert any("--source DOMAIN=DIR" in sentence for sentence in made.contents.missing)
    assert any("probe rank" in sentence for sentence in made.contents.missing)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    drawn = np.random.default_rng(0)
    for sample, classes in (("own", ("a", "b")), ("other", (".",))):
        for label in classes:
            folder = tmp_path / sample / label
            folder.mkdir(parents=True)
            for i in range(24):
                pixels = drawn.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path


def test_source_samples_come_through_the_studys_own_backbone(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    words = ["extract", "--backbone", "control:pixels", "--data", "own", "--source", "things=other"]
    assert CliRunner().invoke(app, words).exit_code == 0
    study = open_study(images / "study")
    sample = domain_samples(study)["things"]
    with study.features("control:pixels") as ours, sample.features("control:pixels") as theirs:
        assert ours.keys == theirs.keys
        assert theirs.read(theirs.keys[0]).shape[0] == 24
    assert CliRunner().invoke(app, words).exit_code == 0  # again: nothing to do
    tasks: list[Closeness] = closeness(study)
    assert {c.source for c in tasks} == {"things"}


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("things", 2, "write it as NAME=DIR"),
        ("../up=other", 2, "a sample's name has only letters"),
        ("things=nowhere", 3, "there is no such folder"),
        ("things=study", 3, "too few"),
    ],
)
def test_sources_that_cannot_be_used(
    images: Path, monkeypatch: pytest.MonkeyPatch, source: str, code: int, words: str
) -> None:
    monkeypatch.chdir(images)
    (images / "study").mkdir()
    result = CliRunner().invoke(
        app, ["extract", "--backbone", "control:pixels", "--data", "own", "--source", source]
    )
    assert result.exit_code == code
    assert words in result.stderr
    assert not (images / "up").exists()
    assert not list((images / "study").iterdir())

"""Gaps: which backbones are a pair, and the gap again from the stored scores."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import studies
from scipy import stats

from features.arrays import Doubles
from features.errors import InputError
from features.extraction.imported import import_features
from features.study.study import Study, open_study
from probe.analysis.answer import answer
from probe.analysis.curves import curves
from probe.analysis.gaps import Gap
from probe.analysis.statistics import band, mean_interval
from probe.fitting.fit import fit
from probe.reporting.report import report

pytestmark = pytest.mark.usefixtures("svg_alone")


def test_two_unrelated_backbones_have_no_gap(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study", pair="another")
    assert studies.panel(study).gaps == ()
    assert [curve.backbone for curve in studies.panel(study).curves] == ["near", "far"]
    text = report(study).index.read_text()
    assert "No gap is drawn" in text
    assert not list((study.folder / "report").glob("gap-*"))


def test_imported_features_have_no_gap(tmp_path: Path) -> None:
    y = np.arange(60) % 2
    for name in ("a", "b"):
        np.savez(tmp_path / "x.npz", features=studies.signal(y, 4, 1.0, ord(name)), label=y)
        import_features(tmp_path / "study", tmp_path / "x.npz", name=name, layer="fc")
    fit(tmp_path / "study", probes=("ridge",))
    (task,) = curves(open_study(tmp_path / "study"))
    assert task.panels[0].gaps == ()


def _mean_right(study: Study, names: list[str], layer: str) -> Doubles:
    return np.asarray(np.mean([studies.right(study, name, layer) for name in names], axis=0))


def check_gap(study: Study, gap: Gap, near: str, far: list[str]) -> None:
    """The gap, its band and its slope again, from the stored scores."""
    columns = [
        studies.right(study, near, layer) - _mean_right(study, far, layer)
        for layer in studies.LAYERS
    ]
    values = np.stack(columns, axis=1)
    wider = [
        studies.wider(
            study,
            {(near, layer, "ridge"): 1} | {(name, layer, "ridge"): -1 / len(far) for name in far},
        )
        for layer in studies.LAYERS
    ]
    again = band(values, study.subjects, np.array(wider))
    low, high = again.low, again.high
    if len(far) > 1:  # how far the draws lie apart counts too
        each = np.array(
            [[studies.right(study, name, layer).mean() for name in far] for layer in studies.LAYERS]
        )
        single = [
            mean_interval(values[:, i], study.subjects, factor) for i, factor in enumerate(wider)
        ]
        freedom = single[0].effective - 1
        t = stats.t.ppf(0.975, freedom)
        of_images = np.array([one.high - one.value for one in single]) / t
        of_draws = each.std(axis=1, ddof=1) / len(far) ** 0.5
        both = of_images**2 + of_draws**2
        welch = both**2 / (of_images**4 / freedom + of_draws**4 / (len(far) - 1))
        times = (high - again.value) / (t * of_images)  # what holding for all layers takes
        margin = times * stats.t.ppf(0.975, welch) * np.sqrt(both)
        assert (margin > high - again.value).all()
        low, high = again.value - margin, again.value + margin
    assert [p.layer for p in gap.points] == list(studies.LAYERS)
    assert [p.depth for p in gap.points] == list(studies.DEPTHS)
    for i, point in enumerate(gap.points):
        assert point.gap == pytest.approx(values[:, i].mean())
        assert (point.low, point.high) == (
            pytest.approx(low[i]),
            pytest.approx(high[i]),
        )
    assert gap.slope.value == pytest.approx(np.polyfit(studies.DEPTHS, values.mean(0), 1)[0])


def test_a_pair_has_the_gap_of_its_predictions(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    (gap,) = studies.panel(study).gaps
    assert (gap.near, gap.far, gap.near_domain, gap.far_domain) == (
        "near", "far", "faces", "objects",
    )  # fmt: skip
    check_gap(study, gap, "near", ["far"])
    assert gap.points[-1].gap > 0.1
    assert gap.slope.low > 0


@pytest.mark.parametrize("closest", ["faces", "objects"])
def test_the_closest_domain_comes_first(tmp_path: Path, closest: str) -> None:
    study = studies.labelled(tmp_path / "study", closest)
    studies.backbone(study, "x", (0.3, 0.8, 2.0), domain="objects", card={"pair": "y"})
    studies.backbone(study, "y", (0.4, 0.6, 0.9), domain="faces", card={"pair": "x"})
    fit(study.folder, probes=("ridge",))
    (gap,) = studies.panel(study).gaps
    assert (gap.near_domain == closest, gap.far_domain == closest) == (True, False)
    check_gap(study, gap, gap.near, [gap.far])


def test_the_same_names_of_other_modules_are_no_pair(tmp_path: Path) -> None:
    study = studies.labelled(tmp_path / "study")
    studies.backbone(study, "near", (0.3, 0.8, 2.0), card={"pair": "far"})
    y = study.labels("label")
    turned = {
        layer: studies.signal(y, 6, 1.0, i) for i, layer in enumerate(reversed(studies.LAYERS))
    }
    studies.add(study, "far", turned, depths=studies.DEPTHS)
    fit(study.folder, probes=("ridge",))
    assert studies.panel(study).gaps == ()


def test_a_gap_is_drawn_at_the_layers_that_both_have(tmp_path: Path) -> None:
    study = studies.labelled(tmp_path / "study")
    studies.backbone(study, "near", (0.3, 0.8, 2.0), card={"pair": "far"})
    y = study.labels("label")
    studies.add(study, "far", {"low": studies.signal(y, 6, 1.0)}, depths=studies.DEPTHS[:1])
    fit(study.folder, probes=("ridge",))
    (gap,) = studies.panel(study).gaps
    assert [point.layer for point in gap.points] == ["low"]


@pytest.mark.parametrize("far_layer", ["low", "other"])
def test_a_pair_without_a_gap_at_the_chosen_layer_is_still_a_pair(
    tmp_path: Path, far_layer: str
) -> None:
    study = studies.labelled(tmp_path / "study")
    studies.backbone(study, "near", (0.3, 0.8, 2.0), domain="faces", card={"pair": "far"})
    y = study.labels("label")
    studies.add(study, "far", {far_layer: studies.signal(y, 6, 1.0)}, depths=studies.DEPTHS[:1])
    fit(study.folder, probes=("ridge",))
    text = report(open_study(study.folder)).index.read_text()
    assert "they are a pair, but the domain gap at high is not known" in text
    assert "They differ in architecture" not in text
    assert "no two of these backbones are a pair" not in text


def test_two_that_are_no_pair_are_told_so(tmp_path: Path) -> None:
    text = report(open_study(studies.pair(tmp_path / "study", pair="x").folder)).index.read_text()
    assert "They differ in architecture" in text


def test_results_of_no_task_of_the_study(tmp_path: Path) -> None:
    study = studies.pair(tmp_path / "study")
    file = study.folder / "study.toml"
    file.write_text(file.read_text().replace("[tasks.label]", "[tasks.other]"))
    table = study.folder / "images.csv"
    table.write_text(table.read_text().replace("label", "other", 1))
    with pytest.raises(InputError, match=r"all results are of label, and study\.toml has no such"):
        curves(open_study(study.folder))


def imported(folder: Path, **domain: str) -> Study:
    """A network of faces beside weaker features that were imported."""
    study = studies.labelled(folder / "study")
    studies.backbone(study, "net", (0.3, 0.8, 2.0), domain="faces")
    np.savez(folder / "x.npz", features=studies.signal(study.labels("label"), 6, 0.4))
    import_features(study.folder, folder / "x.npz", name="clip", layer="fc", **domain)
    return study


def test_a_domain_that_nobody_said_is_no_floor(tmp_path: Path) -> None:
    study = imported(tmp_path)
    with study.features("clip") as file:
        assert file.domain == "unknown"
    fit(study.folder, probes=("ridge",))
    answered = answer(studies.only(study), "faces")
    assert answered is not None
    assert (answered.random, answered.closest) == (None, None)
    assert "Random weights and controls" not in report(open_study(study.folder)).index.read_text()


def test_a_domain_that_was_said_stays(tmp_path: Path) -> None:
    study = imported(tmp_path, domain="none")
    with study.features("clip") as file:
        assert file.domain == "none"
    import_features(study.folder, tmp_path / "x.npz", name="clip", layer="other")
    with pytest.raises(InputError, match="have the domain none; leave --domain out"):
        import_features(
            study.folder, tmp_path / "x.npz", name="clip", layer="third", domain="faces"
        )
    fit(study.folder, probes=("ridge",))
    answered = answer(studies.only(study), "faces")
    assert answered is not None
    assert answered.random is not None
    assert answered.random.b == "clip"
    report(open_study(study.folder))  # also its table of weights


def test_features_imported_before_domains_were_asked_for(tmp_path: Path) -> None:
    """The file says `none` and that it was imported, and rows of results.csv say `none`."""
    study = imported(tmp_path)
    path = study.feature_path("clip")
    with h5py.File(path, "r+") as file:
        file.attrs["domain"] = "none"
        file.attrs["card"] = json.dumps({"name": "clip", "domain": "none"})
        del file["seal"]
    fit(study.folder, probes=("ridge",))
    table = study.folder / "results.csv"
    table.write_text(table.read_text().replace("clip,unknown", "clip,none"))
    task = studies.only(study)
    assert {b.backbone: b.domain for b in task.best} == {"net": "faces", "clip": "unknown"}
    answered = answer(task, "faces")
    assert answered is not None
    assert answered.random is None


def test_random_weights_are_averaged_over_their_draws(tmp_path: Path) -> None:
    study = studies.labelled(tmp_path / "study")
    studies.backbone(study, "near", (0.3, 0.8, 2.0), domain="faces")
    for seed in range(3):
        studies.backbone(
            study,
            f"near@random-{seed}",
            (0.2, 0.3, 0.3),
            domain="none",
            card={"name": "near", "domain": "faces"},
            weights={"random": True, "seed": seed},
        )
    fit(study.folder, probes=("ridge",))
    (gap,) = studies.panel(study).gaps
    assert (gap.near, gap.far_domain) == ("near", "none")
    assert "3 draws" in gap.far
    check_gap(study, gap, "near", [f"near@random-{seed}" for seed in range(3)])


def test_draws_alone_have_no_gap_among_them(tmp_path: Path) -> None:
    study = studies.labelled(tmp_path / "study")
    for seed in range(2):
        studies.backbone(
            study,
            f"near@random-{seed}",
            (0.2, 0.3, 0.3),
            domain="none",
            card={"name": "near"},
            weights={"random": True, "seed": seed},
        )
    fit(study.folder, probes=("ridge",))
    assert studies.panel(study).gaps == ()


def test_a_control_has_no_gap(tmp_path: Path) -> None:
    study = studies.labelled(tmp_path / "study")
    studies.backbone(study, "near", (0.3, 0.8, 2.0), card={"pair": "control:tiny"})
    studies.backbone(study, "control:tiny", (0.3, 0.5, 0.9), domain="control")
    fit(study.folder, probes=("ridge",))
    assert studies.panel(study).gaps == ()
    assert studies.panel(study).curves[-1].backbone == "control:tiny"


def test_poolings_have_panels_of_their_own(tmp_path: Path) -> None:
    study = studies.labelled(tmp_path / "study")
    y = study.labels("label")
    for name, card in (("near", {"pair": "far"}), ("far", {})):
        maps = {
            key: studies.signal(y, 6, apart, seed + len(name))
            for seed, (key, apart) in enumerate(
                {"c1": 0.3, "c1:avg": 1.0, "c2": 0.5, "c2:avg": 1.5}.items()
            )
        }
        studies.add(study, name, maps, card=card, depths=(0.5, 1.0))
    fit(study.folder, probes=("ridge",))
    task = studies.only(study)
    assert [p.pool for p in task.panels] == ["auto", "avg"]
    for panel, suffix in zip(task.panels, ("", ":avg"), strict=True):
        (gap,) = panel.gaps
        for point in gap.points:
            apart = studies.right(study, gap.near, point.layer + suffix) - studies.right(
                study, gap.far, point.layer + suffix
            )
            assert point.gap == pytest.approx(apart.mean())
        for curve in panel.curves:
            for point in curve.points:
                wanted = studies.right(study, curve.backbone, point.layer + suffix).mean()
                assert point.accuracy.value == pytest.approx(wanted)

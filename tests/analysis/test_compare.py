"""Paired comparisons: against the stored scores, and refusals of what is not comparable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import studies
from typer.testing import CliRunner

from cli.app import app
from features.errors import InputError
from features.study.study import Study
from probe.analysis.compare import compare
from probe.analysis.statistics import mean_interval, sign_flip
from probe.fitting.fit import fit
from probe.probes.methods import METHODS
from probe.results import predictions
from probe.results.protocol import differences


@pytest.fixture
def study(tmp_path: Path) -> Study:
    y = np.arange(120) % 2
    made = studies.begin(tmp_path / "study", {"label": y}, subject=np.arange(120) // 4)
    studies.add(made, "good", {"fc": studies.signal(y, 4, 1.5)})
    studies.add(made, "a/b", {"fc": studies.signal(y, 4, 0.2, 1)})
    fit(made.folder, probes=("ridge", "knn"))
    return made


def test_a_comparison_is_of_the_stored_scores(study: Study) -> None:
    (comparison,) = compare(study.folder, "good/fc/ridge", "a/b/best/knn")
    file, y = study.folder / "predictions", study.labels("label")
    keys = [("label", "good", "fc", "ridge"), ("label", "a/b", "best", "knn")]
    a, b = ((predictions.read(file, key).scores.argmax(1) == y).astype(float) for key in keys)
    assert comparison.accuracy_a.value == pytest.approx(a.mean())
    assert comparison.accuracy_b.value == pytest.approx(b.mean())
    wider = studies.wider(study, {("good", "fc", "ridge"): 1, ("a/b", "best", "knn"): -1})
    again = mean_interval(a - b, study.subjects, wider)
    ends = (comparison.difference.low, comparison.difference.high)
    assert ends == pytest.approx((again.low, again.high))
    assert comparison.p == sign_flip(a - b, study.subjects)
    assert (comparison.only_a, comparison.only_b) == (
        ((a == 1) & (b == 0)).sum(),
        ((a == 0) & (b == 1)).sum(),
    )
    assert (comparison.images, comparison.subjects) == (120, 30)
    assert "on the same 120 images of 30 subjects (effectively 30), the first" in str(comparison)
    alone = replace(comparison, subjects=120, whose="groups of copies")
    assert "on the same 120 images, the first alone" in str(alone)
    assert "good/fc/ridge is ahead" in str(comparison)
    assert f"{100 * again.value:+.1f} points" in str(comparison)
    (back,) = compare(study.folder, "a/b/best/knn", "good/fc/ridge")
    assert "good/fc/ridge is ahead" in str(back)
    assert back.difference.value == -comparison.difference.value


def test_a_result_against_itself_is_within_noise(study: Study) -> None:
    (comparison,) = compare(study.folder, "good/fc/knn", "good/fc/knn")
    assert (comparison.difference.value, comparison.p, comparison.only_a) == (0, 1, 0)
    assert "within noise" in str(comparison)


def test_unlike_protocols_are_refused_and_said(study: Study) -> None:
    fit(study.folder, probes=("ridge",), backbones=("good",), scale="l2")
    with pytest.raises(InputError, match=r"differ in scale \(l2 and standard\)"):
        compare(study.folder, "good/fc/ridge", "a/b/fc/ridge")
    fit(study.folder, probes=("ridge",), backbones=("good",), folds=3)
    with pytest.raises(InputError, match="differ in number of folds, images of the folds"):
        compare(study.folder, "good/fc/ridge", "a/b/fc/knn")


def test_no_such_result(study: Study, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"good/fx/ridge: no such result; did you mean good/fc/ridge"
    ):
        compare(study.folder, "good/fx/ridge", "a/b/fc/knn")
    empty = studies.begin(tmp_path / "empty", {"label": np.arange(9) % 2})
    with pytest.raises(InputError, match="nothing is fitted yet"):
        compare(empty.folder, "a/b/c", "a/b/c")


def test_protocols_that_are_the_same_do_not_differ() -> None:
    protocol = json.dumps({"folds": 5, "settings": {"method": "svm", "scale": "l2"}})
    assert differences("", protocol) == []  # of what is not known
    other = json.dumps({"folds": 5, "settings": {"method": "knn", "scale": "none"}})
    assert differences(protocol, protocol) == []
    assert differences(protocol, other) == ["method"]


def test_the_command(study: Study) -> None:
    words = ["compare", "good/fc/ridge", "a/b/fc/ridge", "--study", str(study.folder)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert result.stdout.startswith("label: good/fc/ridge ")
    (comparison,) = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert comparison["difference"]["value"] > 0
    assert CliRunner().invoke(app, [*words[:2], "x", *words[3:]]).exit_code == 3


def test_names_may_leave_out_what_is_clear(tmp_path: Path) -> None:
    """A backbone alone is its `best` row; of several methods that fit both, the first counts."""
    made = studies.pair(tmp_path / "study").folder
    (short,), (whole,) = (
        compare(made, "near", "far"),
        compare(made, "near/best/ridge", "far/best/ridge"),
    )
    assert short == whole
    assert compare(made, "near/high", "far")[0].a == "near/high/ridge"
    fit(made, probes=("knn",), backbones=("near",))
    assert compare(made, "near", "far") == [whole]  # ridge alone is of both
    fit(made, probes=("knn",))
    first = min(("ridge", "knn"), key=list(METHODS).index)
    assert compare(made, "near", "far")[0].a == f"near/best/{first}"
    assert compare(made, "near/best/knn", "far")[0].b == "far/best/knn"
    with pytest.raises(InputError, match="nearby: no such result"):
        compare(made, "nearby", "far")

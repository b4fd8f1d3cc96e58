"""What a fit says before its first result: how many, how long, what goes and what stays apart."""

import re
from pathlib import Path

import pytest
import studies

from features.errors import OptionError
from features.machine.spent import Spent
from features.study.study import Study
from probe.analysis.curves import curves
from probe.fitting.fit import Fitted, fit
from probe.fitting.fit_seconds import (
    FitSize,
    estimate,
    note_fit_seconds,
    read_fit_seconds,
)
from probe.results.protocol import options_apart
from probe.results.rows import BEST


def said(study: Study, **options: object) -> tuple[Fitted, list[str]]:
    sentences: list[str] = []
    done = fit(study.folder, probes=["ridge"], announce=sentences.append, **options)  # type: ignore[arg-type]
    return done, [s for s in sentences if "true difference" not in s and "copies" not in s]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "cache"))


def test_how_many_and_how_long_as_soon_as_it_was_measured(study: Study) -> None:
    _, first = said(study)
    assert first == ["6 fits of 3 arrays: how long they take is known once some are done"]
    done, second = said(study)
    assert (done.kept, second) == (6, [])
    _, again = said(study, redo=True)
    assert re.fullmatch(
        r"6 fits of 3 arrays: about \d+ s, as measured on this machine before", *again
    )
    _, more = said(study, backbones=["net"], layers=["low"], tasks=["label"], redo=True)
    assert more[0].startswith("1 fit of 1 array: about ")


def test_what_is_replaced_and_what_stays_apart_is_named_with_the_option(study: Study) -> None:
    said(study)
    done, sentences = said(study, layers=["low"], seed=1, tasks=["label"])
    assert sentences[1] == (
        "replaces 1 result made with other --seed (the first: label of net/low/ridge); to keep both, stop "
        "now and fit in a copy of the study's folder"
    )
    assert sentences[2].startswith(
        "label: 2 results by ridge of other layers stay, made with other --seed; they are not compared"
    )
    assert len(sentences) == 3
    # What it named is what happened, and nothing else went.
    rows = [r for r in done.rows if r.method == "ridge" and r.layer != BEST]
    seeds = {(r.task, r.backbone, r.layer): r.seed for r in rows}
    assert seeds.pop(("label", "net", "low")) == 1
    assert set(seeds.values()) == {0}


def test_a_changed_study_is_no_other_option(study: Study) -> None:
    said(study)
    images = study.folder / "images.csv"
    images.write_text(images.read_text().replace(",1\n", ",0\n", 1))
    _, sentences = said(study, layers=["low"], tasks=["label"])
    assert not [s for s in sentences if "stay" in s]
    replaced = next(s for s in sentences if s.startswith("replaces"))
    assert "--" not in replaced.partition("(")[0]


def test_one_layer_under_other_options_leaves_the_best_row_of_the_rest(study: Study) -> None:
    layers = {"a": 0.3, "b": 1.0, "c": 0.6}
    studies.add(
        study, "deep", {n: studies.signal(study.labels("label"), 5, s) for n, s in layers.items()}
    )
    said(study)
    done, _ = said(study, backbones=["deep"], layers=["b"], c=[1.0], tasks=["label"])
    best = [r for r in done.rows if (r.backbone, r.task, r.layer) == ("deep", "label", BEST)]
    assert {row.chosen for row in best} <= {"a", "c"}
    (label, _) = curves(done.study)
    assert {b.backbone for b in label.best} == {"net", "toy", "deep"}


def test_quick_is_ridge_on_one_array_of_each_layer(study: Study) -> None:
    done = fit(study.folder, quick=True)
    assert {row.method for row in done.rows} == {"ridge", "majority"}
    assert {(r.backbone, r.layer) for r in done.rows if r.method == "ridge"} == {
        ("net", "low"), ("net", "high"), ("net", BEST), ("toy", "only"), ("toy", BEST)
    }  # fmt: skip
    with pytest.raises(OptionError, match="ridge alone"):
        fit(study.folder, quick=True, probes=["knn"])


def test_protocols_differ_in_options_or_in_the_study() -> None:
    base = (
        '{"settings": {"method": "ridge", "grid": [1], "relative": true}, "seed": 0, "parts": "a"}'
    )
    assert options_apart(base, base.replace("[1]", "[2]").replace("true", "false")) == ["--C"]
    assert options_apart(base, base.replace('"seed": 0', '"seed": 1').replace('"a"', '"b"')) == [
        "--seed"
    ]
    assert options_apart(base, base.replace('"a"', '"b"')) == ["images of the folds"]
    assert options_apart("", base) == ["settings that are not known"]


def test_seconds_are_of_the_most_similar_fit_and_damage_is_nothing(tmp_path: Path) -> None:
    small, large = FitSize("svm", 100, 10, 2, 5), FitSize("svm", 1000, 4000, 2, 5)
    note_fit_seconds({small: Spent(1.0)})
    note_fit_seconds({large: Spent(60.0)})
    known = read_fit_seconds()
    assert known == {small: Spent(1.0), large: Spent(60.0)}
    assert estimate(small, known) == 1.0
    # A small fit takes as long as one that is smaller yet; of large ones, half takes half as long.
    assert estimate(FitSize("svm", 100, 20, 2, 5), known) == pytest.approx(1.0, rel=0.01)
    assert estimate(FitSize("svm", 1000, 2000, 2, 5), known) == pytest.approx(32.7, rel=0.01)
    assert estimate(FitSize("ridge", 100, 10, 2, 5), known) is None
    # Rows far apart tell nothing of each other.
    assert estimate(FitSize("svm", 400, 10, 2, 5), {small: Spent(1.0)}) is not None
    assert estimate(FitSize("svm", 401, 10, 2, 5), {small: Spent(1.0)}) is None
    assert estimate(FitSize("svm", 24, 10, 2, 5), {small: Spent(1.0)}) is None
    # By processor seconds, on as many cores as the fits most like it had.
    busy = {large: Spent(60.0, 12.0), FitSize("svm", 1000, 3000, 2, 5): Spent(10.0, 18.0)}
    assert estimate(large, busy) == pytest.approx(12 / 1.8)
    file = tmp_path / "cache" / "fit-seconds.json"
    file.write_text('{"svm 100 10 2 5": 1.5}')  # of before, without processor seconds
    assert read_fit_seconds() == {small: Spent(1.5)}
    for damage in ("[1]", "{", '{"svm 1 2": 3}', '{"svm 1 2 3 0": 1}', '{"svm 1 2 3 4": null}'):
        file.write_text(damage)
        assert read_fit_seconds() == {}


def test_a_cache_that_cannot_be_written_stops_no_fit(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "file"))
    assert said(study)[0].fitted == 6

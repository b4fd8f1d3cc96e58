"""What is read in ten seconds: the sentence, the rows of the standing, and what they are held against."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import studies

from features.study.study import Study
from probe.analysis.answer import Contrast, answer
from probe.analysis.curves import Panel, TaskCurves
from probe.analysis.gaps import Gap, GapPoint
from probe.analysis.points import Curve, Point
from probe.analysis.random_draws import merge_draws, network_of
from probe.analysis.rival_methods import rival_methods
from probe.analysis.standings import layers_words, references, standings
from probe.analysis.statistics import Interval
from probe.fitting.fit import fit
from probe.reporting import short_answer
from probe.reporting.charts.chart import Plot
from probe.reporting.charts.standing_chart import standing_chart
from probe.reporting.charts.task_charts import answer_chart, answer_panel, charts
from probe.reporting.page.page import looks
from probe.reporting.report import report
from probe.reporting.short_answer import facts, sentence
from probe.reporting.tables.best import best_table

pytestmark = pytest.mark.usefixtures("svg_alone")


@pytest.fixture(scope="module")
def task(study: Study) -> TaskCurves:
    return studies.only(study)


def curve(name: str, *values: float, domain: str = "none") -> Curve:
    points = tuple(
        Point(f"l{i}", "none", i / 4, {"accuracy": Interval(v, v - 0.1, v + 0.1, 9.0)}, ())
        for i, v in enumerate(values)
    )
    return Curve(name, domain, "ridge", points)


def test_draws_of_random_weights_are_one_line_by_hand() -> None:
    """(.2 + .3 + .4) / 3 at the first layer, from .2 to .4; the other curves stay as they are."""
    trained = curve("net", 0.9, 0.8, domain="faces")
    other = curve("other@random", 0.5, 0.5)
    draws = [
        curve("net@random", 0.2, 0.3),
        curve("net@random-1", 0.3, 0.3),
        curve("net@random-12", 0.4, 0.6),
    ]
    merged = merge_draws([trained, draws[0], other, *draws[1:]])
    assert merged[0] is trained
    assert merged[2] is other
    assert merged[1].draws == 3
    values = [p.accuracy for p in merged[1].points]
    assert [v.value for v in values] == pytest.approx([0.3, 0.4])
    assert [(v.low, v.high) for v in values] == [(0.2, 0.4), (0.3, 0.6)]
    assert network_of("my@random-net") == "my@random-net"


def test_standings_are_the_best_rows_in_order(task: TaskCurves) -> None:
    rows = standings(task)
    top = {
        name: max(b.accuracy.value for b in task.best if b.backbone == name)
        for name in ("near", "far")
    }
    assert {row.backbone: row.accuracy.value for row in rows} == top
    values = [row.accuracy.value for row in rows]
    assert values == sorted(values, reverse=True)
    held = {reference.name: reference.accuracy.value for reference in references(task)}
    assert held["chance"] == pytest.approx(1 / 3)
    assert set(held) == {"chance", "near@random"}  # the classes are balanced
    table = best_table([task])
    assert [row[1] for row in table.rows] == ["near", "far", "near@random", "chance"]


def test_rows_lie_where_their_numbers_say(task: TaskCurves) -> None:
    names = [(b.backbone, b.domain) for b in task.best]
    chart = standing_chart(task, looks(names))
    spots = [(row.at, float(row.accuracy)) for row in chart.rows]
    spots += [(r.at, float(r.name.split()[-1])) for r in chart.references]
    (a, first), (b, second) = spots[0], spots[-1]
    per_point = (a - b) / (first - second)
    for at, accuracy in spots:
        assert at == pytest.approx(b + per_point * (accuracy - second), abs=0.2)
    for at, text in chart.ticks:
        assert at == pytest.approx(b + per_point * (float(text) - second), abs=0.2)
    assert all(0 <= at <= 100 for at, _ in spots)


def short(words: str) -> bool:
    return len(words.split()) <= 15 and not set("()[]") & set(words)


def test_sentences_of_every_case(task: TaskCurves) -> None:
    made = answer(task, "faces")
    assert made is not None
    leading = sentence(task, made)
    assert leading.startswith("near leads on age: ")
    seen = replace(task, have_seen=frozenset({"far"}))
    assert sentence(seen, made).startswith("near leads on age among networks new to its images: ")
    assert short(sentence(seen, made))
    apart = made.behind[0].difference
    noise = replace(made.behind[0], difference=replace(apart, low=-0.01))
    unsure = replace(made, behind=(noise,))
    assert sentence(task, unsure) == (
        "The closer domain helps on age, though no backbone stands out among all."
    )
    assert made.closest is not None
    level = replace(made.closest, difference=Interval(0.02, -0.01, 0.05, 9))
    for other in (
        replace(unsure, closest=None),
        replace(unsure, closest=level),
        replace(unsure, gap=None),
    ):
        assert sentence(task, other) == "No single winner on age: near and far are within noise."
    crowd = replace(made, behind=(noise, noise, noise))
    assert sentence(task, crowd) == "No single winner on age: 4 backbones are within noise."
    assert made.pretraining is not None
    small = replace(made.pretraining, difference=Interval(0.01, -0.02, 0.04, 9))
    idle = replace(made, pretraining=small)
    assert sentence(task, idle) == (
        "Pretraining is not shown to help on age: random weights may do as well."
    )
    floor = replace(made.leader, backbone="near@random", domain="none")
    ahead = replace(made.behind[0], a=floor.backbone, b=made.pretraining.a)
    beaten = replace(idle, leader=floor, behind=(ahead,))
    assert not idle.floor_leads
    assert sentence(task, beaten) == "Pretraining does not help on age: random weights did better."
    leads = replace(made, behind=(Contrast("near", "near@random", apart), *made.behind[1:]))
    assert sentence(task, leads).endswith(" points ahead of random weights.")
    pixels = replace(made, behind=(Contrast("near", "control:pixels", apart),))
    assert sentence(task, pixels).endswith(" points ahead of the raw pixels.")
    level = replace(ahead, difference=replace(apart, low=-0.01))
    assert "may do as well" in sentence(task, replace(beaten, behind=(level,)))
    guessing = replace(made.leader, metrics={"accuracy": Interval(0.36, 0.30, 0.42, 90)})
    assert sentence(task, replace(made, leader=guessing)) == (
        "No backbone is shown to beat guessing on age."
    )
    asked = dict(facts(task, replace(made, leader=guessing), "faces"))
    assert asked["Which layer?"] == "none is shown to beat guessing"
    assert "As one file for new images?" not in asked
    assert "reaches" in sentence(task, replace(made, behind=()))
    assert sentence(replace(task, best=()), None) == "No probe is fitted on age yet."
    assert sentence(task, None) == "Every backbone fitted on age has seen its test images."
    for case in (made, unsure, crowd, idle, beaten, replace(made, behind=()), None):
        assert short(sentence(task, case))


def test_controls_alone_are_drawn_in_no_chart_over_depth(tmp_path: Path) -> None:
    """Pixels have no depth: they stand in the plot of the answer, and no empty axes are drawn beside it."""
    study = studies.labelled(tmp_path / "study")
    pixels = studies.signal(study.labels("label"), 6, 1.0)
    studies.add(study, "control:pixels", {"pixels": pixels}, domain="control")
    fit(study.folder, probes=("ridge",))
    made = report(study.folder)
    (task,) = made.tasks
    marks = looks([("control:pixels", "control")])
    assert answer_chart(task, marks) is None
    assert charts(task, marks) == []
    assert any("pixels" in str(line) for line in references(task))
    studies.backbone(study, "net", (0.5, 1.0, 2.0), domain="faces")
    fit(study.folder, probes=("ridge",))
    made = report(study.folder)
    assert answer_chart(made.tasks[0], looks([("control:pixels", "control"), ("net", "faces")]))


def test_facts_answer_what_is_asked_next(task: TaskCurves) -> None:
    made = answer(task, "faces")
    assert made is not None
    assert made.closest is not None
    lines = dict(facts(task, made, "faces"))
    assert lines["Which layer?"] == "l2 of near"
    low, high = (100 * x for x in (made.closest.difference.low, made.closest.difference.high))
    assert f"[{low:+.1f}, {high:+.1f}]" in lines["Does the closer domain help?"]
    assert lines["Does the closer domain help?"].startswith("yes: +")
    assert lines["Is near better than random weights?"].startswith("yes: +")
    assert lines["Is near better than random weights?"].endswith("], of the same architecture")
    assert made.random is not None
    for floor, question, end in (
        ("other@random-2", "random weights of other", ", between two architectures"),
        ("control:pixels", "the raw pixels", "]"),
    ):
        apart = dict(facts(task, replace(made, random=replace(made.random, b=floor)), "faces"))
        assert apart[f"Is near better than {question}?"].endswith(end)
    assert lines["As one file for new images?"].startswith("probe export near/best/")
    odd = dict(facts(replace(task, task="Alter (Jahre)"), made, "faces"))
    assert odd["As one file for new images?"].endswith(" --task 'Alter (Jahre)'")
    assert lines["Is fine-tuning needed?"] == "not known: nothing is fine-tuned"
    worse = replace(made.closest, difference=Interval(-0.1, -0.15, -0.05, 9))
    lines = dict(facts(task, replace(made, closest=worse), "faces"))
    assert lines["Does the closer domain help?"].startswith("no: -10.0")
    lines = dict(facts(task, replace(made, closest=None), None))
    assert lines["Does the closer domain help?"] == (
        "not known: name the images' domain as closest in study.toml"
    )


@pytest.mark.parametrize(
    ("slopes", "words"),
    [
        (((0.2, 0.4), (0.1, 0.3)), "; the gap grows with depth: +14.0 points [+6.0, +22.0] at l2"),
        (((-0.4, -0.2), (-0.3, -0.1)), "; near falls behind with depth: -10.0 points [-18.0, -2.0] at l2"),
        (((0.2, 0.4), (-0.1, 0.3)), ""),
        (((0.2, 0.4), (-0.3, -0.1)), ""),
    ],
)  # fmt: skip
def test_a_closer_domain_that_helps_deeper_is_said_to_where_every_pooling_shows_it(
    task: TaskCurves, slopes: tuple[tuple[float, float], ...], words: str
) -> None:
    made = answer(task, "faces")
    assert made is not None
    level = replace(made, closest=Contrast("near", "far", Interval(0.02, -0.03, 0.07, 9)))
    method = max((b for b in task.best if b.backbone == "near"), key=lambda b: b.worth).method
    panel = next(p for p in task.panels if p.method == method)

    def over_depth(low: float, high: float) -> Panel:
        last = 0.14 if low + high > 0 else -0.1
        points = (
            GapPoint("l0", 0.2, 0.01, -0.05, 0.07),
            GapPoint("l2", 1.0, last, last - 0.08, last + 0.08),
        )
        gap = Gap(
            "near", "far", "objects", "faces", points, Interval((low + high) / 2, low, high, 9)
        )
        return replace(panel, gaps=(gap,))

    by_hand = replace(task, panels=tuple(over_depth(*ends) for ends in slopes))
    said = dict(facts(by_hand, level, "faces"))["Does the closer domain help?"]
    assert said == f"not shown: +2.0 points [-3.0, +7.0]{words}"


def test_the_leaders_methods_are_compared_in_words(
    task: TaskCurves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: one method ahead, one level, one behind; the contrast is of both on the same images."""
    made = answer(task, "faces")
    assert made is not None
    other = next(
        b for b in task.best if (b.backbone, b.method) == ("near", rival(made.leader.method))
    )
    (contrast,) = rival_methods(task, made)
    assert (contrast.a, contrast.b) == (made.leader.method, other.method)
    assert contrast.difference.value == pytest.approx(made.leader.worth - other.worth)
    ends = {
        "knn": (0.05, 0.02, 0.08),
        "svm": (0.01, -0.01, 0.03),
        "finetune": (-0.04, -0.06, -0.02),
    }
    drawn = [Contrast("ridge", name, Interval(*of, 9.0)) for name, of in ends.items()]
    monkeypatch.setattr(short_answer, "rival_methods", lambda *_: drawn)
    made = replace(made, leader=replace(made.leader, method="ridge"))
    assert dict(facts(task, made, "faces"))["Does the method matter?"] == (
        "against ridge, ahead: fine-tuning by 4.0 points; within noise: svm; behind: knn by 5.0 points"
    )
    monkeypatch.setattr(short_answer, "rival_methods", lambda *_: drawn[1:2])
    assert dict(facts(task, made, "faces"))["Does the method matter?"] == (
        "not shown: svm within noise of ridge"
    )
    monkeypatch.setattr(short_answer, "rival_methods", lambda *_: drawn[2:])
    assert "Does the method matter?" not in dict(facts(task, made, "faces"))


def rival(method: str) -> str:
    return "knn" if method == "ridge" else "ridge"


def test_the_curve_beside_the_answer_has_the_pooling_that_the_leader_chose(
    task: TaskCurves,
) -> None:
    panel = next(panel for panel in task.panels if panel.method == "ridge")
    both = replace(
        task, panels=(*task.panels, replace(panel, pool="auto"), replace(panel, pool="avg"))
    )
    for chosen, pool in ((("l2:avg", "l1:avg", "l2"), "avg"), (("l2", "l1", "l2:avg"), "auto")):
        best = tuple(
            replace(b, chosen=chosen, metrics={"accuracy": Interval(1.0, 0.9, 1.0, 9.0)})
            if (b.backbone, b.method) == ("near", "ridge")
            else b
            for b in task.best
        )
        found = answer_panel(replace(both, best=best))
        assert found is not None
        assert (found.method, found.pool) == ("ridge", pool)
    seen = replace(both, have_seen=frozenset({"near"}))
    leader = max((b for b in task.best if b.backbone != "near"), key=lambda b: b.worth)
    found = answer_panel(seen)
    assert found is not None
    assert found.method == leader.method


def test_a_leader_of_one_layer_has_its_interval_drawn(task: TaskCurves) -> None:
    names = [(b.backbone, b.domain) for b in task.best]
    panels = tuple(
        replace(panel, curves=tuple(replace(c, points=c.points[-1:]) for c in panel.curves))
        for panel in task.panels
    )
    chart = answer_chart(replace(task, panels=panels), looks(names))
    assert chart is not None
    assert isinstance(chart.drawing, Plot)
    assert all(stroke.whiskers and not stroke.band for stroke in chart.drawing.strokes)


def test_a_first_look_is_said_until_more_is_fitted(tmp_path: Path) -> None:
    y = np.arange(60) % 2
    made = studies.begin(tmp_path / "study", {"label": y})
    layers = {
        f"{layer}{pool}": studies.signal(y, 4, 1.0) for layer in "ab" for pool in ("", ":avg")
    }
    studies.add(made, "net", layers)
    fit(made.folder, quick=True)
    (warning,) = report(made.folder).contents.warnings
    assert warning.startswith(
        "A first look: ridge alone, at up to 2 layers of a network, maps averaged."
    )
    fit(made.folder, probes=("ridge",), layers=("a",))
    assert report(made.folder).contents.warnings == []


def test_layers_that_folds_chose_unlike(task: TaskCurves) -> None:
    assert layers_words(task, "near", ("l2", "l0:avg", "l2")) == "varies (l0 to l2)"
    assert layers_words(task, "near", ("l2:avg", "l2:avg")) == "l2:avg"
    assert layers_words(task, "near", ("l2:avg", "l2")) == "l2, pooling varies"
    assert layers_words(task, "near", ("l2", "l2")) == "l2"
    assert layers_words(task, "near", ()) == ""


def test_the_page_begins_with_the_answer(study: Study) -> None:
    made = report(study)
    text = made.index.read_text()
    (section,) = made.contents.tasks
    assert text.index(section.sentence) < text.index("<figure") < text.index("<details")

"""This study's numbers beside published ones, and which published findings hold."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean, stdev

import pytest
import studies

from features.errors import InputError
from features.study.study import Study
from probe.analysis.compare import compare
from probe.fitting.fit import fit
from probe.reporting.page.published_section import published_section
from probe.reporting.page.study_sections import PLANNED
from probe.reporting.report import report
from probe.reporting.tables.reference import METRICS, REFERENCES, reference
from probe.results import rows as results
from probe.results.rows import BEST

pytestmark = pytest.mark.usefixtures("svg_alone")

FILE = """
note = "Of other images."
[measures]
age = ["accuracy"]
[[system]]
name = "theirs"
year = 2016
accuracy = { age = 57.9 }
source = "their paper"
[[row]]
name = "near, ours"
result = "near/best/ridge"
system = "theirs"
[[row]]
name = "VGG-Face"
result = "vggface/best/ridge"
[[row]]
name = "nothing"
result = "nobody/best/ridge"
[[finding]]
says = "near is ahead of far"
published = "by 7 points"
pairs = ["near/best/ridge against far/best/ridge"]
[[finding]]
says = "far is ahead of near, and VGG-Face of far"
published = "by 3"
pairs = ["far/best/ridge against near/best/ridge", "vggface/best/ridge against far/best/ridge"]
[[finding]]
says = "VGG-Face is ahead"
published = "somehow"
pairs = ["vggface/best/ridge against far/best/ridge"]
"""


def written(folder: Path, text: str = FILE) -> str:
    file = folder / "numbers.toml"
    file.write_text(text)
    return str(file)


def test_the_table_has_the_folds_of_the_study_beside_what_was_published(
    study: Study, tmp_path: Path
) -> None:
    rows = results.read(study.folder / "results.csv")
    mine = [
        row
        for row in rows
        if (row.task, row.backbone, row.layer, row.method) == ("age", "near", BEST, "ridge")
    ]
    folds = [row.accuracy for row in mine if row.accuracy is not None]
    made = report(study, published=written(tmp_path))
    [table] = [table for table in made.tables if table.name == "published"]
    assert made.tables[0] is table
    first, vggface, nothing = table.rows
    assert first[3:5] == pytest.approx((mean(folds), stdev(folds)))
    pooled = studies.only(study)
    best = next(b for b in pooled.best if (b.backbone, b.method) == ("near", "ridge"))
    assert first[5] == (best.accuracy.low, best.accuracy.high)
    assert table.cells(first)[-3:] == ["57.9", "their paper", "near/best/ridge"]
    assert table.cells(vggface)[3:7] == table.cells(nothing)[3:7] == ["", "", "", ""]
    assert "the weights of vggface are not here; `probe weights add vggface FILE`" in str(
        vggface[-1]
    )
    assert nothing[-1] == "nobody/best/ridge is not in this study"
    assert table.note.endswith("Of other images.")
    page = made.index.read_text()
    assert page.index("Beside the published numbers") < page.index('class="answer"')
    assert (study.folder / "report" / "published.tex").is_file()


def test_a_finding_holds_as_the_comparison_says(study: Study, tmp_path: Path) -> None:
    rows = results.read(study.folder / "results.csv")
    words = published_section(study, rows, reference(written(tmp_path))).words
    gap = compare(study.folder, "near/best/ridge", "far/best/ridge", tasks=["age"])[0].difference
    assert gap.low > 0
    assert words[0] == "Finding 1: near is ahead of far. Published: by 7 points."
    assert words[1].startswith(
        f"Finding 1 on age holds: {100 * gap.value:+.1f} points "
        f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}] for near/best/ridge over far/best/ridge"
    )
    assert words[3].startswith(f"Finding 2 on age does not hold: {-100 * gap.value:+.1f} points")
    assert words[3].count("the weights of vggface are not here") == 1
    assert words[5].startswith("Finding 3 on age is not known; missing: the weights of vggface")


def test_random_weights_stand_in_the_table_and_prove_nothing(tmp_path: Path) -> None:
    study = studies.labelled(tmp_path / "study")
    studies.backbone(study, "vggface@random", (0.1, 0.2, 0.3), domain="none")
    studies.backbone(study, "far", (0.1, 0.4, 0.5))
    fit(study.folder, probes=["knn"])
    text = FILE.replace("age =", "label =").replace("ridge", "knn")
    made = report(study, published=written(tmp_path, text))
    assert made.contents.first is not None
    [table] = made.contents.first.tables
    assert table.rows[1][-1] == "vggface@random/best/knn"
    assert table.rows[1][3] is not None
    assert "random weights in the place of the published ones" in made.contents.first.words[-1]
    assert not re.search("Finding 3.* holds", " ".join(made.contents.first.words))


def test_a_planned_comparison_that_cannot_be_made_costs_no_report(study: Study) -> None:
    made = report(
        study, planned=[("near/best/ridge", "neer"), ("near/best/ridge", "far/best/ridge")]
    )
    [planned] = [section for section in made.contents.more if section.title == PLANNED]
    assert planned.words[1].startswith(
        "near/best/ridge and neer are not compared: neer: no such result"
    )
    assert planned.words[2].startswith("age: near/best/ridge")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("57.9", "579"), "age = 579 is no per cent"),
        (("57.9", '"57.9"'), "age = '57.9' is no per cent"),
        (('system = "theirs"', 'system = "their"'), "no system their; did you mean theirs"),
        (("near/best/ridge against", "near against"), "near is no result; write BACKBONE/LAYER"),
        (('["accuracy"]', '["acuracy"]'), "age is a list of accuracy and one_off"),
        (
            ("published =", "publisht ="),
            r"unknown key \[\[finding\]\] publisht; did you mean publish",
        ),
        (("[measures]", "[measures"), "not TOML"),
    ],
)
def test_a_file_of_numbers_with_a_mistake_is_refused(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        reference(written(tmp_path, FILE.replace(*change)))


def test_the_files_of_the_package_read_and_every_number_has_a_source() -> None:
    for file in REFERENCES.glob("*.toml"):
        made = reference(file.stem)
        assert all(system.source for system in made.system)
    paper = reference("paper")
    ours = paper.named("VGG-Face, fine-tuned (Özbulak et al., arXiv 1610.00134)")
    assert ours is not None
    assert [ours.published("age", metric) for metric in METRICS] == [0.579, None]
    assert ours.published("gender", "accuracy") is None
    # Of the paper's own networks only one number is known; no other may creep in.
    known = [row.system for row in paper.row if row.system and "GilNet" not in row.system]
    assert known == [ours.name]
    with pytest.raises(
        InputError, match="--published papr: there is no such file; did you mean paper"
    ):
        reference("papr")

"""Names that others chose are text in every file of the report, and no path out of its folder."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import studies

from probe.analysis.curves import curves
from probe.fitting.fit import fit
from probe.reporting.page.page import _options, page
from probe.reporting.report import Report, contents_of, report

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "quotes": "\"'><img src=x onerror=alert(1)>",
    "path": "../../escape",
    "long": "x" * 300,
    "right to left": "\u202eשלום العربية",
    "markup": "a|b`*_#&amp;\\{}~^%$",
    "mathematics": "$\\frac$",
    "hidden": "_hidden",
    "no glyphs": "日本語",
}


class Tags(HTMLParser):
    """The elements and attributes of a page, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [str(value) for name, value in attrs if name == "href"]
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def around(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if "study" not in path.parts
    }


def check_safe(made: Report, name: str) -> None:
    text = made.index.read_text()
    tags = Tags()
    tags.feed(text)
    assert not tags.names & {"img", "iframe", "object", "embed", "form", "base"}
    for link in tags.links:  # to a file beside the page, and nowhere else
        path = made.folder / unquote(link)
        assert path.parent == made.folder
        assert path.is_file()
    assert not {name for name in tags.attributes if name.startswith("on")}
    assert text.count("<script") == 2  # the numbers and the page's own
    script = (Path(page.__code__.co_filename).parent / "page.js").read_text()
    assert f"<script>{script}</script></body></html>" in text
    assert name in tags.text
    assert all(path.parent == made.folder for path in made.folder.rglob("*"))


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_are_text_and_stay_in_the_folder(tmp_path: Path, kind: str) -> None:
    """As backbone, task, layer, domain and class at once."""
    name = HOSTILE[kind]
    layer = name.replace("/", ".")
    y = np.arange(60) % 2
    study = studies.begin(tmp_path / "study", {name: [(name, "other")[v] for v in y]})
    before = around(tmp_path)
    layers = {layer: studies.signal(y, 4, 0.5), "fc": studies.signal(y, 4, 1.0)}
    studies.add(study, name, layers, domain=name, card={"pair": "far"})
    studies.add(study, "far", layers)
    fit(study.folder, probes=("ridge",))
    made = report(study.folder)
    check_safe(made, name)
    assert around(tmp_path) == before
    for stem in ("curves", "gap"):
        drawn = sorted(path.suffix for path in made.folder.glob(f"{stem}-*"))
        assert drawn == [".pdf", ".png", ".svg"]
    table = list(csv.DictReader(io.StringIO((made.folder / "table.csv").read_text())))
    assert {row["backbone"] for row in table} == {name, "far", "control:majority"}
    assert {row["task"] for row in table} == {name}
    markdown = (made.folder / "table.md").read_text().splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in markdown}) == 1
    if kind not in ("long", "script", "quotes"):  # those are cut to the width of a figure
        svg = Tags()
        svg.feed((made.folder / next(made.folder.glob("curves-*.svg")).name).read_text())
        assert name in svg.text


def test_a_hostile_source(tmp_path: Path) -> None:
    study = studies.labelled(tmp_path / "study", n=60)
    studies.backbone(study, "net", (0.3, 0.8, 2.0))
    fit(study.folder, probes=("ridge",))
    tasks = curves(study)
    for name in HOSTILE.values():
        text = page(contents_of(replace(study, source=name), tasks))
        tags = Tags()
        tags.feed(text)
        assert text.count("<script") == 2
        assert name in tags.text


def test_an_option_is_not_parted_from_its_dashes_and_stays_text() -> None:
    """By hand: only a word that begins with two dashes is kept together, and what is markup is escaped."""
    assert _options("probe export a--b --task <i>") == (
        'probe export a--b <span class="option">--task</span> &lt;i&gt;'
    )

"""The page in a real browser: opened from disk, no request, no error; pointer, keys, filters, sorting.

Needs Chromium (Debian's `chromium`, or $CHROMIUM) and playwright; skipped where there is none.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies

from features.data.tasks import Task
from features.study.study import open_study
from probe.fitting.fit import fit
from probe.reporting.report import report
from probe.scoring.rank import rank

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
HOSTILE = "<img src=x onerror=alert(1)>\"'‮ש"
LAYERS = ("conv1", "conv3", "fc6", "fc7")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, two probes, a pair, random weights and a hostile name."""
    folder = tmp_path_factory.mktemp("page") / "study"
    y = np.arange(120) % 3
    sexes = np.arange(120) // 3 % 2
    tasks = {"age": Task("age", ("0-2", "4-6", "8-12"), ordered=True)}
    labels = {"age": [tasks["age"].classes[v] for v in y], "sex": [("f", "m")[v] for v in sexes]}
    study = studies.begin(folder, labels, tasks, "faces", subject=np.arange(120) // 2)
    for name, domain, apart, card in (
        ("near", "faces", (0.3, 0.6, 1.2, 1.6), {"pair": HOSTILE}),
        (HOSTILE, "objects", (0.4, 0.6, 0.6, 0.4), {"pair": "near"}),
        ("near@random", "none", (0.1, 0.1, 0.1, 0.1), {"name": "near"}),
    ):
        layers = {
            layer: studies.signal(y, 6, strength, len(name) + i)
            for i, (layer, strength) in enumerate(zip(LAYERS, apart, strict=True))
        }
        random = {"random": True, "seed": 0} if domain == "none" else None
        studies.add(study, name, layers, domain=domain, card=card, weights=random)
    fit(folder, probes=("ridge", "knn"))
    rank(folder)
    return report(open_study(folder)).index


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


class Watched:
    """A page and everything it asked for or complained of."""

    def __init__(self, browser: Any, index: Path, width: int = 1280, dark: bool = False) -> None:
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(index.as_uri())

    def check(self, index: Path) -> None:
        assert self.requests == [index.as_uri()]
        assert self.complaints == []


@pytest.fixture
def watched(browser: Any, index: Path) -> Iterator[Watched]:
    made = Watched(browser, index)
    yield made
    made.check(index)
    made.context.close()


def shown(page: Any) -> list[str]:
    """The charts of what is opened, but those beside the answers, which stay what they are."""
    return list(page.locator("main details figure:visible h3").all_text_contents())


def open_all(page: Any) -> None:
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")


def until(page: Any, condition: str) -> None:
    """Wait for a condition; the page's policy forbids playwright's own way, which calls eval in it."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


def test_hover_tells_the_number_under_the_pointer(watched: Watched) -> None:
    page = watched.page
    plot = page.locator("figure:visible .plot").first
    plot.scroll_into_view_if_needed()
    at = page.evaluate(
        "() => { const chart = JSON.parse(document.getElementById('data').textContent).charts[0];"
        " const p = chart.lines[0].p[3];"
        " return [p[1], chart.scale[0] + chart.scale[1] * p[2], chart.lines[0].name, p[0], p[2]] }"
    )
    box = plot.locator("svg").bounding_box()
    scale = box["width"] / 480
    page.mouse.move(box["x"] + at[0] * scale + 2, box["y"] + at[1] * scale + 2)
    tip = page.locator(".tip").inner_text()
    assert at[2] in tip
    assert at[3] in tip
    assert f"{100 * at[4]:.1f} %" in tip
    page.mouse.move(5, 5)
    assert page.locator(".tip").count() == 0


def test_arrow_keys_read_the_points(watched: Watched) -> None:
    page = watched.page
    page.locator("figure:visible .plot").first.focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#status").inner_text()
    page.keyboard.press("ArrowRight")
    second = page.locator("#status").inner_text()
    assert ", conv1, " in first
    assert ", conv3, " in second
    page.keyboard.press("ArrowDown")
    assert page.locator("#status").inner_text().split(",")[0] != first.split(",")[0]
    page.keyboard.press("Escape")
    assert page.locator(".tip").count() == 0


def test_filters_leave_what_was_asked_for(watched: Watched) -> None:
    page = watched.page
    open_all(page)
    everything = shown(page)
    assert len([title for title in everything if title.startswith("accuracy")]) == 2
    assert page.locator(".answer figure:visible").count() == 2
    page.select_option("[data-filter=task]", "sex")
    page.select_option("[data-filter=method]", "knn")
    headings = "[...document.querySelectorAll('main details figure:not([hidden]) h3')]"
    until(page, f"{headings}.every(h => !h.textContent.includes('ridge'))")
    of_probes = [title for title in shown(page) if not title.startswith("How")]
    assert "gap within pairs: knn" in of_probes
    assert set(of_probes) <= {"gap within pairs: knn", "accuracy: knn"}
    assert page.locator(".answer figure:visible").count() == 1
    sentences = page.locator("li[data-sentence]:visible").all_text_contents()
    assert sentences
    assert not [words for words in sentences if words.startswith("ridge")]
    page.select_option("[data-filter=task]", "")
    page.select_option("[data-filter=metric]", "mae")
    first = "document.querySelector('main details figure:not([hidden]) h3')"
    until(page, f"{first}.textContent[0] === 'm'")
    assert [t for t in shown(page) if not t.startswith("How")] == ["mean error in classes: knn"]
    page.select_option("[data-filter=metric]", "accuracy")
    page.fill("[data-filter=layer]", "fc")
    rows = "table[data-filtered=layers] tbody tr:not([hidden])"
    until(page, f"document.querySelectorAll('{rows}').length < 20")
    layers = page.locator(rows).evaluate_all("rows => rows.map(row => row.cells[4].textContent)")
    assert layers
    assert all("fc" in layer for layer in layers)
    marks = page.locator("details figure:visible g.curve path.line").first.get_attribute("d")
    assert marks.count(".") == 4  # two points are left of four
    page.locator("[data-check=none]").click()
    page.locator("[data-backbone=near]").check()
    until(page, f"[1, 2, 3, 4, 5, 6, 7].includes(document.querySelectorAll('{rows}').length)")
    names = page.locator(rows).evaluate_all("rows => rows.map(row => row.cells[2].textContent)")
    assert set(names) == {"near"}
    standing = page.locator(".standing tbody tr:visible th")
    assert all("near" in words for words in standing.all_text_contents())
    for words in page.locator("li[data-sentence]:visible").all_text_contents():
        assert HOSTILE not in words
        assert "near@random" not in words


def test_tables_sort_both_ways(watched: Watched) -> None:
    page = watched.page
    open_all(page)
    table = page.locator("table[data-filtered=layers]").first
    column = table.locator("th", has_text="accuracy").first
    column.locator("button").click()
    cells = "rows => rows.map(row => row.cells[7].textContent).filter(t => t).map(Number)"
    up = table.locator("tbody tr").evaluate_all(cells)
    assert up == sorted(up)
    assert column.get_attribute("aria-sort") == "ascending"
    column.locator("button").click()
    assert table.locator("tbody tr").evaluate_all(cells) == sorted(up, reverse=True)
    assert column.get_attribute("aria-sort") == "descending"


def test_hostile_names_stay_text(watched: Watched) -> None:
    page = watched.page
    assert page.locator("img").count() == 0
    assert page.get_by_text(HOSTILE).count() > 0
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"


@pytest.mark.parametrize(
    ("width", "dark"),
    [
        (1280, False),
        (390, True),
        pytest.param(390, False, marks=pytest.mark.slow),
        pytest.param(1280, True, marks=pytest.mark.slow),
    ],
)
def test_nothing_sticks_out_and_no_rule_of_accessibility_is_broken(
    browser: Any, index: Path, width: int, dark: bool
) -> None:
    made = Watched(browser, index, width, dark)
    assert made.page.evaluate("document.documentElement.scrollWidth") <= width
    assert made.page.evaluate("document.documentElement.dataset.theme") == (
        "dark" if dark else "light"
    )
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    source = (Path(axe.__file__).parent / "axe.min.js").read_text()
    made.check(index)
    made.page.evaluate(source)  # by the browser's own protocol: the page's policy lets in no script
    open_all(made.page)
    assert made.page.evaluate("document.documentElement.scrollWidth") <= width
    result = made.page.evaluate("() => axe.run()")
    serious = [v for v in result["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"]) for v in serious] == []
    assert len(result["passes"]) > 10
    made.context.close()


def test_it_prints_the_answers_on_a_page_or_two(watched: Watched, tmp_path: Path) -> None:
    """What the reader opened is printed too; what stays closed is not."""
    page = watched.page
    page.emulate_media(media="print")
    assert page.locator(".answer:visible").count() == 2
    assert page.locator("main details:visible").count() == 0
    assert not page.locator(".filters").is_visible()
    page.pdf(path=tmp_path / "page.pdf")
    printed = (tmp_path / "page.pdf").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page[^s]", printed)) <= 3
    page.evaluate("document.querySelector('details.part').open = true")
    assert page.locator("main details:visible").count() == 1


def test_without_its_script_everything_is_there(browser: Any, index: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(index.as_uri())
    assert page.locator("figure svg.chart").count() > 8
    assert not page.locator(".filters").is_visible()
    context.close()

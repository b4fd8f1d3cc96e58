"""The report as one HTML file that opens from disk and asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from features.machine.finite import to_json
from probe.analysis.outcomes import METRICS
from probe.reporting.charts.legend import key, markers
from probe.reporting.charts.looks import Looks, shapes, slots
from probe.reporting.charts.svg import Chart
from probe.reporting.page.contents import Contents, TaskSection
from probe.reporting.tables.table import Table

_OPEN_ROWS = 60
"""A longer table is folded away."""


def looks(backbones: Sequence[tuple[str, str]]) -> Looks:
    """Colour and shape of every backbone and domain, as the charts number them."""
    names, domains = [n for n, _ in backbones], [d for _, d in backbones]
    place, shape = slots(domains), shapes(names)
    return {(name, domain): (place[domain], shape[name]) for name, domain in backbones}


def page(contents: Contents) -> str:
    """The whole page. Names and labels, which others chose, are text in it and never markup."""
    study = contents.study
    look = looks(contents.backbones)
    numbered: list[Chart] = []
    tasks = ", ".join(section.task for section in contents.tasks)
    script, style = _asset("page.js"), _asset("page.css")
    body = [_masthead(contents, tasks), _filters(contents, look), "<main>"]
    for section in contents.tasks:
        body += _task(section, contents, look, numbered)
    for part in contents.more:
        body.append(f"<section><h2>{escape(part.title)}</h2>")
        body += [f"<p>{escape(sentence)}</p>" for sentence in part.words]
        body += _charts(part.charts, numbered)
        for table in part.tables:
            body += [f"<h3>{escape(table.title)}</h3>", *_table(table)]
        body.append("</section>")
    for table in contents.tables:
        body += [f"<section><h2>{escape(table.title)}</h2>", *_table(table), "</section>"]
    body += [_reading(), "</main>", markers([chart.svg for chart in numbered])]
    data = {
        "charts": [
            {
                "task": chart.task, "method": chart.method, "pool": chart.pool,
                "metric": chart.metric, "unit": chart.unit, "scale": chart.scale, "lines": chart.lines,
            }
            for chart in numbered
        ]
    }  # fmt: skip
    return (
        "\n".join(
            [
                "<!DOCTYPE html>",
                '<html lang="en"><head><meta charset="utf-8">',
                f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>Transferability to {escape(tasks)}: {escape(study.source)}</title>",
                f"<style>{style}{_colours()}</style></head><body>",
                *body,
                f'<script type="application/json" id="data">{_json(data)}</script>',
                f"<script>{script}</script></body></html>",
            ]
        )
        + "\n"
    )


@cache
def _asset(name: str) -> str:
    return files("probe.reporting.page").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Only this very script runs, and nothing is fetched."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = to_json(value, (",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _colours() -> str:
    from probe.reporting.charts.looks import DARK, LIGHT

    light = "".join(f".c{i}{{--c:{c}}}" for i, c in enumerate(LIGHT))
    dark = "".join(f'[data-theme="dark"] .c{i}{{--c:{c}}}' for i, c in enumerate(DARK))
    heat = "".join(
        f".h{i}{{background:color-mix(in srgb,var(--focus) {5 * i}%,transparent)}}"
        for i in range(1, 11)
    )
    return f"{light}{heat}@media screen{{{dark}}}"


def _masthead(contents: Contents, tasks: str) -> str:
    study = contents.study
    parts = [
        "<header>",
        f"<h1>How far do features transfer to {escape(tasks)}?</h1>",
        f'<p class="soft">Data: {escape(study.source)}, {contents.images} images. '
        '<button id="theme" aria-pressed="false">dark</button></p>',
    ]
    if study.synthetic:
        parts.append(
            '<p class="stamp">SYNTHETIC: these images are drawn; no number says anything about people.</p>'
        )
    parts += [f'<p class="stamp">{escape(said)}</p>' for said in contents.warnings]
    for section in contents.tasks:
        parts.append(f'<div class="answer" data-task="{escape(section.task, quote=True)}">')
        parts.append(
            f'<h2 class="sr">Answer for {escape(section.task)}</h2><h3>{escape(section.task)}</h3>'
        )
        parts += [f"<p>{escape(sentence)}</p>" for sentence in section.answer]
        parts.append("</div>")
    if contents.missing:
        parts.append(
            '<details class="missing"><summary>What this study does not hold</summary><ul>'
        )
        parts += [f"<li>{escape(sentence)}</li>" for sentence in contents.missing]
        parts.append("</ul></details>")
    return "\n".join([*parts, "</header>"])


def _filters(contents: Contents, look: Looks) -> str:
    charts = [chart for section in contents.tasks for chart in section.charts]
    metrics = {m: METRICS[m] for c in charts if (m := c.metric) in METRICS}
    chosen: dict[str, dict[str, str]] = {
        "task": {s.task: s.task for s in contents.tasks},
        "method": {c.method: c.method for c in charts if c.method and c.method != "fine-tuning"},
        "pool": {c.pool: c.pool for c in charts if c.pool and c.pool != "none"},
        "metric": metrics,
    }
    parts = ['<div class="filters" role="search" aria-label="filters"><div>']
    for name, values in chosen.items():
        title = "pooling" if name == "pool" else name
        first = "" if name == "metric" else '<option value="">all</option>'
        last = '<option value="">all</option>' if name == "metric" else ""
        options = "".join(
            f'<option value="{escape(value, quote=True)}">{escape(shown)}</option>'
            for value, shown in values.items()
        )
        hidden = " hidden" if len(values) < 2 else ""
        parts.append(
            f'<label{hidden}>{title} <select data-filter="{name}">{first}{options}{last}</select></label>'
        )
    parts.append(
        '<label>layer <input data-filter="layer" size="10" placeholder="part of a name"></label>'
    )
    parts.append('<details><summary>backbones</summary><div class="names">')
    parts.append('<button data-check="all">all</button><button data-check="none">none</button>')
    for name, domain in contents.backbones:
        sign = key(look[name, domain], domain)
        parts.append(
            f'<label><input type="checkbox" checked data-backbone="{escape(name, quote=True)}">{sign}'
            f"{escape(name)} ({escape(domain)})</label>"
        )
    parts.append('</div></details><span id="status" role="status" class="soft"></span></div></div>')
    return "".join(parts)


def _task(
    section: TaskSection,
    contents: Contents,
    look: Looks,
    numbered: list[Chart],
) -> list[str]:
    parts = [
        f'<section data-task="{escape(section.task, quote=True)}"><h2>{escape(section.task)}</h2>'
    ]
    parts.append('<ul class="legend">')
    for name, domain in contents.backbones:
        sign = key(look[name, domain], domain)
        parts.append(f"<li>{sign}{escape(name)} ({escape(domain)})</li>")
    parts += [f"<li>{sign}{escape(meaning)}</li>" for sign, meaning in section.signs]
    parts.append("</ul>")
    parts += _charts(section.charts, numbered)
    if not any(chart.metric == "gap" for chart in section.charts):
        parts.append(
            "<p>No gap is drawn: the backbones that are a pair (one architecture, other weights) have "
            "no layer in common that is fitted.</p>"
            if section.paired
            else "<p>No gap is drawn: no two of these backbones are a pair (one architecture, other "
            "weights). <code>probe extract --weights random</code> makes a pair with any.</p>"
        )
    parts.append("<h3>In words</h3><ul>")
    parts += [f"<li>{escape(sentence)}</li>" for sentence in section.findings]
    parts.append("</ul>")
    for table in section.tables:
        parts += [f"<h3>{escape(table.title)}</h3>", *_table(table)]
    parts.append("</section>")
    return parts


def _charts(charts: Sequence[Chart], numbered: list[Chart]) -> list[str]:
    parts = ['<div class="charts">']
    for chart in charts:
        title = escape(chart.title)
        legend = "".join(f"<li>{sign}{escape(name)}</li>" for sign, name in chart.legend)
        caption = f'<figcaption><ul class="legend">{legend}</ul></figcaption>' if legend else ""
        parts.append(
            f'<figure data-chart="{len(numbered)}"><h4>{title}</h4><div class="plot" tabindex="0" '
            f'role="group" aria-label="{escape(chart.title, quote=True)}; arrow keys read the points">'
            f"{chart.svg}</div>{caption}</figure>"
        )
        numbered.append(chart)
    return [*parts, "</div>"]


def _table(table: Table) -> list[str]:
    """A table that scrolls in its own frame, folded away when it is long."""
    kind = {"table": "layers"}.get(table.name, table.name)
    filtered = any(column.name == "backbone" for column in table.columns)
    attribute = f' data-filtered="{escape(kind, quote=True)}"' if filtered else ""
    style = ' class="wrap"' if table.name in ("backbones", "literature") else ""
    parts = [f"<details{'' if len(table.rows) > _OPEN_ROWS else ' open'}>"]
    parts.append(f"<summary>{len(table.rows):,} rows</summary>")
    if table.note:
        parts.append(f'<p class="soft">{escape(table.note)}</p>')
    label = escape(table.title, quote=True)
    parts.append(f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">')
    parts.append(f"<table{attribute}{style}><thead><tr>")
    text = [column.kind in ("text", "label") for column in table.shown]
    for column, is_text in zip(table.shown, text, strict=True):
        side = "" if is_text else ' class="n"'
        parts.append(
            f'<th scope="col" data-column="{escape(column.name, quote=True)}"{side}>'
            f"<button>{escape(column.title)}</button></th>"
        )
    parts.append("</tr></thead><tbody>")
    for row in table.rows:
        cells = "".join(
            f"<td>{escape(cell)}</td>"
            if is_text
            else f'<td class="n{_shade(cell, column.kind)}">{escape(cell)}</td>'
            for cell, column, is_text in zip(table.cells(row), table.shown, text, strict=True)
        )
        best = "best" in row
        parts.append(f'<tr class="best">{cells}</tr>' if best else f"<tr>{cells}</tr>")
    parts.append("</tbody></table></div></details>")
    return parts


def _shade(cell: str, kind: str) -> str:
    """A class that shades a cell by its per cent."""
    return f" h{round(float(cell) / 10)}" if kind == "heat" and cell else ""


def _reading() -> str:
    return (
        "<section><h2>How to read this</h2>"
        "<p>Every accuracy is of images whose subject was in no training row. C, and the layer of a "
        "<em>best</em> row, were chosen inside the training folds; the best of many layers on the "
        "test folds would flatter itself. Bands are 95 % intervals over subjects; those of a gap hold "
        "for all layers at once. Intervals of a difference also count that methods trained on other images "
        "would differ otherwise. A gap is drawn only within a pair: one architecture, other weights. "
        "Two networks that are no pair differ in architecture, input and width too, so their "
        "difference is not the domain's alone.</p>"
        "<h3>What age and gender inference is not fit for</h3>"
        "<p>Age groups and binary gender read off a face are labels that others gave. They are useful to "
        "compare networks and to find out where one fails, which is why accuracy stands here by "
        "subgroup wherever a column allows it. They do not tell who somebody is, many people are in "
        "none of the classes, and nothing here should decide about a person.</p></section>"
    )

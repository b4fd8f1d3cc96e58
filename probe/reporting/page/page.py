"""The report as one HTML file that opens from disk and asks nothing of the network.

The markup is in the Jinja templates of templates/, which escape every value: names and labels, which
others chose, are text on the page and never markup.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import count
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from features.data import options_in
from features.errors import in_words
from features.machine.strict_json import to_json
from probe.reporting.charts.chart import Chart, Plot
from probe.reporting.charts.legend import CROSS, OUTLINES, PLUS, backbone_sign
from probe.reporting.charts.markers import DARK, DASHES, LIGHT, Markers, shapes, slots
from probe.reporting.charts.plane import HEIGHT, LEFT, RIGHT, TOP, WIDTH
from probe.reporting.charts.task_charts import TUNING
from probe.reporting.page.contents import Contents
from probe.results.metrics import CURVES

_OF_PEOPLE = {"age", "years", "gender", "sex", "race", "ethnicity"}
"""Tasks beside which the page says what they are not fit for."""


def looks(backbones: Sequence[tuple[str, str]]) -> Markers:
    """Colour and shape of every backbone and domain, as the charts number them."""
    names, domains = [n for n, _ in backbones], [d for _, d in backbones]
    place, shape = slots(domains), shapes(names)
    return {(name, domain): (place[domain], shape[name]) for name, domain in backbones}


def page(contents: Contents) -> str:
    """The whole page."""
    look = looks(contents.backbones)
    beside = [section.curve for section in contents.tasks if section.curve is not None]
    parts = [chart for section in contents.tasks for _, part in section.parts for chart in part]
    charts = [*beside, *parts]
    all_charts = [*charts, *(chart for section in contents.more for chart in section.charts)]
    script = _asset("page.js")
    return _environment().get_template("page.html").render(
        contents=contents,
        tasks=in_words([section.task for section in contents.tasks]),
        reads_people=any(s.task.casefold() in _OF_PEOPLE for s in contents.tasks),
        images_of=data_name(contents.study.source),
        policy=_policy(script),
        style=_asset("page.css"),
        script=script,
        light=LIGHT,
        dark=DARK,
        dashes=DASHES,
        choices=_choices(contents, charts),
        backbones=[
            (backbone_sign(look[name, domain], domain), name, domain)
            for name, domain in contents.backbones
        ],
        next_number=count().__next__,
        used_marks=_used_marks(all_charts),
        data={"charts": [_numbers(chart) for chart in all_charts]},
    )  # fmt: skip


def data_name(source: str) -> str:
    """The name of a study's data without options and the folders they lie in: `utkface`, `faces.csv`."""
    own, _ = options_in(source)
    kind, colon, place = ("", "", own) if own.startswith("/") else own.partition(":")
    if not Path(place).is_absolute():
        return own
    name = Path(place).name
    return f"{kind}{colon}{name}" if kind and kind.lower() != name.lower() else name


@cache
def _coded(sentence: str) -> Markup:
    """A sentence escaped, with what stands between backquotes as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))


def _options(words: str) -> Markup:
    """Words escaped, in which no option is parted from its dashes at the end of a line."""
    return Markup(
        re.sub(r"(?<!\S)(--[a-z-]+)", r'<span class="option">\1</span>', str(escape(words)))
    )


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("probe.reporting.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.policies["json.dumps_function"] = lambda value: to_json(value, (",", ":"))
    made.policies["json.dumps_kwargs"] = {}
    made.filters["coded"] = _coded
    made.filters["options"] = _options
    made.filters["px"] = lambda pixels: f"{pixels:.1f}"
    made.globals.update(
        width=WIDTH, height=HEIGHT, left=LEFT, right=RIGHT, top=TOP, outlines=OUTLINES,
        crosses=(CROSS, PLUS), shade=_shade,
    )  # fmt: skip
    return made


@cache
def _asset(name: str) -> Markup:
    """A file of ours that stands in the page as it is."""
    return Markup(files("probe.reporting.page").joinpath(name).read_text(encoding="utf-8"))


def _policy(script: str) -> str:
    """The content security policy of the page: only this very script runs, and nothing is fetched."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _choices(contents: Contents, charts: Sequence[Chart]) -> dict[str, dict[str, str]]:
    """What the page can be filtered by: each filter's values, with their names for people."""
    return {
        "task": {section.task: section.task for section in contents.tasks},
        "method": {c.method: c.method for c in charts if c.method and c.method != TUNING},
        "pool": {c.pool: c.pool for c in charts if c.pool and c.pool != "none"},
        "metric": {
            metric: CURVES[metric].words
            for metric in CURVES
            if any(c.metric == metric for c in charts)
        },
    }


def _used_marks(charts: Sequence[Chart]) -> list[tuple[int, int]]:
    """Colour and shape of every mark that a line of the charts refers to."""
    plots = [chart.drawing for chart in charts if isinstance(chart.drawing, Plot)]
    return sorted({(s.colour, s.shape) for plot in plots for s in plot.strokes if s.marks})


def _numbers(chart: Chart) -> dict[str, object]:
    """What the page's script knows of a chart: its filters, and of each line `p`, its points."""
    return {
        "task": chart.task, "method": chart.method, "pool": chart.pool, "metric": chart.metric,
        "unit": chart.unit, "scale": chart.drawing.scale,
        "lines": [
            {
                "b": line.backbone,
                "name": line.name,
                "p": [
                    (layer, round(x, 1), *(round(value, 4) for value in values))
                    for layer, x, *values in line.points
                ],
            }
            for line in chart.lines
        ],
    }  # fmt: skip


def _shade(cell: str, kind: str) -> str:
    """A class that shades a cell by its per cent."""
    return f" h{round(float(cell) / 10)}" if kind == "heat" and cell else ""

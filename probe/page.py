"""The report as one HTML file that opens from disk, asks nothing of the network and runs no script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from features.study import Study
from probe.curves import TaskCurves
from probe.tables import Line, cells, headings
from probe.words import contaminations, findings

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
h1, h2, h3 { line-height: 1.2; }
h2 { border-top: 1px solid #ccc; padding-top: 1.5rem; margin-top: 2.5rem; }
.stamp { background: #fff3cd; border: 1px solid #b58900; padding: .5rem 1rem; font-weight: 600; }
.scroll { overflow-x: auto; }
figure { margin: 1rem 0; }
figure svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.best { background: #eef4fb; }
@media print { details { display: block; } h2 { break-before: page; } }
"""


def page(
    study: Study, found: Sequence[TaskCurves], table: Sequence[Line], figures: Mapping[str, str]
) -> str:
    """The whole page.

    Args:
        study: The study.
        found: The curves of its tasks.
        table: The lines of its table.
        figures: SVG by name, `curves-TASK` and `gap-TASK`.
    """
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Transferability: {escape(study.source)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Transferability of features to {escape(', '.join(t.task for t in found))}</h1>",
        f"<p>Data: {escape(study.source)}, {len(study)} images.</p>",
    ]
    if study.synthetic:
        parts.append(
            '<p class="stamp">SYNTHETIC: these images are drawn; no number says anything about people.</p>'
        )
    for task in found:
        parts += _task(task, [line for line in table if line.task == task.task], figures)
    parts += _backbones(study)
    parts += [
        "<h2>How to read this</h2>",
        "<p>Every accuracy is of images whose subject was in no training row. C, and the layer of a "
        "<em>best</em> row, were chosen inside the training folds; the best of many layers on the "
        "test folds would flatter itself. Bands are 95 % intervals over subjects; those of a gap hold "
        "for all layers at once. A gap is drawn only within a pair: one architecture, other weights. "
        "Two networks that are no pair differ in architecture, input and width too, so their "
        "difference is not the domain's alone.</p>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _task(task: TaskCurves, table: list[Line], figures: Mapping[str, str]) -> list[str]:
    parts = [f"<h2>{escape(task.task)}</h2>", "<ul>"]
    parts += [f"<li>{escape(sentence)}</li>" for sentence in findings(task)]
    parts.append("</ul>")
    for kind, what in (("curves", "Accuracy over depth"), ("gap", "Gap within pairs over depth")):
        svg = figures.get(f"{kind}-{task.task}")
        if svg is not None:
            label = escape(
                f"{what}, task {task.task}; the numbers are in the table below", quote=True
            )
            parts.append(f'<figure role="img" aria-label="{label}">{_inline(svg)}</figure>')
        elif kind == "gap":
            parts.append(
                "<p>No gap is drawn: no two of these backbones are a pair (one architecture, other "
                "weights). <code>probe extract --weights random</code> makes a pair with any.</p>"
            )
    parts.append("<h3>All layers</h3>")
    parts += _table(headings(), [(cells(line), line.layer == "best") for line in table])
    return parts


def _backbones(study: Study) -> list[str]:
    header = ["backbone", "domain", "parameters", "licence", "weights", "preprocessing"]
    rows = []
    for name in study.backbones():
        with study.features(name) as file:
            about = file.attributes
        rows.append(
            (
                [
                    name,
                    str(about["domain"]),
                    f"{int(about.get('parameters', 0)):,}",
                    str(about.get("licence", "")) or "not stated",
                    _weights(json.loads(about.get("weights", "{}"))),
                    str(about["preprocessing"]),
                ],
                False,
            )
        )
    warnings = [f"<p><strong>{escape(said)}</strong></p>" for said in contaminations(study)]
    return ["<h2>Backbones</h2>", *warnings, *_table(header, rows)]


def _weights(weights: Mapping[str, Any]) -> str:
    if weights.get("random"):
        return f"random, seed {weights['seed']}"
    if "sha256" not in weights:
        return ""
    checked = "verified" if weights["verified"] else "unverified"
    return f"{weights['file']}, sha256 {weights['sha256'][:12]}, {checked}"


def _table(header: Sequence[str], rows: Sequence[tuple[Sequence[str], bool]]) -> list[str]:
    parts = ['<div class="scroll" tabindex="0" role="region" aria-label="table"><table><thead><tr>']
    parts += [f'<th scope="col">{escape(title)}</th>' for title in header]
    parts.append("</tr></thead><tbody>")
    for row, best in rows:
        cells_ = "".join(
            f'<td class="number">{escape(c)}</td>' if _is_number(c) else f"<td>{escape(c)}</td>"
            for c in row
        )
        parts.append(f'<tr class="best">{cells_}</tr>' if best else f"<tr>{cells_}</tr>")
    parts.append("</tbody></table></div>")
    return parts


def _is_number(text: str) -> bool:
    return bool(text) and all(sign in "0123456789.,–-" for sign in text)


def _inline(svg: str) -> str:
    return svg[svg.index("<svg") :]

"""The numbers of a report as tables: CSV, Markdown and LaTeX from the same rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from probe.curves import TaskCurves
from probe.results import BEST, Row
from probe.statistics import Interval


@dataclass(frozen=True)
class Line:
    """One backbone, layer and method, over all folds; accuracies are fractions."""

    task: str
    method: str
    backbone: str
    domain: str
    layer: str
    pool: str
    depth: float | None
    dim: int | None
    accuracy: float
    """Pooled over all tested images."""
    low: float
    high: float
    """The 95 % interval over subjects."""
    fold_mean: float
    fold_sd: float
    """Between folds (n - 1)."""
    fold_sem: float
    balanced_accuracy: float
    macro_f1: float
    one_off: float | None
    mae: float | None
    images: int
    at_edge: int
    """In how many folds the chosen C lies at the edge of its grid."""
    chosen: str
    """For `best`: the layers chosen inside the training folds."""


COLUMNS = tuple(f.name for f in fields(Line))
_SHOWN = (
    ("task", "task"), ("method", "method"), ("backbone", "backbone"), ("domain", "domain"),
    ("layer", "layer"), ("pool", "pool"), ("depth", "depth"), ("accuracy", "accuracy"),
    ("interval", "95 % interval"), ("fold_mean", "mean of folds"), ("fold_sd", "SD"),
    ("balanced_accuracy", "balanced"), ("one_off", "one-off"), ("mae", "MAE"),
)  # fmt: skip


def lines(found: Sequence[TaskCurves]) -> list[Line]:
    """`best` rows first, then every layer in depth order, for each task and method."""
    made: dict[tuple[str, ...], Line] = {}
    for task in found:
        for best in task.best:
            one = _line(best.rows, best.accuracy)
            made[_key(one)] = one
        for panel in task.panels:
            for curve in panel.curves:
                for point in curve.points:
                    one = _line(point.rows, point.accuracy)
                    made[_key(one)] = one
    return list(made.values())


def to_csv(table: Sequence[Line]) -> str:
    """All columns, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in table:
        values = [getattr(one, name) for name in COLUMNS]
        writer.writerow(
            [f"{v:.6g}" if isinstance(v, float) else "" if v is None else v for v in values]
        )
    return text.getvalue()


def to_markdown(table: Sequence[Line], synthetic: bool) -> str:
    """The columns that people read, in per cent."""
    header = [title for _, title in _SHOWN]
    rows = [header, ["---"] * len(header), *(cells(one) for one in table)]
    escaped = ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
    return _stamp(synthetic, "{}\n\n") + "\n".join(escaped) + "\n"


def to_latex(table: Sequence[Line], synthetic: bool) -> str:
    """As Markdown, as a `tabular` to be input."""
    made = ["\\begin{tabular}{" + "l" * 6 + "r" * (len(_SHOWN) - 6) + "}", "\\hline"]
    made.append(" & ".join(_tex(title) for _, title in _SHOWN) + " \\\\ \\hline")
    made += [" & ".join(_tex(cell) for cell in cells(one)) + " \\\\" for one in table]
    return _stamp(synthetic, "% {}\n") + "\n".join([*made, "\\hline", "\\end{tabular}"]) + "\n"


def cells(one: Line) -> list[str]:
    """What a person reads of a line, in the order of `headings`."""
    found = []
    for name, _ in _SHOWN:
        if name == "interval":
            found.append(f"{100 * one.low:.1f}–{100 * one.high:.1f}")
        elif name in ("depth", "mae"):
            value = getattr(one, name)
            found.append("" if value is None else f"{value:.2f}")
        elif name == "layer" and one.layer == BEST:
            found.append(f"best: {one.chosen}")
        else:
            value = getattr(one, name)
            found.append(f"{100 * value:.1f}" if isinstance(value, float) else str(value or ""))
    return found


def headings() -> list[str]:
    """The column titles of `cells`."""
    return [title for _, title in _SHOWN]


def _line(rows: Sequence[Row], accuracy: Interval) -> Line:
    n = np.array([row.n_test for row in rows], dtype=float)
    folds = np.array([row.accuracy for row in rows])
    sd = float(folds.std(ddof=1)) if len(folds) > 1 else 0.0

    def pooled(name: str) -> float | None:
        values = [getattr(row, name) for row in rows]
        return None if None in values else float(np.average(values, weights=n))

    first = rows[0]
    return Line(
        task=first.task,
        method=first.method,
        backbone=first.backbone,
        domain=first.domain,
        layer=first.layer,
        pool=first.pool,
        depth=first.depth,
        dim=first.dim if first.layer != BEST else None,
        accuracy=accuracy.value,
        low=accuracy.low,
        high=accuracy.high,
        fold_mean=float(folds.mean()),
        fold_sd=sd,
        fold_sem=sd / float(np.sqrt(len(folds))),
        balanced_accuracy=float(np.mean([row.balanced_accuracy for row in rows])),
        macro_f1=float(np.mean([row.macro_f1 for row in rows])),
        one_off=pooled("one_off"),
        mae=pooled("mae"),
        images=int(n.sum()),
        at_edge=sum(row.at_edge for row in rows),
        chosen=", ".join(dict.fromkeys(row.chosen for row in rows)),
    )


def _key(one: Line) -> tuple[str, ...]:
    return (one.task, one.method, one.backbone, one.layer, one.pool)


def _stamp(synthetic: bool, pattern: str) -> str:
    return pattern.format("SYNTHETIC: drawn images") if synthetic else ""


def _tex(text: str) -> str:
    for sign in "\\&%$#_{}":
        text = text.replace(sign, "\\textbackslash " if sign == "\\" else "\\" + sign)
    return (
        text.replace("–", "--").replace("~", "\\textasciitilde ").replace("^", "\\textasciicircum ")
    )

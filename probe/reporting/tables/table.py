"""A table of numbers as CSV in full, and as Markdown, LaTeX and HTML cells as people read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Cell = str | int | float | tuple[float, float] | None
"""Text, a count, a number, both ends of an interval, or nothing known."""

Kind = Literal[
    "text",
    "percent",
    "heat",
    "decimal",
    "precise",
    "points",
    "count",
    "interval",
    "range",
    "label",
    "hidden",
]
"""How a column is shown: fractions in per cent (`heat`: shaded), two or four decimals, signed points,
digits; an `interval` is of fractions and a `range` of plain numbers; a `label` is text for people
only, and a `hidden` column stands in the CSV only."""


@dataclass(frozen=True)
class Column:
    """A column: its name in the CSV, its title for people, and how its cells are shown."""

    name: str
    title: str
    kind: Kind = "text"

    @property
    def is_text(self) -> bool:
        """Whether its cells are words, not numbers."""
        return self.kind in ("text", "label")


@dataclass(frozen=True)
class Table:
    """Rows under columns, with what a reader should know of them."""

    name: str
    """Of its files."""
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def shown(self) -> list[Column]:
        """The columns that people read."""
        return [column for column in self.columns if column.kind != "hidden"]

    def cells(self, row: Sequence[Cell]) -> list[str]:
        """What a person reads of a row, under `shown`."""
        pairs = zip(self.columns, row, strict=True)
        return [show(value, column.kind) for column, value in pairs if column.kind != "hidden"]


def show(value: Cell, kind: Kind) -> str:
    """One cell as people read it; blank where nothing is known."""
    if value is None or value != value:  # not a number
        return ""
    if isinstance(value, tuple):
        low, high = value
        if low != low:
            return ""
        return (
            f"{low:.2f} to {high:.2f}" if kind == "range" else f"{100 * low:.1f}–{100 * high:.1f}"
        )
    if isinstance(value, str):
        return value
    match kind:
        case "percent" | "heat":
            return f"{100 * value:.1f}"
        case "points":
            return f"{100 * value:+.1f}"
        case "decimal":
            return f"{value:.2f}"
        case "precise":
            return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def to_csv(table: Table) -> str:
    """All columns, numbers in full; an interval is two columns, `low` and `high`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [_headers(column) for column in table.columns]
    writer.writerow([name for group in names for name in group])
    for row in table.rows:
        writer.writerow(
            [one for value, n in zip(row, names, strict=True) for one in _full(value, len(n))]
        )
    return text.getvalue()


def to_markdown(table: Table, synthetic: bool) -> str:
    """The columns that people read."""
    header = [column.title for column in table.shown]
    rows = [header, ["---"] * len(header), *(table.cells(row) for row in table.rows)]
    escaped = ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
    return _stamp(synthetic, "{}\n\n") + "\n".join(escaped) + "\n"


def to_latex(table: Table, synthetic: bool) -> str:
    """As Markdown, as a `tabular` to be input."""
    align = "".join("l" if column.is_text else "r" for column in table.shown)
    made = [f"\\begin{{tabular}}{{{align}}}", "\\hline"]
    made.append(" & ".join(_tex(column.title) for column in table.shown) + " \\\\ \\hline")
    made += [" & ".join(map(_tex, table.cells(row))) + " \\\\" for row in table.rows]
    return _stamp(synthetic, "% {}\n") + "\n".join([*made, "\\hline", "\\end{tabular}"]) + "\n"


def _headers(column: Column) -> list[str]:
    if column.kind == "label":
        return []
    if column.kind not in ("interval", "range"):
        return [column.name]
    prefix = "" if column.name == "interval" else f"{column.name}_"
    return [f"{prefix}low", f"{prefix}high"]


def _full(value: Cell, columns: int) -> Iterable[str | int]:
    if not columns:
        return []
    if isinstance(value, tuple):
        return [_digits(end) for end in value]
    if isinstance(value, float):
        return [_digits(value)]
    return [""] * columns if value is None else [value]


def _digits(value: float) -> str:
    return "" if value != value else f"{value:.6g}"


def _stamp(synthetic: bool, pattern: str) -> str:
    return pattern.format("SYNTHETIC: drawn images") if synthetic else ""


def _tex(text: str) -> str:
    for sign in "\\&%$#_{}":
        text = text.replace(sign, "\\textbackslash " if sign == "\\" else "\\" + sign)
    return (
        text.replace("–", "--").replace("~", "\\textasciitilde ").replace("^", "\\textasciicircum ")
    )

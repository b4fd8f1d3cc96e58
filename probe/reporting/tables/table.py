"""A table: all of it as CSV, and the columns that people read as Markdown, LaTeX and cells of the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from features.data.cells import quoted

Cell = str | int | float | tuple[float, float] | None
"""Text, a count, a number, both ends of an interval, or None where nothing is known."""

Kind = Literal[
    "text",
    "percent",
    "heat",
    "decimal",
    "precise",
    "significant",
    "points",
    "count",
    "interval",
    "range",
    "label",
    "hidden",
]
"""How a column is shown.

Fractions are shown in per cent (`percent`, or `heat` with shaded cells) or as signed `points`; numbers
with two decimals (`decimal`), with four (`precise`), with three digits (`significant`) or with commas
(`count`); the ends of an `interval`
are fractions, those of a `range` plain numbers. A `label` is text that the CSV does not have, and a
`hidden` column is in the CSV only.
"""


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
    """Rows under columns."""

    name: str
    """The stem of its files' names."""
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    """What a reader of the numbers should know, in a sentence or two."""

    @property
    def shown(self) -> list[Column]:
        """The columns that people read."""
        return [column for column in self.columns if column.kind != "hidden"]

    def cells(self, row: Sequence[Cell]) -> list[str]:
        """The text of a row's cells under the columns `shown`."""
        pairs = zip(self.columns, row, strict=True)
        return [show(value, column.kind) for column, value in pairs if column.kind != "hidden"]


def show(value: Cell, kind: Kind) -> str:
    """The text of a cell; blank where nothing is known."""
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
        case "significant":
            return f"{float(f'{value:.3g}'):g}"  # 1000, not 1e+03
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def to_csv(table: Table) -> str:
    """The table as CSV: all columns, six digits; an interval has two columns, `low` and `high`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [_headers(column) for column in table.columns]
    writer.writerow([name for group in names for name in group])
    for row in table.rows:
        writer.writerow(
            [cell for value, n in zip(row, names, strict=True) for cell in _full(value, len(n))]
        )
    return text.getvalue()


def to_markdown(table: Table, synthetic: bool) -> str:
    """The columns that people read, as a table in Markdown."""
    header = [column.title for column in table.shown]
    rows = [header, ["---"] * len(header), *(table.cells(row) for row in table.rows)]
    escaped = ["| " + " | ".join(map(_markdown, row)) + " |" for row in rows]
    return _stamp(synthetic, "{}\n\n") + "\n".join(escaped) + "\n"


def to_latex(table: Table, synthetic: bool) -> str:
    r"""The columns that people read, as a LaTeX `tabular` for `\input`."""
    align = "".join("l" if column.is_text else "r" for column in table.shown)
    made = [f"\\begin{{tabular}}{{{align}}}", "\\hline"]
    made.append(_tex_row([column.title for column in table.shown]) + " \\\\ \\hline")
    made += [_tex_row(table.cells(row)) + " \\\\" for row in table.rows]
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
    if value is None:
        return [""] * columns
    return [quoted(value) if isinstance(value, str) else value]


def _digits(value: float) -> str:
    return "" if value != value else f"{value:.6g}"


def _stamp(synthetic: bool, pattern: str) -> str:
    return pattern.format("SYNTHETIC: drawn images") if synthetic else ""


_TEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "–": "--"}
_TEX |= {sign: "\\" + sign for sign in "&%$#_{}"}


def _markdown(text: str) -> str:
    """A cell that is no HTML, no link and no end of the cell or the line."""
    for sign, written in (("<", "&lt;"), ("|", "\\|"), ("](", "]\\(")):
        text = text.replace(sign, written)
    return " ".join(text.split("\n"))


def _tex(text: str) -> str:
    """A cell that is text to TeX: no command, no comment, no paragraph's end."""
    return "".join(" " if sign < " " else _TEX.get(sign, sign) for sign in text)


def _tex_row(cells: Sequence[str]) -> str:
    r"""A row that `\\` before it does not take for its option."""
    row = " & ".join(map(_tex, cells))
    return "{}" + row if row.lstrip().startswith(("[", "*")) else row

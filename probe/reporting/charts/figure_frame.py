"""The frame of a figure: its style, axes, title and legend, and its files, the same bytes in every run."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.machine.files import replacing
from probe.analysis.shorten import shorten

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 3.4, 2.5  # inches per panel: one is a paper's column, two its page
_ROW_OF_NAMES = 48  # characters that stand in a line under one panel
_LEGEND = 28  # characters of a name in the legend, whose middle is left out where it is longer
_IN_AN_INCH, _KEY = 19, 6  # characters of the legend in an inch; those that a line's sign takes
_LONGEST = 44  # characters of a name; the whole of it is in the tables
_METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
_STYLE: Any = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "legend.fontsize": 6.5, "axes.linewidth": 0.6, "lines.linewidth": 1.2,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "svg.hashsalt": "probe", "svg.fonttype": "none", "pdf.fonttype": 42,
    "text.parse_math": False, "axes.formatter.use_mathtext": False,
}  # fmt: skip


def render(figure: Figure, kind: str) -> bytes:
    """The figure as `svg`, `png` or `pdf`."""
    buffer = io.BytesIO()
    with figure_style(), warnings.catch_warnings():
        # Text stays text in SVG; PNG and PDF show a box where the font has no sign.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()  # once: the layout is the same for all kinds
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=kind, metadata=_METADATA[kind], dpi=200)
    return buffer.getvalue()


def save(figure: Figure, stem: Path) -> None:
    """Write `STEM.svg`, `STEM.png` and `STEM.pdf`."""
    for kind in _METADATA:
        with replacing(stem.with_name(f"{stem.name}.{kind}")) as written:
            written.write_bytes(render(figure, kind))


@contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib's settings for our figures; those of before come back at the end."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """A figure with `rows` x `columns` panels, and its axes by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row")
    return figure, [list(row) for row in axes]


def label_axes(
    ax: Axes,
    title: str,
    ticks: Mapping[str, int] | None,
    what: str,
    along: str = "layer",
) -> None:
    """Name the panel and its axes; `ticks` are the places of layers' names, None for depths."""
    ax.set_title(_short(title))
    if ticks is None:
        ax.set_xlim(-0.03, 1.03)
        ax.set_xlabel("depth (0 input, 1 end of the network)")
    else:
        names = list(ticks)
        lines = 1 if len(names) * max(map(len, names)) < _ROW_OF_NAMES else 2
        most = max(len(shorten(name)) for name in names)
        every = -(-len(names) * most // (lines * _ROW_OF_NAMES))
        shown = names[:: max(every, 1)]
        ax.set_xticks(
            [ticks[name] for name in shown],
            ["\n" * (i % lines) + shorten(name) for i, name in enumerate(shown)],
        )
        ax.set_xlabel(along)
    plain = ("mean", "diff", "root", "R2", "Spearman")
    ax.set_ylabel(what if what.startswith(plain) else f"{what} (%)")
    ax.grid(axis="y", linewidth=0.3, color="#cccccc")
    ax.set_axisbelow(True)


def add_title_and_legend(
    figure: Figure,
    axes: list[list[Axes]],
    handles: Mapping[str, Artist],
    title: str,
    synthetic: bool,
) -> None:
    """Give the figure its title and, below all panels, one legend; panels without a line are hidden."""
    for row in axes:
        for ax in row:
            if not ax.has_data():
                ax.set_visible(False)
        for ax in row[1:]:
            ax.set_ylabel("")  # shared with the first
    columns = len(axes[0])
    longest = min(_LEGEND, max(len(" ".join(name.split())) for name in handles))
    fitting = int(_IN_AN_INCH * _WIDTH * columns // (longest + _KEY))
    per_row = max(1, min(4, 2 * columns, fitting))
    legend = figure.legend(
        list(handles.values()),
        ["name"] * len(handles),
        loc="outside lower center",
        frameon=False,
        ncols=per_row,
        handlelength=2.2,
        columnspacing=1.0,
    )
    for text, name in zip(legend.get_texts(), handles, strict=True):
        text.set_parse_math(False)
        text.set_text(
            shorten(" ".join(name.split()), _LEGEND)
        )  # only now: a label that begins with _ would be left out
    lines = -(-len(handles) // per_row)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.16 * lines + 0.2)
    heading = textwrap.fill(title, round(12 * width), max_lines=2, placeholder="…")
    figure.suptitle(heading + ("\nSYNTHETIC: drawn images" if synthetic else ""), fontsize=9)


def _short(name: str, longest: int = _LONGEST) -> str:
    """A name for a figure: one line, cut where it is long."""
    flat = " ".join(name.split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"

"""The curves and gaps as figures: SVG, PNG and PDF, byte-identical from one run to the next."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.machine.files import replacing
from probe.analysis.curves import Panel, TaskCurves
from probe.analysis.points import Curve
from probe.reporting.charts.axis import layer_ticks, place
from probe.reporting.charts.markers import LIGHT, shapes, slots
from probe.results.metrics import CURVES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHAPES = "osD^vPX*"
_WIDTH, _HEIGHT = 3.4, 2.5  # inches per panel: one is a paper's column, two its page
_LONGEST = 44  # characters of a name; the whole of it is in the tables
_METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
_STYLE: Any = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "legend.fontsize": 7, "axes.linewidth": 0.6, "lines.linewidth": 1.2,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "svg.hashsalt": "probe", "svg.fonttype": "none", "pdf.fonttype": 42,
    "text.parse_math": False, "axes.formatter.use_mathtext": False,
}  # fmt: skip


def curve_figure(task: TaskCurves, synthetic: bool, metric: str = "accuracy") -> Figure | None:
    """A metric over depth: a row per method, a column per pooling, a line per backbone."""
    rows = _by_method(task.panels)
    if not rows:
        return None
    with _style():
        figure, axes = _figure(len(rows), max(map(len, rows)))
        drawn = [c for panel in task.panels for c in panel.curves]
        look = _look(drawn)
        ticks = layer_ticks([[(p.layer, p.depth) for p in c.points] for c in _networks(drawn)])
        handles: dict[str, Artist] = {}
        for across, panels in zip(axes, rows, strict=True):
            for ax, panel in zip(across, panels, strict=False):
                for curve in panel.curves:
                    _line(ax, curve, metric, look[curve.backbone, curve.domain], ticks, handles)
                for curve in task.tuned:
                    _tuned_marks(ax, curve, metric, ticks, handles)
                _levels(ax, task, metric, handles)
                _label_axes(ax, panel.title, ticks, CURVES[metric].label)
        _add_title_and_legend(
            figure, axes, handles, f"{task.task}: {CURVES[metric].words} over depth", synthetic
        )
    return figure


def gap_figure(task: TaskCurves, synthetic: bool) -> Figure | None:
    """The gap of every pair over depth with its simultaneous band; None without a pair."""
    rows = [[p for p in row if p.gaps] for row in _by_method(task.panels)]
    rows = [row for row in rows if row]
    if not rows:
        return None
    with _style():
        figure, axes = _figure(len(rows), max(map(len, rows)))
        gaps = [g for row in rows for p in row for g in p.gaps]
        names = list(dict.fromkeys(g.title for g in gaps))
        ticks = layer_ticks([[(p.layer, p.depth) for p in g.points] for g in gaps])
        shades = (*LIGHT[4:], *LIGHT[:2])
        handles: dict[str, Artist] = {}
        for across, panels in zip(axes, rows, strict=True):
            for ax, panel in zip(across, panels, strict=False):
                for gap in panel.gaps:
                    number = names.index(gap.title)
                    x = [place(p.layer, p.depth, ticks) for p in gap.points]
                    low, high = (
                        [100 * getattr(p, end) for p in gap.points] for end in ("low", "high")
                    )
                    shade = shades[number % len(shades)]
                    ax.fill_between(x, low, high, color=shade, alpha=0.16, linewidth=0)
                    y = [100 * p.gap for p in gap.points]
                    (line,) = ax.plot(x, y, color=shade, marker=_SHAPES[number % 8], markersize=3.5)
                    handles.setdefault(gap.title, line)
                ax.axhline(0, color="#000000", linewidth=0.6)
                _label_axes(ax, panel.title, ticks, "difference in points")
        _add_title_and_legend(
            figure,
            axes,
            handles,
            f"{task.task}: gap within pairs, 95 % band over all layers",
            synthetic,
        )
    return figure


def tuned_figure(task: TaskCurves, synthetic: bool, metric: str = "accuracy") -> Figure | None:
    """Fine-tunes by the depth of their cut; None where no fine-tune has a cut."""
    if not any(p.layer for curve in task.tuned for p in curve.points):
        return None
    with _style():
        figure, axes = _figure(1, 1)
        ax = axes[0][0]
        cut = [c for c in task.tuned if any(p.layer for p in c.points)]
        ticks = layer_ticks([[(p.layer, p.depth) for p in c.points if p.layer] for c in cut])
        look = _look(task.tuned)
        handles: dict[str, Artist] = {}
        for curve in task.tuned:
            if curve in cut:
                _line(
                    ax,
                    curve,
                    metric,
                    look[curve.backbone, curve.domain],
                    ticks,
                    handles,
                    name=_tuned_name(curve),
                )
            else:
                value = CURVES[metric].factor * curve.points[0].metrics[metric].value
                style = (0, (4, 2)) if curve.kind == "scratch" else (0, (1, 1))
                colour = look[curve.backbone, curve.domain][0]
                line = ax.axhline(value, color=colour, linestyle=style, linewidth=1)
                handles.setdefault(_tuned_name(curve), line)
        _levels(ax, task, metric, handles)
        _label_axes(ax, "fine-tuning", ticks, CURVES[metric].label, "cut: frozen or copied through")
        _add_title_and_legend(
            figure,
            axes,
            handles,
            f"{task.task}: {CURVES[metric].words} by depth of the cut",
            synthetic,
        )
    return figure


def render(figure: Figure, kind: str) -> bytes:
    """The figure as `svg`, `png` or `pdf`."""
    buffer = io.BytesIO()
    with _style(), warnings.catch_warnings():
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
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def _figure(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row")
    return figure, [list(row) for row in axes]


def _look(drawn: Sequence[Curve]) -> dict[tuple[str, str], tuple[str, str]]:
    """Colour and shape of every backbone and domain."""
    names, domains = [c.backbone for c in drawn], [c.domain for c in drawn]
    place_of, shape_of = slots(domains), shapes(names)
    return {
        (c.backbone, c.domain): (LIGHT[place_of[c.domain]], _SHAPES[shape_of[c.backbone]])
        for c in drawn
    }


def _networks(drawn: Sequence[Curve]) -> list[Curve]:
    return [c for c in drawn if c.domain != "control"]


def _line(
    ax: Axes,
    curve: Curve,
    metric: str,
    look: tuple[str, str],
    ticks: Mapping[str, int] | None,
    handles: dict[str, Artist],
    name: str | None = None,
) -> None:
    """Draw a curve with its band; a control of one number is a level line."""
    points = [p for p in curve.points if metric in p.metrics]
    if not points:
        return
    colour, shape = look
    style = {"none": (0, (4, 2)), "control": (0, (1, 1.5))}.get(curve.domain, "-")
    label = name or f"{curve.backbone} ({curve.domain})"
    scale = CURVES[metric].factor
    y = [scale * p.metrics[metric].value for p in points]
    if len(points) == 1 and curve.domain == "control":  # one number, whatever the depth
        handles.setdefault(label, ax.axhline(y[0], color=colour, linestyle=style))
        return
    x = [place(p.layer, p.depth, ticks) for p in points]
    low, high = (
        [scale * getattr(p.metrics[metric], end) for p in points] for end in ("low", "high")
    )
    if np.isfinite(low).all():
        ax.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    open_ = curve.kind == "copied"
    (line,) = ax.plot(
        x,
        y,
        color=colour,
        linestyle=style,
        marker=shape,
        markersize=3.5 if len(points) <= 24 else 2,
        markerfacecolor="white" if open_ else colour,
    )
    handles.setdefault(label, line)


def _tuned_marks(
    ax: Axes, curve: Curve, metric: str, ticks: Mapping[str, int] | None, handles: dict[str, Artist]
) -> None:
    """Draw a fine-tune in a probe's panel: a mark at each cut, a level line for the whole network."""
    colour = LIGHT[slots([curve.domain])[curve.domain]]
    scale = CURVES[metric].factor
    for point in curve.points:
        if metric not in point.metrics:
            continue
        y = scale * point.metrics[metric].value
        if not point.layer:
            style = (0, (4, 2)) if curve.kind == "scratch" else (0, (5, 1, 1, 1))
            line = ax.axhline(y, color=colour, linestyle=style, linewidth=0.9)
            handles.setdefault(_tuned_name(curve), line)
        elif ticks is None or point.layer in ticks:
            shape = "+" if curve.kind == "copied" else "x"
            x = place(point.layer, point.depth, ticks)
            (mark,) = ax.plot([x], [y], color=colour, marker=shape, linestyle="none")
            handles.setdefault(_tuned_name(curve), mark)


def _tuned_name(curve: Curve) -> str:
    return f"{curve.method} {curve.backbone}"


def _levels(ax: Axes, task: TaskCurves, metric: str, handles: dict[str, Artist]) -> None:
    """Draw the accuracies that guessing reaches; other metrics have no such number."""
    if metric != "accuracy":
        return
    handles["chance"] = ax.axhline(100 * task.chance, color="#6B6B6B", linewidth=0.8, linestyle=":")
    if task.majority is not None:
        handles["majority class"] = ax.axhline(
            100 * task.majority, color="#6B6B6B", linewidth=0.8, linestyle="-."
        )


def _label_axes(
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
        ax.set_xticks(
            list(ticks.values()), [_short(name, 16) for name in ticks], rotation=50, ha="right"
        )
        for label in ax.get_xticklabels():
            label.set_rotation_mode("anchor")
        ax.set_xlabel(along)
    ax.set_ylabel(what if what.startswith(("mean", "diff")) else f"{what} (%)")
    ax.grid(axis="y", linewidth=0.3, color="#cccccc")
    ax.set_axisbelow(True)


def _add_title_and_legend(
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
    wide = max((len(_short(name)) for name in handles), default=0) > 24
    per_row = min(3, columns) if wide else min(4, 2 * columns)
    legend = figure.legend(
        list(handles.values()),
        ["name"] * len(handles),
        loc="outside lower center",
        frameon=False,
        ncols=per_row,
        handlelength=2.4,
        columnspacing=1.2,
    )
    for text, name in zip(legend.get_texts(), handles, strict=True):
        text.set_parse_math(False)
        text.set_text(_short(name))  # only now: a label that begins with _ would be left out
    lines = -(-len(handles) // per_row)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.16 * lines + 0.2)
    heading = textwrap.fill(title, round(12 * width), max_lines=2, placeholder="…")
    figure.suptitle(heading + ("\nSYNTHETIC: drawn images" if synthetic else ""), fontsize=9)


def _short(name: str, longest: int = _LONGEST) -> str:
    """A name for a figure: one line, cut where it is long."""
    flat = " ".join(name.split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def _by_method(panels: Sequence[Panel]) -> list[list[Panel]]:
    """The panels in rows, one row for each method."""
    methods = dict.fromkeys(p.method for p in panels)
    return [[p for p in panels if p.method == method] for method in methods]

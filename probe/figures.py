"""The curves and gaps as figures: SVG, PNG and PDF, byte-identical from one run to the next."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probe.curves import Curve, Panel, TaskCurves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, safe for the colour-blind; a shape per backbone is the second cue.
_KNOWN = {"faces": "#0072B2", "objects": "#D55E00", "none": "#767676", "control": "#000000"}
_FURTHER = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_SHAPES = "osD^vPX*<>hp"
_WIDTH = 3.6  # inches per panel
_METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}


def colours(domains: Sequence[str]) -> dict[str, str]:
    """A colour for every domain, the same in all figures of a report."""
    others = [d for d in dict.fromkeys(domains) if d not in _KNOWN]
    return _KNOWN | {d: _FURTHER[i % len(_FURTHER)] for i, d in enumerate(others)}


def curve_figure(found: TaskCurves, synthetic: bool) -> Figure:
    """Accuracy over depth: a row per method, a column per pooling, a line per backbone."""
    rows = _grid(found.panels)
    figure, axes = _figure(len(rows), max(map(len, rows)))
    palette = colours([c.domain for p in found.panels for c in p.curves])
    names = list(dict.fromkeys(c.backbone for p in found.panels for c in p.curves))
    ticks = _shared_layers([c for p in found.panels for c in p.curves])
    for across, panels in zip(axes, rows, strict=True):
        for ax, panel in zip(across, panels, strict=False):
            for curve in panel.curves:
                _draw(
                    ax,
                    curve,
                    palette[curve.domain],
                    _SHAPES[names.index(curve.backbone) % 12],
                    ticks,
                )
            ax.axhline(found.chance, color="#767676", linewidth=0.8, linestyle=":")
            ax.axhline(found.majority, color="#767676", linewidth=0.8, linestyle="-.")
            _finish(ax, panel, ticks, "accuracy")
    axes[0][0].plot([], [], color="#767676", linewidth=0.8, linestyle=":", label="chance")
    axes[0][0].plot([], [], color="#767676", linewidth=0.8, linestyle="-.", label="majority class")
    _legend(figure, axes)
    _title(figure, f"{found.task}: accuracy over depth", synthetic)
    return figure


def gap_figure(found: TaskCurves, synthetic: bool) -> Figure | None:
    """The gap of every pair over depth with its simultaneous band; None without a pair."""
    rows = [[p for p in row if p.gaps] for row in _grid(found.panels)]
    rows = [row for row in rows if row]
    if not rows:
        return None
    figure, axes = _figure(len(rows), max(map(len, rows)))
    gaps = [g for row in rows for p in row for g in p.gaps]
    names = list(dict.fromkeys(g.title for g in gaps))
    ticks = _ticks([[(p.layer, p.depth) for p in g.points] for g in gaps])
    shades = [*_FURTHER, "#0072B2", "#D55E00"]
    for across, panels in zip(axes, rows, strict=True):
        for ax, panel in zip(across, panels, strict=False):
            for gap in panel.gaps:
                shade = shades[names.index(gap.title) % len(shades)]
                x = [_place(p.layer, p.depth, ticks) for p in gap.points]
                ax.fill_between(
                    x,
                    [p.low for p in gap.points],
                    [p.high for p in gap.points],
                    color=shade,
                    alpha=0.15,
                    linewidth=0,
                )
                ax.plot(
                    x,
                    [p.gap for p in gap.points],
                    color=shade,
                    linewidth=1.4,
                    marker=_SHAPES[names.index(gap.title) % 12],
                    markersize=4,
                    label=gap.title,
                )
            ax.axhline(0, color="#000000", linewidth=0.8)
            _finish(ax, panel, ticks, "difference in accuracy")
    _legend(figure, axes)
    _title(figure, f"{found.task}: gap within pairs, 95 % band over all layers", synthetic)
    return figure


def render(figure: Figure, kind: str) -> bytes:
    """The figure as `svg`, `png` or `pdf`."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(
        {"svg.hashsalt": "probe", "svg.fonttype": "none", "pdf.fonttype": 42}
    ):
        figure.savefig(buffer, format=kind, metadata=_METADATA[kind], dpi=160, bbox_inches="tight")
    return buffer.getvalue()


def save(figure: Figure, stem: Path) -> None:
    """Write `STEM.svg`, `STEM.png` and `STEM.pdf`."""
    for kind in _METADATA:
        stem.with_name(f"{stem.name}.{kind}").write_bytes(render(figure, kind))


def _figure(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH * columns + 0.6, 2.7 * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row")
    return figure, [list(row) for row in axes]


def _draw(ax: Axes, curve: Curve, colour: str, shape: str, ticks: dict[str, int] | None) -> None:
    points = curve.points
    style = {"none": "--", "control": ":"}.get(curve.domain, "-")
    label = f"{curve.backbone} ({curve.domain})"
    if len(points) == 1 and curve.domain == "control":  # one number, whatever the depth
        ax.axhline(
            points[0].accuracy.value, color=colour, linestyle=style, linewidth=1.2, label=label
        )
        return
    x = [_place(p.layer, p.depth, ticks) for p in points]
    low, high = [p.accuracy.low for p in points], [p.accuracy.high for p in points]
    ax.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    ax.plot(
        x,
        [p.accuracy.value for p in points],
        color=colour,
        linestyle=style,
        linewidth=1.4,
        marker=shape,
        markersize=4,
        label=label,
    )


def _finish(ax: Axes, panel: Panel, ticks: dict[str, int] | None, what: str) -> None:
    pool = "" if panel.pool == "none" else f", pooling {panel.pool}"
    ax.set_title(f"{panel.method}{pool}", fontsize=9)
    if ticks is None:
        ax.set_xlim(-0.03, 1.03)
        ax.set_xlabel("depth (0 input, 1 end of the network)", fontsize=8)
    else:
        ax.set_xticks(list(ticks.values()), list(ticks), rotation=60, fontsize=7)
        ax.set_xlabel("layer", fontsize=8)
    ax.set_ylabel(what, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(axis="y", linewidth=0.3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _legend(figure: Figure, axes: list[list[Axes]]) -> None:
    found = {}
    for row in axes:
        for ax in row:
            if not ax.has_data():
                ax.set_visible(False)
            handles, labels = ax.get_legend_handles_labels()
            found.update(dict(zip(labels, handles, strict=True)))
    figure.legend(
        list(found.values()),
        list(found),
        loc="outside lower center",
        fontsize=7,
        frameon=False,
        ncols=2,
    )


def _title(figure: Figure, title: str, synthetic: bool) -> None:
    figure.suptitle(title + ("   SYNTHETIC: drawn images" if synthetic else ""), fontsize=10)


def _grid(panels: Sequence[Panel]) -> list[list[Panel]]:
    methods = dict.fromkeys(p.method for p in panels)
    return [[p for p in panels if p.method == method] for method in methods]


def _shared_layers(curves: Sequence[Curve]) -> dict[str, int] | None:
    found = [c for c in curves if c.domain != "control"]
    return _ticks([[(p.layer, p.depth) for p in c.points] for c in found])


def _ticks(lines: Sequence[Sequence[tuple[str, float]]]) -> dict[str, int] | None:
    """Places of the layers' names on the axis, if all lines are of one architecture; else None."""
    depths: dict[str, float] = {}
    for line in lines:
        for layer, depth in line:
            if depths.setdefault(layer, depth) != depth:
                return None
    longest = max(lines, key=len, default=[])
    names = [layer for layer, _ in longest]
    if set(names) != set(depths) or len(names) > 24:
        return None
    return {name: i for i, name in enumerate(names)}


def _place(layer: str, depth: float, ticks: dict[str, int] | None) -> float:
    return depth if ticks is None else float(ticks[layer])

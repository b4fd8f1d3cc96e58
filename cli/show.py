"""What a person sees: tables, progress, bars. Data go to stdout, everything else to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from probe.counts import count

if TYPE_CHECKING:
    from probe.analysis.curves import TaskCurves

_LINE_SECONDS = 10.0
_BAR = 30
_LAST = 20  # characters that the last column of a table keeps at least
_CUT = 10  # the same where it may be cut


def say(text: str) -> None:
    """Print one line for people, on stderr."""
    typer.echo(text, err=True)


def put_json(value: object) -> None:
    """Print one JSON object on stdout; null for what is not a finite number."""
    from features.machine.strict_json import to_json

    typer.echo(to_json(value))


def put_table(header: Sequence[str], rows: Sequence[Sequence[str]], cut_last: bool = False) -> None:
    """Print a table on stdout: aligned for a terminal, tab-separated for a pipe.

    Only the last column is folded, or with `cut_last` cut short at the terminal's edge. Where the others
    alone are too wide for the terminal, every row becomes a paragraph: a name cut short is a name that
    cannot be typed.
    """
    if not sys.stdout.isatty():
        for row in (header, *rows):
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    if (
        sum(widths[:-1]) + 2 * len(widths) + min(widths[-1], _CUT if cut_last else _LAST)
        > console.width
    ):
        named = max(map(len, header[1:]))
        for row in rows:
            typer.echo(row[0])
            for name, cell in zip(header[1:], row[1:], strict=True):
                if cell:
                    typer.echo(f"  {name:<{named}}  {cell}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header[:-1]:
        table.add_column(name, no_wrap=True)
    table.add_column(header[-1], overflow="fold")
    room = console.width - sum(widths[:-1]) - 2 * len(widths)
    for row in rows:
        if cut_last and len(row[-1]) > room:
            row = [*row[:-1], row[-1][: room - 1] + "…"]
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def put_bars(tasks: Sequence[TaskCurves]) -> None:
    """Print accuracy over depth as bars, task by task, with a mark at the majority class (or chance).

    Of a number they are of the mean absolute error, with a mark at the median's.
    """
    for task in tasks:
        typer.echo("")
        scale = task.scale
        mark, longest = _mark(task)
        typer.echo(_first_line(task, mark))
        first = {
            panel.method: panel for panel in reversed(task.panels)
        }  # the first pooling of each
        for panel in reversed(first.values()):
            pool = "" if panel.pool == "none" else f", pooling {panel.pool}"
            typer.echo(f"  {panel.method}{pool}")
            for curve in panel.curves:
                typer.echo(f"    {curve.backbone} ({curve.domain})")
                wide = max(len(p.layer) for p in curve.points)
                for point in curve.points:
                    bar = _bar(point.headline.value / longest, mark / longest)
                    typer.echo(f"      {point.layer:<{wide}} {bar} {scale.value(point.headline)}")
        typer.echo("  best layer, chosen inside the training folds")
        for best in task.best:
            layers = ", ".join(dict.fromkeys(best.chosen))
            typer.echo(
                f"    {best.method} {best.backbone} ({best.domain}) {scale.value(best.headline)}: "
                f"{layers}"
            )


def _mark(task: TaskCurves) -> tuple[float, float]:
    """Where the mark of a task stands, and the value of a whole bar."""
    if task.chance is not None:
        return (task.chance if task.majority is None else task.majority), 1.0
    if task.has_labels:
        return task.majority or 0.0, 1.0
    errors = [p.headline.value for panel in task.panels for c in panel.curves for p in c.points]
    mark = max(errors, default=1.0) if task.majority is None else task.majority
    return mark, max([mark, *errors]) or 1.0


def _first_line(task: TaskCurves, mark: float) -> str:
    if task.has_labels:
        return (
            f"{task.task}: {count(task.n, 'image')}, {len(task.classes)} labels, mean average precision; "
            f"guessing by prevalence {mark:.1%} (marked |)"
        )
    if task.chance is None:
        return (
            f"{task.task}: {count(task.n, 'image')}, mean absolute error, shorter is better; the median "
            f"of the training images {mark:.2f} {task.unit} (marked |)"
        )
    return (
        f"{task.task}: {count(task.n, 'image')}, {len(task.classes)} classes, chance "
        f"{task.chance:.1%}, majority class {mark:.1%} (marked |)"
    )


class Progress:
    """A line that moves in a terminal, and a plain line now and then in a log."""

    def __init__(self, what: str, unit: str) -> None:
        """`what` is being done, counted in `unit`; without a unit no speed is shown."""
        self.what, self.unit = what, unit
        self._started = self._said = time.monotonic()
        self._first: int | None = None
        self._bar: Any = None

    def __enter__(self) -> Self:
        """Return the progress itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, now: str = "") -> None:
        """Show that `done` of `total` are done."""
        if self._first is None:
            self._first, self._started = done, time.monotonic()
        elapsed = time.monotonic() - self._started
        rate = (done - self._first) / elapsed if elapsed > 0 else 0.0
        known = rate > 0 and done < total and self.unit
        left = f", {clock((total - done) / rate)} left" if known else ""
        speed = (
            f", {rate:.{0 if rate >= 10 else 1}f} {self.unit}/s" if rate > 0 and self.unit else ""
        )
        text = f"{self.what} {done}/{total}{speed}{left}{' ' + now if now else ''}"
        if sys.stderr.isatty():
            self._move(done, total, text)
        elif time.monotonic() - self._said > _LINE_SECONDS:
            self._said = time.monotonic()
            say(text)

    def _move(self, done: int, total: int, text: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        if self._bar is None:
            self._bar = RichProgress(
                BarColumn(bar_width=20),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True, highlight=False),
                transient=True,
            )
            self._task = self._bar.add_task(text, total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total, description=text)


def _bar(value: float, mark: float) -> str:
    filled, place = round(value * _BAR), min(round(mark * _BAR), _BAR - 1)
    return "".join("|" if i == place else "█" if i < filled else "·" for i in range(_BAR))


def clock(seconds: float) -> str:
    """A time for people: `1 min 20 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"

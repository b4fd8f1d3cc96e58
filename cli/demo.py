"""`probe demo`: the whole chain on the built-in sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import show


def demo(
    study: Annotated[
        Path, typer.Option("--study", metavar="DIR", help="The folder of the demo's study.")
    ] = Path("probe-demo"),
) -> None:
    """Run the whole chain on drawn faces, offline, in two minutes: extract, fit, tune, report.

    Three tasks are drawn into the same images, so that the results can be compared with what was drawn.

    Example: probe demo
    """
    from probe.demo import run

    with show.Progress("demo", "") as progress:
        made, planted = run(study, progress)
    show.put_bars(made.tasks)
    typer.echo("")
    for task in planted:
        typer.echo(f"{task.task}: planted: {task.planted}")
        for sentence in task.seen:
            typer.echo(f"  found: {sentence}")
    typer.echo("SYNTHETIC: these images are drawn; no number says anything about people.")
    show.say(f"the report is {made.index}")

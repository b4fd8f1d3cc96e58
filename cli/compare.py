"""`probe compare`: two rows of results on the same images."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import completion, options, show


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            autocompletion=completion.results,
            help="BACKBONE, at its best row, or BACKBONE/LAYER/METHOD; - is the layer of a whole network.",
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            autocompletion=completion.results,
            help="The result to compare A with, in the same form.",
        ),
    ],
    task: options.Tasks = None,
    study: options.Study = options.STUDY,
    json: options.Json = False,
) -> None:
    """Compare two results paired on the same images: difference, interval, test.

    Example: probe compare sample-faces control:pixels
    """
    from probe.analysis.compare import compare as run

    comparisons = run(study, a, b, tasks=task or ())
    if json:
        show.put_json(comparisons)
        return
    for comparison in comparisons:
        typer.echo(str(comparison))

"""`probe features`: what is extracted, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import completion, options, show
from probe.counts import count

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def features() -> None:
    """Hand features to other programs.

    Example: probe features export sample-faces --format npz
    """


@app.command("export")
def export(
    backbone: Annotated[
        str,
        typer.Argument(
            metavar="BACKBONE", help="Whose features.", autocompletion=completion.backbones
        ),
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="LAYER",
            help="A layer, or LAYER:POOL; repeatable.",
            show_default="all",
            autocompletion=completion.layers,
        ),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="parquet, npz or safetensors.")
    ] = "parquet",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The file.", show_default="STUDY/BACKBONE.FORMAT"
        ),
    ] = None,
    study: options.Study = options.STUDY,
) -> None:
    """Write features as one file, with labels, subject and fold beside the numbers.

    Of every image in use there are row, path and subject, label.TASK and fold.TASK (the fold that `fit`
    tests it in), and features.LAYER. Parquet needs pyarrow.

    Example: probe features export sample-faces --layer fc6 --format npz
    """
    from features.study.study import open_study
    from probe.exported.features_file import export_features

    opened = open_study(study)
    file, table = export_features(
        opened, backbone, layer or (), format=format, out=out, announce=show.say
    )
    sizes = ", ".join(f"{name} {x.shape[1]}" for name, x in table.layers.items())
    show.say(f"{file}: {count(len(table), 'row')} of {table.backbone}; {sizes}")

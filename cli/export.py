"""`probe export`: a result of the study as one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import completion, options, show

if TYPE_CHECKING:
    from probe.exported.export import Exported


def export(
    result: Annotated[
        str | None,
        typer.Argument(
            metavar="[BACKBONE/LAYER/METHOD]",
            help="The result; LAYER may be best, or - for a whole network.",
            show_default="the leading best row",
            autocompletion=completion.results,
        ),
    ] = None,
    task: options.Tasks = None,
    study: options.Study = options.STUDY,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The file.", show_default="STUDY/TASK.FORMAT"),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="probe, for `probe predict`; pt2 or onnx: one graph from pixels to probabilities.",
        ),
    ] = "probe",
    with_weights: Annotated[
        bool,
        typer.Option("--with-weights", help="Put the network's weights into the file too."),
    ] = False,
    backbone: options.CardOf = None,
    weights: options.Weights = None,
    memory: options.Memory = None,
    device: options.Device = "cpu",
    trust: options.Trust = False,
    json: options.Json = False,
) -> None:
    """Fit a result once more on all images and write it as one file, for `probe predict`.

    Without a result named, it is for every task the leading best row of a linear probe, of trained
    backbones that did not see the images. The file holds the accuracy, or the error of a number, that it
    promises. Of a number, only ridge regressions are exported. A graph runs without this toolkit;
    what comes before it, and a few lines that run it, stand in its metadata.

    Example: probe export mobilefacenet/best/logistic --task gender
    """
    from probe.exported.export import export as run

    with show.Progress("training", "images") as progress:
        made = run(
            study,
            result,
            progress=progress,
            tasks=task or (),
            out=out,
            format=format,
            with_weights=with_weights,
            backbone=backbone,
            weights=weights,
            memory=memory,
            device=device,
            announce=show.say,
        )
    for each in made:
        _summary(each, weights)
    if json:
        show.put_json([{"file": each.file, **vars(each.about)} for each in made])


def _summary(each: Exported, given: str | None = None) -> None:
    from rich.filesize import decimal

    about = each.about
    is_graph = each.format != "probe"
    if is_graph:
        inside = "as one graph"
    elif about.imported:
        inside = "for features made elsewhere"
    else:
        inside = f"its weights {'inside' if about.network else 'by checksum'}"
    show.say(
        f"{about.task}: {about.name}, {inside}, promises "
        f"{about.promised} on new images like the study's: {each.file}, "
        f"{decimal(each.file.stat().st_size)}"
    )
    if about.licence:
        show.say(f"licence of the weights: {about.licence}")
    if about.synthetic:
        show.say("SYNTHETIC: these images are drawn")
    if is_graph:
        show.say("its metadata, probe.json, have a few lines of Python that run it")
        return
    if about.imported:
        show.say(
            f"use it on such features, from Python: load_probe({str(each.file)!r}).predict(array)"
        )
        return
    if not each.needs:
        show.say(f"use it with `probe predict {each.file} IMAGES...`")
        return
    needs, where = each.needs, ""
    if given is not None and Path(given).name == needs:
        needs = given
    elif not Path(needs).is_file():
        needs, where = f"FOLDER/{needs}", ", FOLDER being where that file lies"
    show.say(f"use it with `probe predict {each.file} IMAGES... --weights {needs}`{where}")

"""`probe extract`: features of a backbone's layers, into a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options, show
from probe.counts import count

if TYPE_CHECKING:
    from features.extraction.summary import Extraction, Plan

_LISTED = 5


def extract(
    backbone: options.Backbones,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="NAME",
            help="A layer's name, a pattern ('blocks.*'), last or all; repeatable.",
            show_default="the card's; else stem, blocks, norm or pool, embedding",
        ),
    ] = None,
    data: options.Data = None,
    faces: options.Faces = None,
    labels: options.Labels = None,
    levels: options.Levels = None,
    path_column: options.PathColumn = None,
    root: options.StudyRoot = None,
    extension: options.Extension = None,
    missing: options.Missing = None,
    columns: options.Columns = None,
    study: options.Study = options.STUDY,
    weights: options.WeightsOfSeveral = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            "--pool",
            metavar="POOL",
            help="How maps become rows: auto, none, avg, max or grid:K; for tokens also cls, cls+avg; "
            "repeatable.",
            show_default="auto, avg",
        ),
    ] = None,
    view: Annotated[
        list[str] | None,
        options.views("Also extract the views flip or 10crop, for `probe fit --view`", False),
    ] = None,
    geometry: Annotated[
        str | None,
        typer.Option(
            metavar="BACKBONE",
            help="Resize and crop as BACKBONE does; the features are then of NAME@as-BACKBONE.",
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="Storage: float32 or float16.")
    ] = "float32",
    precision: Annotated[
        str, typer.Option(metavar="TYPE", help="Computing: float32, bf16; on a GPU tf32, fp16 too.")
    ] = "float32",
    batch_size: Annotated[
        int | None, options.batch_size("Images per forward pass", "the network's fastest")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Processes that share the work.", show_default="one per GPU, or one"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="Extract only N rows, spread over folds and classes."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A first look: about six layers, averaged, and a drawn part of the images where all would "
            "take over 30 s.",
        ),
    ] = False,
    bounds: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="BLACK,WHITE",
            help="Values of black and white in pictures of more than eight bits.",
            show_default="as file and card tell",
        ),
    ] = None,
    max_pixels: options.MaxPixels = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at an unreadable image.")] = False,
    compress: Annotated[
        str | None,
        typer.Option(
            metavar="FILTER",
            help="Compress finished files: gzip, lzf or none.",
            show_default="none",
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Append the rows that were added to the data since.")
    ] = False,
    device: options.Devices = "auto",
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="NAME=DIR",
            help="Also extract the images in DIR, of the pretraining domain NAME, to measure how close it "
            "is; repeatable.",
        ),
    ] = None,
    share: options.Share = None,
    on: options.On = None,
    seed: options.Seed = 0,
    seeds: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="How many times to draw random weights, with --seed and those after it; the report shows "
            "their mean and spread.",
        ),
    ] = 1,
    trust: options.Trust = False,
    json: options.Json = False,
) -> None:
    """Write features of the named layers into the study, all in one forward pass.

    Run again, it continues where it was interrupted, and adds new layers and rows.

    Example: probe extract --backbone vggface --layer fc6 --weights random
    """
    from features.errors import OptionError
    from features.extraction.domain_samples import check_sample, extract_sample
    from features.extraction.extract import extract_with
    from features.extraction.options import ExtractOptions

    data = options.data_with(
        data,
        faces=faces,
        labels=labels,
        levels=levels,
        path_column=path_column,
        root=options.moved(study, data, root),
        extension=extension,
        missing=missing,
        columns=columns,
    )
    options.tell_data(study, data)
    if share and source:
        raise OptionError("--share: does not go with --source; leave one of them out.")
    chosen = weights_of(backbone, weights or [])
    samples = _samples_of(source or [])
    for sample, folder in samples.items():
        check_sample(sample, folder)
    names = [
        f"{Path(name).stem if name.endswith('.toml') else name}"
        f"{'@random' if chosen[name] == 'random' else ''}"
        for name in backbone
    ]

    def progress_on(shown: show.Progress) -> Callable[[int, int, str], None]:
        return lambda done, total, busiest: shown(
            done, total, f"({busiest} is busiest)" if busiest else ""
        )

    wanted = ExtractOptions(
        data=data,
        layers=layer or (),
        pool=pool or (),
        views=view or (),
        geometry=geometry,
        dtype=dtype,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        limit=limit,
        quick=quick,
        clock=show.clock,
        strict=strict,
        range=bounds_of(bounds),
        compress=compress,
        update=update,
        share=share,
        on=on,
        device=device,
        seed=seed,
        announce=show.say,
        planned=_plan,
        estimated=lambda seconds: show.say(f"about {show.clock(seconds)}"),
    )
    random = {name: file for name, file in chosen.items() if file == "random"}
    if seeds < 1 or (seeds > 1 and not random):
        raise OptionError(
            f"--seeds {seeds}: draws of random weights; give 1 or more, and --weights random."
        )
    with show.Progress(f"extracting {', '.join(names)}", "images") as shown:
        results = extract_with(study, chosen, replace(wanted, progress=progress_on(shown)))
    for draw in range(1, seeds):
        with show.Progress(f"extracting draw {draw + 1} of {seeds}", "images") as shown:
            how = replace(wanted, seed=seed + draw, progress=progress_on(shown))
            results += extract_with(study, random, how)
    told: set[str] = set()
    for result in results:
        _summary(result, limited=limit is not None, told=told)
    extracted = [result.backbone for result in results[: len(backbone)]]
    for (name, its_name), (sample, folder) in product(
        zip(backbone, extracted, strict=True), samples.items()
    ):
        with show.Progress(f"extracting {name} of {sample}", "images") as shown:
            how = replace(wanted, progress=progress_on(shown))
            result = extract_sample(study, sample, folder, (name, chosen[name]), its_name, how)
        _summary(result, limited=limit is not None, told=told)
        results.append(result)
    if quick:
        show.say("a first look: `probe fit --quick` and `probe report` show what it says")
    if json:
        show.put_json(results)


def weights_of(backbones: list[str], weights: list[str]) -> dict[str, str | None]:
    """Each backbone with its weights; a value without NAME= goes to all."""
    from features.errors import OptionError

    others = {name.partition("=")[0] for name in weights if "=" in name} - set(backbones)
    if len(backbones) > 1 and others:
        raise OptionError(f"--weights {min(others)}=...: not one of the backbones given.")
    chosen: dict[str, str | None] = dict.fromkeys(backbones)
    for value in weights:
        name, equals, file = value.partition("=")
        if equals and name in backbones:
            chosen[name] = file
        else:
            chosen.update(dict.fromkeys(backbones, value))
    return chosen


def bounds_of(text: str | None) -> tuple[float, float] | None:
    """The two numbers of `--range`."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if not -float("inf") < low < high < float("inf"):
        raise typer.BadParameter(f"--range {text}: write BLACK,WHITE, such as 0,4095.")
    return low, high


def _samples_of(values: list[str]) -> dict[str, Path]:
    """The folder of each sample of a domain, by its name."""
    from features.errors import OptionError

    samples = dict(value.partition("=")[::2] for value in values)
    for name, folder in samples.items():
        if not folder:
            raise OptionError(f"--source {name}: write it as NAME=DIR, such as faces=lfw.")
    return {name: Path(folder) for name, folder in samples.items()}


def _plan(plan: Plan) -> None:
    from rich.filesize import decimal

    licence = f", licence of the weights: {plan.licence}" if plan.licence else ""
    layers = len({key.partition(":")[0].partition("@")[0] for key in plan.layers})
    show.say(
        f"{plan.backbone}: {count(plan.rows, 'row')}, {count(len(plan.layers), 'array')} of "
        f"{count(layers, 'layer')}, "
        f"about {decimal(plan.bytes)} into {plan.file}{licence}"
    )


def _summary(result: Extraction, *, limited: bool, told: set[str]) -> None:
    """Say what came of one backbone; what is in `told`, of the backbones before, is not said again."""
    lines = [f"note: {note}" for note in result.notes]
    for what, files in (("left out", result.left_out), ("unreadable", result.unreadable)):
        lines += [f"{what}: {path}: {reason}" for path, reason in list(files.items())[:_LISTED]]
        if len(files) > _LISTED:
            lines.append(f"{what}: {len(files) - _LISTED} more; `probe status` lists them")
    for line in lines:
        if line not in told:
            show.say(line)
    told.update(lines)
    rate = result.computed / max(result.seconds, 1e-9)
    speed = f" at {rate:.{0 if rate >= 10 else 1}f} images/s" if result.computed else ""
    slowest = f" ({result.bottleneck} was busiest)" if result.bottleneck else ""
    why = "left out by --limit" if limited else "pending"
    pending = f", {count(result.pending, 'row')} {why}" if result.pending else ""
    images, arrays = count(result.computed, "image"), count(len(result.layers), "array")
    if result.taken:
        taken = f"{count(result.taken, 'image')} of shares or tasks collected"
        images = f"{taken}, {images} computed" if result.computed else taken
    show.say(
        f"{result.backbone}: {images} in {show.clock(result.seconds)}{speed}{slowest}, "
        f"{arrays}, {len(result.unreadable)} unreadable{pending}"
    )

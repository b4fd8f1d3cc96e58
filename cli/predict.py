"""`probe predict`: what an export says of images."""

from __future__ import annotations

import csv
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from cli import options, show
from probe.counts import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probe.exported.exported_probe import ExportedProbe
    from probe.exported.predictions import Predictions

_LISTED = 10
_MARKS = (b",distance,quantile,far,unreadable", b'"quantile"', b'"unreadable"')
"""What stands in every table and in the lines of JSON that this command writes."""


def predict(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `probe export` wrote.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Image files, folders, manifests; - for paths on standard input.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to write.", show_default="stdout"),
    ] = None,
    path_column: options.PathColumn = None,
    root: options.Root = None,
    extension: options.Extension = None,
    missing: options.Missing = None,
    columns: options.Columns = None,
    backbone: options.CardOf = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    batch_size: Annotated[
        int | None, options.batch_size("Images per forward pass", "the network's fastest")
    ] = None,
    max_pixels: options.MaxPixels = None,
    trust: options.Trust = False,
    json: options.Json = False,
) -> None:
    """Predict the class of images, or a number, with an export, into CSV or lines of JSON.

    A line has path, class, the probability of every class (of a number path and value), and the distance
    from the training images.

    Where labels are known (a manifest with the task's column, or class folders), it says the accuracy, or
    the mean absolute error, beside the promise.
    Images that lie farther from the training images than 99 % of these are marked as far.

    Example: probe predict study/gender.probe photos --out gender.csv
    """
    from features.errors import InputError
    from features.machine.replaceable import check_replaceable
    from probe.exported.exported_probe import load_probe
    from probe.exported.images import images_named
    from probe.exported.judged import judged
    from probe.exported.judged_numbers import judged_numbers
    from probe.exported.number_promise import NumberPromise
    from probe.exported.predictions import joined

    if out is not None:
        check_replaceable(out, "--out", _MARKS)
    probe = load_probe(file, backbone=backbone, weights=weights, device=device, announce=show.say)
    table = {
        "path_column": path_column,
        "root": root,
        "extension": extension,
        "missing": missing,
        "columns": columns,
    }
    wanted = images_named(_with_standard_input(images), probe.about.task, table, probe.classes)
    _list("left out", wanted.left_out, "which are not predicted")
    _introduce(probe)
    with ExitStack() as stack:
        to = _opened(stack, out)
        progress = stack.enter_context(show.Progress("predicting", "images"))
        parts: list[Predictions] = []
        for part in probe.stream(
            wanted.files, wanted.names, batch_size=batch_size, progress=progress
        ):
            if not json and not parts:
                csv.writer(to, lineterminator="\n").writerow(_header(probe))
            parts.append(part)
            _write(to, part, json)
    predictions = joined(parts)
    _tell(predictions, probe)
    about, promise = probe.about, probe.about.promised
    known = (about.task, predictions, wanted.labels, wanted.subjects)
    told = (
        judged_numbers(*known, promise)
        if isinstance(promise, NumberPromise)
        else judged(*known, promise)
    )
    if told is not None:
        for sentence in told.others:
            show.say(sentence)
        show.say(str(told))
    if len(predictions.unreadable) == len(predictions):
        first = predictions.paths[0]
        if len(predictions) == 1:
            raise InputError(f"{first}: the only image cannot be read; check the path.")
        raise InputError(
            f"{first}: none of {count(len(predictions), 'image')} can be read; check the paths."
        )


def _with_standard_input(images: Sequence[str]) -> list[str]:
    """The names, with the lines of standard input in the place of `-`."""
    names = []
    for name in images:
        if name == "-":
            names += [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        else:
            names.append(name)
    return names


def _opened(stack: ExitStack, out: Path | None) -> IO[str]:
    """Standard output, or a file that is there once it is whole."""
    if out is None:
        return sys.stdout
    from features.machine.files import replacing

    written = stack.enter_context(replacing(out))
    return stack.enter_context(written.open("w", encoding="utf-8", errors="surrogateescape"))


def _introduce(probe: ExportedProbe) -> None:
    from importlib.metadata import version

    about = probe.about
    show.say(f"{about.task} by {about.name}, which promises {about.promised}")
    if about.toolkit != version("transfer-probe"):
        show.say(
            f"note: {probe.path} was made with version {about.toolkit} of this toolkit, and this is "
            f"{version('transfer-probe')}; its network and preprocessing are checked all the same"
        )
    if about.synthetic:
        show.say("SYNTHETIC: it was fitted on drawn images")


def _header(probe: ExportedProbe) -> list[str]:
    named = (
        ["value"] if probe.about.is_number else ["class", *(f"p_{name}" for name in probe.classes)]
    )
    return ["path", *named, "distance", "quantile", "far", "unreadable"]


def _write(to: IO[str], part: Predictions, json: bool) -> None:
    """Write the predictions of some images, a line each."""
    if json:
        from features.machine.strict_json import to_json

        for line in part:
            to.write(to_json(line) + "\n")
    else:
        writer = csv.writer(to, lineterminator="\n")
        blank = [""] * ((1 if part.values is not None else 1 + len(part.classes)) + 3)
        for line in part:
            if "unreadable" in line:
                writer.writerow([line["path"], *blank, line["unreadable"]])
                continue
            if part.values is not None:
                said = [f"{line['value']:.8g}"]
            else:
                p = [f"{value:.6f}" for value in line["probabilities"].values()]
                said = [line["class"], *p]
            far = [f"{line['distance']:.3f}", f"{line['quantile']:.4f}", int(line["far"]), ""]
            writer.writerow([line["path"], *said, *far])
    to.flush()


def _list(what: str, files: Sequence[tuple[str, str]], rest: str) -> None:
    """The first of some files with what is wrong with each, and how many more there are."""
    for path, why in files[:_LISTED]:
        show.say(f"{what}: {path}: {why}")
    if len(files) > _LISTED:
        show.say(f"{what}: {len(files) - _LISTED:,} more, {rest}")


def _tell(made: Predictions, probe: ExportedProbe) -> None:
    """What a person should know of the images: which could not be read, which lie far away."""
    bad = [(made.paths[place], why) for place, why in made.unreadable.items()]
    what = "class" if made.values is None else "value"
    _list("unreadable", bad, f"which have no {what} in the table")
    far = [i for i, is_far in enumerate(made.far) if is_far]
    read = len(made) - len(bad)
    if far:
        first = max(far, key=lambda i: made.distances[i])
        show.say(
            f"far: {len(far)} of {count(read, 'image')} lie farther from the training images than 99 % "
            f"of these do, {made.paths[first]} farthest ({made.distances[first]:.1f} times their median "
            "distance); what is said of such images is a guess"
        )

"""`probe import`: features made elsewhere, into a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import options, show
from probe.counts import count


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .npy, .npz or .h5 file.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What to call the backbone.")],
    layer: Annotated[str, typer.Option("--layer", metavar="NAME", help="What to call the layer.")],
    domain: Annotated[
        str | None,
        typer.Option(
            metavar="DOMAIN",
            help="What the backbone was pretrained on; none: random weights.",
            show_default="unknown",
        ),
    ] = None,
    depth: Annotated[
        float, typer.Option(metavar="0..1", help="Where the layer lies; 0 is the input.")
    ] = 1.0,
    study: options.Study = options.STUDY,
) -> None:
    """Bring features made elsewhere into the study, to be fitted and reported like its own.

    The file holds an array (images, dim), in the study's order of rows. Where there is no study yet,
    its arrays of length images begin one: label columns, and path, subject and fold. An .npy file has
    no labels, so it goes into a study that is there.

    Example: probe import clip.npz --name clip --layer last --domain objects
    """
    from features.extraction.imported import import_features

    opened = import_features(study, file, name=name, layer=layer, domain=domain, depth=depth)
    show.say(f"{name}/{layer}: {count(len(opened), 'row')} imported into {study}")
    with opened.features(name) as made:
        if made.domain == "unknown":
            show.say(
                f"the domain of {name} is unknown, so the report compares it with no domain; import it "
                "with --domain to say what it was pretrained on"
            )

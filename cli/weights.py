"""`probe weights`: published weights added, listed, checked and removed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options, show
from cli.groups import Group

if TYPE_CHECKING:
    from features.weights.add import Added
    from features.weights.converted import Kept

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Add published weights, list, verify and remove them.\n\nExample: probe weights list",
)


@app.command("add")
def add(
    backbone: options.Network,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Published weights, or an archive with them.")
    ],
    member: Annotated[
        str | None,
        typer.Option(
            "--member", metavar="NAME", help="Which file of an archive, where several are weights."
        ),
    ] = None,
    entry: Annotated[
        int | None,
        typer.Option(
            "--entry",
            metavar="N",
            help="Which [[weights]] entry of the card it is, from 1.",
            show_default="detected by checksum, name and format",
        ),
    ] = None,
    trust: options.Trust = False,
) -> None:
    """Add a file of published weights: it is checked, and converted once.

    Caffe, MatConvNet, Torch7, Keras, PyTorch, safetensors and npz are recognised by their bytes; a .tar.gz
    or .zip is opened. Afterwards `probe extract --backbone BACKBONE` uses it.

    Example: probe weights add vggface vgg-face.mat
    """
    from features.backbone import target_of
    from features.weights.add import add as run

    target = target_of(backbone)
    _tell(run(target, file, member=member, entry=entry, announce=show.say))


@app.command("match")
def match(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of weights.")],
    backbone: options.Backbone,
    trust: options.Trust = False,
    json: options.Json = False,
) -> None:
    """Put the tensors of a file beside those of a network, with shapes, and pair them.

    Tensors are paired by name, or where shapes and order allow one pairing only; for the latter the
    lines to add to a card are shown.

    Example: probe weights match resnet.h5 -b torchvision:resnet50
    """
    from features.backbone import target_of
    from features.weights.match import match as run

    matched = run(target_of(backbone), file)
    if json:
        show.put_json(matched)
        return
    show.put_table(
        ["network", "shape", "file", "shape", "paired by"],
        [
            [
                row.network,
                _sides(row.network_shape),
                row.file,
                _sides(row.file_shape),
                row.paired_by or "no pair",
            ]
            for row in matched.rows
        ],
    )
    if matched.rename:
        show.say("under [[weights]] in a card:")
        show.say(
            "rename = { " + ", ".join(f"'{a}' = '{b}'" for a, b in matched.rename.items()) + " }"
        )


def _sides(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else " x ".join(map(str, shape)) or "one number"


@app.command("fetch")
def fetch(backbone: options.Network, trust: options.Trust = False) -> None:
    """Download a backbone's weights from the address in its card, and add them.

    An interrupted download continues where it ended. PROBE_OFFLINE=1 forbids it.

    Example: probe weights fetch alexnet
    """
    from features.backbone import target_of
    from features.weights.add import fetch as run

    target = target_of(backbone)
    with show.Progress(f"fetching {backbone}", "MB") as progress:
        added = run(
            target,
            announce=show.say,
            progress=lambda done, total: progress(done // 10**6, total // 10**6),
        )
    _tell(added)


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the added weights: format, checksum, licence, size.

    Example: probe weights list
    """
    from rich.filesize import decimal

    from features.weights.converted import kept

    files = kept()
    if json:
        show.put_json(files)
        return
    if not files:
        show.say("no weights are added yet; `probe weights add BACKBONE FILE` adds some")
        return
    show.put_table(
        ["backbone", "file", "format", "sha256", "checked", "size", "licence"],
        [
            [
                file.card,
                file.source,
                file.format,
                file.sha256[:12],
                "verified" if file.verified else "unverified",
                decimal(file.path.stat().st_size),
                file.licence or "not stated",
            ]
            for file in files
        ],
    )


@app.command("verify")
def verify(json: options.Json = False) -> None:
    """Read all added weights again, and compare them with their checksums.

    Exits with 3 if a file has changed.

    Example: probe weights verify
    """
    from features.errors import InputError
    from features.weights.converted import kept, verify

    rows = [{"backbone": file.card, "file": file.source, **verify(file)} for file in kept()]
    if json:
        show.put_json(rows)
    else:
        show.put_table(
            ["backbone", "file", "state"],
            [[str(row["backbone"]), str(row["file"]), str(row["state"])] for row in rows],
        )
    bad = [str(row["backbone"]) for row in rows if not row["whole"]]
    if bad:
        raise InputError(
            f"{', '.join(bad)}: changed on disk; `probe weights remove {bad[0]}` and add it again."
        )


@app.command("remove")
def remove(backbone: options.Network) -> None:
    """Delete the added weights of a backbone.

    Example: probe weights remove vggface
    """
    from features.cards.reading import find
    from features.weights.converted import remove as run

    name = find(backbone).name if backbone.endswith(".toml") else backbone
    for file in run(name):
        show.say(f"{name}: {file.source} is removed")


def _tell(added: Added) -> None:
    file: Kept = added.kept
    for note in added.notes:
        show.say(note)
    show.say(f"licence: {file.licence or 'not stated'}")
    state = "converted to" if added.new else "here already,"
    show.say(f"{file.card}: {file.source} {state} {file.path}; `probe extract` uses it")

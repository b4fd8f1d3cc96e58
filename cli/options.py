"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Study = Annotated[
    Path, typer.Option("--study", envvar="PROBE_STUDY", help="The study's folder.", metavar="DIR")
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Folder of class folders; CSV, TSV or Parquet manifest; .npz or .h5 of images; "
        "adience:DIR, fairface:CSV, hf:DIR, lfw:DIR, utkface:DIR, webdataset:GLOB; or sample. Needed once.",
    ),
]
Faces = Annotated[
    str | None,
    typer.Option(
        "--faces", metavar="FACES", help="Adience's aligned or coarse.", show_default="aligned"
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="LABELS",
        help="Adience's ages: published, corrected, ranges or mivolo; LFW's labels: a CSV file.",
        show_default="published",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:I or cuda:I,J.")
]
Json = Annotated[bool, typer.Option("--json", help="Data on stdout as JSON, all else on stderr.")]

STUDY = Path("study")


def data_with(data: str | None, faces: str | None, labels: str | None) -> str | None:
    """What `--data` names, with the options of its reader."""
    from features.data import with_options
    from features.errors import InputError

    given = {"faces": faces, "labels": labels}
    if data is None:
        for name, value in given.items():
            if value is not None:
                raise InputError(f"--{name} {value}: goes with --data, which is not given.")
        return None
    return with_options(data, given)

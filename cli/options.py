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
        help="Folder of class folders, CSV or TSV manifest, utkface:DIR or sample; needed once.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:I.")
]
Json = Annotated[bool, typer.Option("--json", help="Data on stdout as JSON, all else on stderr.")]

STUDY = Path("study")

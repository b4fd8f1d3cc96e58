"""Options that several commands share, each declared once with its help."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import completion, show
from features.cards.trust import REMEMBER
from features.data import KINDS

STUDY = Path("study")

Study = Annotated[
    Path, typer.Option("--study", envvar="PROBE_STUDY", help="The study's folder.", metavar="DIR")
]
On = Annotated[
    str | None,
    typer.Option(
        metavar="ENGINE",
        help="Do the work as tasks of an engine: ray, or ray:ADDRESS of a cluster.",
        show_default="here",
    ),
]
Share = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Do share I of N, counted from 0, beside the others and anywhere the study's folder is seen; "
        "the same command without it collects.",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Folder of class folders; CSV, TSV or Parquet manifest; .npz or .h5 of images; "
        f"{KINDS}; or sample. Needed once.",
    ),
]
Faces = Annotated[
    str | None,
    typer.Option(
        "--faces",
        metavar="FACES",
        help="Which faces of Adience: aligned or coarse.",
        show_default="aligned",
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
Levels = Annotated[
    str | None,
    typer.Option(
        "--levels",
        metavar="LEVELS",
        help="What each level of folders means, from the outermost: split/label, fold/label, subject/label "
        "or other columns; - is none.",
        show_default="label, or split/label where they are named so",
    ),
]
PathColumn = Annotated[
    str | None,
    typer.Option(
        "--path-column",
        metavar="NAME",
        help="The column of a table that names the images.",
        show_default="path, or the one that names files",
    ),
]
Root = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="DIR",
        help="The folder that a table's paths start from.",
        show_default="the table's own",
    ),
]
StudyRoot = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="DIR",
        help="The folder that a table's paths start from; without --data, the one that the study's images "
        "are in now.",
        show_default="the table's own",
    ),
]
Extension = Annotated[
    str | None,
    typer.Option("--extension", metavar="EXT", help="What a table's paths lack, such as .png."),
]
Missing = Annotated[
    str | None,
    typer.Option(
        "--missing",
        metavar="VALUES",
        help="Values of a table that stand for no label, with commas between them, such as 'nan,?'.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="NAME=ROLE",
        help="What columns of a table are, with commas between them: subject, fold, split, use or label.",
    ),
]

_NETWORK = "A card's name, a card file, torchvision:NAME, timm:NAME, hf:NAME or onnx:FILE"
Network = Annotated[
    str, typer.Argument(metavar="BACKBONE", help=f"{_NETWORK}.", autocompletion=completion.cards)
]
Backbone = Annotated[str, typer.Option("--backbone", "-b", metavar="NAME", help=f"{_NETWORK}.")]
Backbones = Annotated[
    list[str],
    typer.Option(
        "--backbone",
        "-b",
        metavar="NAME",
        autocompletion=completion.cards,
        help=f"{_NETWORK}; repeatable.",
    ),
]
_WEIGHTS = "Weights other than the card's own; FILE#PART where the file holds several"
Weights = Annotated[
    str | None, typer.Option("--weights", metavar="FILE|random", help=f"{_WEIGHTS}.")
]
CardOf = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        "-b",
        metavar="CARD",
        help="The card of its network, where that is neither the package's nor found by name.",
    ),
]
WeightsOfSeveral = Annotated[
    list[str] | None,
    typer.Option(
        "--weights", metavar="FILE|random", help=f"{_WEIGHTS}; NAME=FILE with several backbones."
    ),
]
StudyBackbones = Annotated[
    list[str] | None,
    typer.Option(
        "--backbone",
        "-b",
        metavar="NAME",
        help="A backbone of the study; repeatable.",
        autocompletion=completion.backbones,
        show_default="all",
    ),
]
StudyLayers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        "-l",
        metavar="NAME",
        help="A layer that was extracted; repeatable.",
        autocompletion=completion.layers,
        show_default="all",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        "-t",
        metavar="NAME",
        autocompletion=completion.tasks,
        help="A label column, NAME:ordered, NAME:number or NAME:labels; repeatable.",
        show_default="all",
    ),
]
Folds = Annotated[
    int | None,
    typer.Option(
        "--folds",
        metavar="N",
        help="Folds to make where the data have none.",
        show_default="their own, or 5",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything random.")]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:I, mps or xpu.")
]
Devices = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:I, mps or xpu; cuda:I,J for several GPUs.",
    ),
]
Memory = Annotated[
    float | None,
    typer.Option(
        "--memory",
        metavar="GB",
        help="Memory for features and the work on them; a larger layer is read in blocks.",
        show_default="half of the machine's",
    ),
]
Redo = Annotated[bool, typer.Option("--redo", help="Compute again what is there already.")]


def _allow(trust: bool) -> bool:
    if trust:
        os.environ["PROBE_TRUST"] = REMEMBER
    return trust


def _admit(pixels: int | None) -> int | None:
    from features.machine import pixel_limit

    if pixels is not None:
        os.environ[pixel_limit.VARIABLE] = str(pixel_limit.checked(pixels))
    return pixels


MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        metavar="N",
        help="Read pictures of up to N pixels, where you trust the files; others are unreadable.",
        show_default="178956970",
        callback=_admit,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Allow a card's .py file to run, now and as long as it does not change.",
        callback=_allow,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Data on stdout as JSON, all else on stderr.")]


def views(text: str, default: str | bool) -> typer.models.OptionInfo:
    """The option `--view` of a command that says `text` of it; `--views` is its older spelling."""
    option: typer.models.OptionInfo = typer.Option(
        "--view", "--views", metavar="VIEW", help=f"{text}; repeatable.", show_default=default
    )
    return option


def batch_size(text: str, default: str) -> typer.models.OptionInfo:
    """The option `--batch-size` of a command whose batches are what `text` says."""
    option: typer.models.OptionInfo = typer.Option(
        "--batch-size", metavar="N", help=f"{text}.", show_default=default
    )
    return option


def one_of(names: Callable[[], Iterable[str]], what: str) -> Callable[[Any], Any]:
    """A callback that refuses a value, or values, that are not among `names`: the command line is wrong.

    Args:
        names: Gives the names that the option takes.
        what: What such a name is called, with its article: `a probe`.
    """

    def check(given: Any) -> Any:
        from features.errors import nearest

        valid = list(names())
        for name in given if isinstance(given, list) else [given]:
            if name not in valid:
                raise typer.BadParameter(f"{name}: not {what}; {nearest(name, valid)}")
        return given

    return check


def tell_data(study: Path, data: str | None) -> None:
    """Say what a new study is made of where no --data is given."""
    from features.study.checked_data import checked_data
    from features.study.study import has_study

    if data is not None or has_study(study):
        return
    checked = checked_data(study)
    if checked is None:
        show.say("no --data given: using the built-in sample of drawn faces (SYNTHETIC)")
    else:
        show.say(f"no --data given: using {checked}, which `probe data check` looked at last")


def moved(study: Path, data: str | None, root: str | None) -> str | None:
    """The `--root` of the data; None where it names the folder that the images of `study` are in now."""
    from features.study.study import has_study

    if data is not None or root is None or not has_study(study):
        return root
    from features.extraction.moved import move

    show.say(move(study, root))
    return None


def data_with(data: str | None, **given: str | None) -> str | None:
    """What `--data` names, with the options of its reader by their names."""
    from features.data import with_options
    from features.errors import OptionError

    if data is None:
        for name, value in given.items():
            if value is not None:
                option = f"--{name.replace('_', '-')}"
                raise OptionError(f"{option} {value}: goes with --data, which is not given.")
        return None
    return with_options(data, given)

"""The program `probe`: its commands, and the boundary where errors become one line and an exit code.

Exit codes: 0 done; 1 a bug; 2 the command line is wrong; 3 the input cannot be used; 4 stopped
part-way, run again to go on; 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import (
    backbones,
    compare,
    data,
    demo,
    doctor,
    explain,
    export,
    extract,
    features,
    finetune,
    fit,
    import_,
    layers,
    predict,
    rank,
    remove,
    report,
    run,
    status,
    weights,
)
from cli.groups import Group
from cli.signal_messages import INTERRUPTED, TERMINATED, ended
from cli.unheard import heard
from features.cards.trust import Untrusted, trust
from features.errors import InputError, OptionError, Stopped
from features.machine.files import causes, why_full
from features.machine.regular_files import NOT_A_FILE


class ErrorBoundary(Group):
    """Turns what a user can cause into one sentence on stderr; every other exception is a bug."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
        signal.signal(signal.SIGTERM, _terminate)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except Untrusted as error:
            if not _allowed(error):
                _end(str(error), 3)
            return self.main()  # the same command once more
        except SystemExit as error:  # our own ends are typer's Exit
            _end(f"the network's code ended the program (SystemExit: {error}); correct it.", 3)
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has gone; nobody is left to tell
            raise typer.Exit(0) from None
        except (Exception, KeyboardInterrupt) as error:
            told = _told(error)
            if told is None:
                raise
            message, code = told
            if told in INTERRUPTIONS.values():
                heard()
            _end(ended(message, ctx.invoked_subcommand), code)
        finally:
            for number, handler in before:
                if handler is not None:
                    signal.signal(number, handler)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which as Ctrl-C nothing on the way up may take for an error of its own."""


def _told(error: BaseException) -> tuple[str, int] | None:
    """The sentence and the exit code of what is no bug."""
    # A library whose import was interrupted may raise an error of its own over it.
    raised = list(causes(error))
    for kind, (message, code) in INTERRUPTIONS.items():
        if any(isinstance(each, kind) for each in raised):
            return message, code
    if isinstance(error, InputError):
        return str(error), 2 if isinstance(error, OptionError) else 3
    if isinstance(error, Stopped):
        return str(error), 4
    if (why := why_full(error)) is not None:
        return f"{why}; make room and run the same command again to go on.", 4
    if isinstance(error, OSError) and error.errno in _PERMISSIONS:
        return f"{error.filename}: {error.strerror}; check its permissions or name another.", 3
    if isinstance(error, OSError) and error.strerror == NOT_A_FILE:
        return f"{error.filename}: {NOT_A_FILE}; give a file, or copy what comes of it into one.", 3
    if isinstance(error, OSError) and error.errno in _OUTSIDE:
        name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{name}{os.strerror(error.errno)}; see to that and run the same command again.", 3
    return None


INTERRUPTIONS: dict[type[BaseException], tuple[str, int]] = {
    Terminated: (TERMINATED, 4),
    KeyboardInterrupt: (INTERRUPTED, 130),
}
_PERMISSIONS = (errno.EACCES, errno.EPERM, errno.EROFS)
_OUTSIDE = (
    errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTEMPTY,
    errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EBUSY, errno.ENODEV, errno.ENXIO,
    errno.ETXTBSY, errno.EINVAL, errno.EBADF,
)  # fmt: skip
"""What the machine says of files, folders and disks; the program is not wrong then."""


def _end(message: str, code: int) -> None:
    try:
        typer.echo(f"error: {message}", err=True)
    except OSError:  # its reader is gone, or its disk full; the code is told all the same
        with suppress(OSError):
            sys.stderr.close()
    raise typer.Exit(code)


def _allowed(error: Untrusted) -> bool:
    """Whether a person at the terminal lets the code run; elsewhere nobody is asked."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    typer.echo(f"{error.path} is code, and loading this network runs it.", err=True)
    if typer.confirm("Have you read it, and may it run, now and later?", err=True):
        trust(error.code)
        return True
    return False


def _terminate(_number: int, _frame: object) -> None:
    raise Terminated


app = typer.Typer(
    cls=ErrorBoundary,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"probe {version('transfer-probe')}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """How far do a pretrained network's features transfer to your task, layer by layer?

    Example: probe demo
    """


app.command("demo")(demo.demo)
app.command("backbones")(backbones.backbones)
app.command("layers")(layers.layers)
app.add_typer(weights.app, name="weights")
app.add_typer(data.app, name="data")
app.command("extract")(extract.extract)
app.command("import")(import_.import_)
app.add_typer(features.app, name="features")
app.command("fit")(fit.fit)
app.command("finetune")(finetune.finetune)
app.command("report")(report.report)
app.command("run")(run.run)
app.command("rank")(rank.rank)
app.command("compare")(compare.compare)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("status")(status.status)
app.command("remove")(remove.remove)
app.command("explain")(explain.explain)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Start the program, or say which other package stands in its way."""
    import features as library
    import probe

    here = Path(__file__).parent.parent
    for package in (library, probe):
        place = Path(str(package.__file__)).parent.parent
        if place != here:
            typer.echo(
                f"error: the package {package.__name__!r} comes from {place}, not from {here}: another "
                "one of that name stands in its way; run from another folder or uninstall it.",
                err=True,
            )
            raise SystemExit(3)
    app()

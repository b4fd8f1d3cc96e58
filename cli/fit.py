"""`probe fit`: probes on every extracted layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cli import options, show
from probe.counts import count
from probe.probes.methods import DEFAULT, METHODS
from probe.probes.settings import SOLVERS, TOL

if TYPE_CHECKING:
    from collections.abc import Callable

    from probe.fitting.job import ProbeJob

_NOTES = 3
Number = TypeVar("Number", int, float)


def _scales() -> list[str]:
    from probe.probes.scaling import SCALES

    return [*SCALES, "auto"]


def numbers_of(option: str, text: str | None, kind: Callable[[str], Number]) -> list[Number] | None:
    """The numbers of an option that takes them with commas between; None where it is not given.

    Raises:
        OptionError: They are none.
    """
    from features.errors import OptionError

    try:
        return None if text is None else [kind(value) for value in text.split(",")]
    except ValueError as error:
        what, example = ("whole numbers", "1,5,10") if kind is int else ("numbers", "0.01,0.1,1")
        raise OptionError(f"{option} {text}: not {what}; write them as {example}.") from error


def fit(
    study: options.Study = options.STUDY,
    backbone: options.StudyBackbones = None,
    layer: options.StudyLayers = None,
    task: options.Tasks = None,
    probe: Annotated[
        list[str],
        typer.Option(
            "--probe",
            "-p",
            metavar="PROBE",
            help=f"{', '.join(f'{m.name} ({m.words})' for m in METHODS.values())}; repeatable.",
            callback=options.one_of(lambda: METHODS, "a probe"),
        ),
    ] = list(DEFAULT),  # noqa: B006
    folds: options.Folds = None,
    c: Annotated[
        str | None,
        typer.Option(
            "--C",
            metavar="LIST",
            help="Values of C, comma-separated, as scikit-learn defines it.",
            show_default="13, fitted to the layer",
        ),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            metavar="SCALE",
            help="standard, l2, none, or auto: standard or l2, chosen inside the training folds. For knn: "
            "cosine distances, or Euclidean ones with none.",
            callback=options.one_of(_scales, "a scaling"),
        ),
    ] = "standard",
    solver: Annotated[
        str,
        typer.Option(
            metavar="SOLVER",
            help="grid, or sklearn to check it against.",
            callback=options.one_of(lambda: SOLVERS, "a solver"),
        ),
    ] = "grid",
    tol: Annotated[
        float,
        typer.Option(metavar="E", help="Relative error of the objective at which grid stops."),
    ] = TOL,
    memory: options.Memory = None,
    share: options.Share = None,
    on: options.On = None,
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    view: Annotated[
        list[str] | None,
        options.views("Also score test images under flip or 10crop, extracted before", False),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Also fit on only this many training images per class, such as 1,5,10.",
        ),
    ] = None,
    fractions: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Also fit on only such shares of every class's training images, such as 0.1,0.5.",
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(
            metavar="N", help="How many times the images of --shots and --fractions are drawn."
        ),
    ] = 5,
    project: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Also fit on features randomly projected to N numbers, for equal width.",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            metavar="N", help="How many times to cross-validate, each on folds of its own."
        ),
    ] = 1,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A first look: ridge alone, on about six layers of each backbone, averaged.",
        ),
    ] = False,
    redo: options.Redo = False,
    json: options.Json = False,
) -> None:
    """Fit probes on every extracted layer and test them by cross-validation.

    No subject is in two folds, and C is chosen inside the training folds.

    Example: probe fit --probe logistic --probe knn
    """
    from features.errors import InputError
    from probe.analysis.curves import curves
    from probe.analysis.label_efficiency import few_images
    from probe.fitting.fit import fit as run
    from probe.reporting.tables.variations import few_shot_table, repeats_table, views_table
    from probe.reporting.tables.width import width_table
    from probe.reporting.words import contaminations

    values, few = numbers_of("--C", c, float), numbers_of("--shots", shots, int)
    shares = numbers_of("--fractions", fractions, float)
    with show.Progress("fitting", "fits") as progress:

        def step(done: int, total: int, job: ProbeJob | None) -> None:
            progress(
                done, total, f"{job.task.name} {job.backbone}/{job.key} {job.method}" if job else ""
            )

        fitted = run(
            study,
            backbones=backbone or (),
            layers=layer or (),
            tasks=task or (),
            probes=probe,
            folds=folds,
            c=values,
            scale=scale,
            solver=solver,
            tol=tol,
            memory=memory,
            share=share,
            on=on,
            device=device,
            seed=seed,
            views=view or (),
            shots=few or (),
            fractions=shares or (),
            draws=draws,
            project=project,
            repeats=repeats,
            quick=quick,
            redo=redo,
            clock=show.clock,
            announce=show.say,
            progress=step,
        )
    for note in fitted.notes[:_NOTES]:
        show.say(f"note: {note}")
    if len(fitted.notes) > _NOTES:
        show.say(f"note: {len(fitted.notes) - _NOTES} more like these")
    for warning in contaminations(fitted.study):
        show.say(f"warning: {warning}")
    if share:
        show.say(
            f"share {share}: {count(fitted.fitted, 'result')} fitted in {show.clock(fitted.seconds)}; the "
            "same command without --share collects all shares"
        )
        return
    kept = f", {count(fitted.kept, 'result')} kept from before" if fitted.kept else ""
    show.say(
        f"{count(fitted.fitted, 'result')} fitted in {show.clock(fitted.seconds)}{kept}: "
        f"{study / 'results.csv'}"
    )
    if json:
        show.put_json({"fitted": fitted.fitted, "kept": fitted.kept, "rows": fitted.rows})
        return
    if quick:
        show.say(
            "a first look: ridge on a few layers; `probe extract` and `probe fit` without --quick give "
            "the numbers to quote"
        )
    if fitted.study.synthetic:
        show.say("SYNTHETIC: these images are drawn")
    try:
        drawn = curves(fitted.study)
        for of_task in drawn:
            for words in of_task.left_out:
                show.say(f"note: {of_task.task}, {words}")
        show.put_bars(drawn)
    except (
        InputError
    ) as error:  # such as rows of an earlier fit that are not to be compared with these
        show.say(f"warning: {error}")
    viewed = views_table(fitted.rows) if view else None
    for table in (
        width_table(fitted.study, fitted.rows),
        few_shot_table(few_images(fitted.study, fitted.rows), only_best=True),
        repeats_table(fitted.study, fitted.rows),
        viewed,
    ):
        if table is not None:
            show.put_table(
                [column.title for column in table.shown], [table.cells(row) for row in table.rows]
            )

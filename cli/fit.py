"""`probe fit`: probes on every extracted layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli import options, show

if TYPE_CHECKING:
    from probe.fitting.job import ProbeJob

_NOTES = 3


def fit(
    study: options.Study = options.STUDY,
    backbone: options.StudyBackbones = None,
    layer: options.StudyLayers = None,
    task: options.Tasks = None,
    probe: Annotated[
        list[str],
        typer.Option(
            "--probe", "-p", metavar="PROBE", help="logistic, svm, ridge or knn; repeatable."
        ),
    ] = ["logistic", "svm"],  # noqa: B006
    folds: options.Folds = None,
    c: Annotated[
        str | None,
        typer.Option(
            "--C",
            metavar="LIST",
            help="Values of C, comma-separated, as scikit-learn means it.",
            show_default="13, fitted to the layer",
        ),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            metavar="SCALE",
            help="standard, l2, none, or auto: the better of the first two, inside; knn: cosine, "
            "or Euclidean with none.",
        ),
    ] = "standard",
    solver: Annotated[
        str, typer.Option(metavar="SOLVER", help="grid, or sklearn to check it.")
    ] = "grid",
    tol: Annotated[
        float, typer.Option(metavar="E", help="Relative error of the objective to stop at.")
    ] = 1e-4,
    memory: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            help="For features and work; larger layers are read in blocks.",
            show_default="half of the machine's",
        ),
    ] = None,
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    view: Annotated[
        list[str] | None,
        options.views("Score test images also under flip or 10crop, as extracted", False),
    ] = None,
    shots: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Also with so many training images per class, such as 1,5,10.",
        ),
    ] = None,
    draws: Annotated[int, typer.Option(metavar="N", help="Draws of --shots, nested.")] = 5,
    repeats: Annotated[
        int, typer.Option(metavar="N", help="Cross-validate so often, on folds drawn anew.")
    ] = 1,
    redo: options.Redo = False,
    json: options.Json = False,
) -> None:
    """Fit probes on every extracted layer, cross-validated by subject, C chosen inside.

    Example: probe fit --probe logistic --probe knn
    """
    from features.errors import InputError
    from probe.analysis.curves import curves
    from probe.fitting.fit import fit as run
    from probe.reporting.tables.variations import few_shot_table, repeats_table, views_table
    from probe.reporting.words import contaminations

    try:
        values = None if c is None else [float(value) for value in c.split(",")]
    except ValueError as error:
        raise InputError(f"--C {c}: not numbers; write them as 0.01,0.1,1.") from error
    try:
        few = [] if shots is None else [int(value) for value in shots.split(",")]
    except ValueError as error:
        raise InputError(f"--shots {shots}: not whole numbers; write them as 1,5,10.") from error
    with show.Progress("fitting", "layers") as progress:

        def step(done: int, total: int, job: ProbeJob | None) -> None:
            progress(
                done, total, f"{job.task.name} {job.backbone}/{job.key} {job.method}" if job else ""
            )

        done = run(
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
            device=device,
            seed=seed,
            views=view or (),
            shots=few,
            draws=draws,
            repeats=repeats,
            redo=redo,
            announce=show.say,
            progress=step,
        )
    for note in done.notes[:_NOTES]:
        show.say(f"note: {note}")
    if len(done.notes) > _NOTES:
        show.say(f"note: {len(done.notes) - _NOTES} more like these")
    for warning in contaminations(done.study):
        show.say(f"warning: {warning}")
    kept = f", {done.kept} were there already" if done.kept else ""
    show.say(f"{done.fitted} fitted in {show.clock(done.seconds)}{kept}: {study / 'results.csv'}")
    if json:
        show.put_json({"fitted": done.fitted, "kept": done.kept, "rows": done.rows})
        return
    if done.study.synthetic:
        show.say("SYNTHETIC: these images are drawn")
    show.put_bars(curves(done.study))
    viewed = views_table(done.rows) if view else None
    for table in (
        few_shot_table(done.rows, only_best=True),
        repeats_table(done.study, done.rows),
        viewed,
    ):
        if table is not None:
            show.put_table(
                [column.title for column in table.shown], [table.cells(row) for row in table.rows]
            )

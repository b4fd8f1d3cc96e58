"""`probe finetune`: whole networks, or parts of them, trained on the study's folds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from probe.counts import count
from probe.training.recipes import DEFAULT, RECIPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probe.training.recipes import Recipe


def recipe_with(given: Mapping[str, Any]) -> Recipe:
    """The recipe called `given["recipe"]`, with the changes that the options of training make."""
    from probe.training.recipes import recipe

    changes = {name: given[name] for name in ("epochs", "patience", "rate", "batch_size")}
    plain = {} if given["augment"] else {"crop": False, "mirror": False, "colour": 0.0}
    return recipe(given["recipe"], class_weights=given["class_weights"] or None, **changes, **plain)


def finetune(
    backbone: options.Backbone,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            "-t",
            metavar="NAME",
            help="A label column, or NAME:ordered; several share one network, with a head each.",
            show_default="every task, by itself",
        ),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from random weights.")
    ] = False,
    freeze_through: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER",
            help="Keep the layers through LAYER, train new ones above; repeatable. all: one run per layer.",
            show_default=False,
        ),
    ] = None,
    copy_through: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER",
            help="Copy the layers through LAYER, tune all; repeatable, or all.",
            show_default=False,
        ),
    ] = None,
    keep_above: Annotated[
        bool,
        typer.Option(
            "--keep-above",
            help="With a cut, copy the layers above LAYER too, instead of drawing them anew.",
        ),
    ] = False,
    base: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="METHOD",
            help="Begin with the network saved here on the same fold: finetune, scratch or scratch+gilnet.",
            show_default="the backbone's weights",
        ),
    ] = "",
    probe_first: Annotated[
        bool, typer.Option("--probe-first", help="Start the head as the logistic probe (LP-FT).")
    ] = False,
    study: options.Study = options.STUDY,
    data: options.Data = None,
    levels: options.Levels = None,
    path_column: options.PathColumn = None,
    root: options.StudyRoot = None,
    extension: options.Extension = None,
    missing: options.Missing = None,
    columns: options.Columns = None,
    weights: options.Weights = None,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="RECIPE",
            help=f"All settings of training together: {', '.join(RECIPES)}.",
            callback=options.one_of(lambda: RECIPES, "a recipe"),
        ),
    ] = DEFAULT,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Epochs at most; training stops early where that is better.",
            show_default="the recipe's",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Stop after N epochs without a better inner loss; 0: train all epochs.",
            show_default="the recipe's",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="RATE", help="Learning rate of the copied layers.", show_default="the recipe's"
        ),
    ] = None,
    batch_size: Annotated[int | None, options.batch_size("Images per step", "the recipe's")] = None,
    accumulate: Annotated[
        int, typer.Option(metavar="N", help="Compute a batch in N parts, to save memory.")
    ] = 1,
    class_weights: Annotated[
        bool, typer.Option("--class-weights", help="Give every class the same weight.")
    ] = False,
    augment: Annotated[
        bool,
        typer.Option(help="Crop, mirror and recolour as the recipe says, or not at all."),
    ] = True,
    view: Annotated[
        list[str] | None, options.views("At test: center, flip or 10crop", "center, 10crop")
    ] = None,
    folds: options.Folds = None,
    seed: options.Seed = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            "--threads",
            "--workers",
            metavar="N",
            help="Threads that decode.",
            show_default="one per core",
        ),
    ] = None,
    share: options.Share = None,
    on: options.On = None,
    device: options.Devices = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="Computing: auto, float32, bf16; on a GPU tf32, fp16 too. auto is mixed precision there.",
        ),
    ] = "auto",
    search: Annotated[
        bool | None,
        typer.Option(
            "--search/--no-search",
            help="Also choose the learning rate, of three.",
            show_default="with recipe modern as it stands, if it ends within an hour",
        ),
    ] = None,
    save: Annotated[
        bool,
        typer.Option("--save", help="Keep the trained networks, with cards, in STUDY/networks."),
    ] = False,
    max_pixels: options.MaxPixels = None,
    redo: options.Redo = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also write the epochs for TensorBoard.", show_default=False
        ),
    ] = None,
    trust: options.Trust = False,
    json: options.Json = False,
) -> None:
    """Train the whole network, or from a layer up, or from scratch, on the folds of the probes.

    It trains and tests on the images that are extracted, where any are: a --limit of `probe extract`
    holds here too. The number of epochs is chosen on an inner part of the training folds. Killed and run
    again, it continues at its last epoch. Rows go into results.csv beside those of the probes.

    Example: probe finetune --backbone sample-faces --task age --freeze-through conv3 --epochs 3
    """
    from probe.finetuning.finetune import finetune as run
    from probe.finetuning.options import FineTuneOptions

    chosen = recipe_with(
        {
            "recipe": recipe,
            "epochs": epochs,
            "patience": patience,
            "rate": rate,
            "batch_size": batch_size,
            "class_weights": class_weights,
            "augment": augment,
        }
    )
    spec = options.data_with(
        data,
        levels=levels,
        path_column=path_column,
        root=options.moved(study, data, root),
        extension=extension,
        missing=missing,
        columns=columns,
    )
    options.tell_data(study, spec)
    with show.Progress("training", "images") as progress:
        done = run(
            study,
            backbone,
            data=spec,
            weights=weights,
            tasks=task or (),
            from_scratch=from_scratch,
            freeze_through=freeze_through or (),
            copy_through=copy_through or (),
            keep_above=keep_above,
            recipe=chosen,
            views=view or FineTuneOptions.views,
            folds=folds,
            seed=seed,
            device=device,
            workers=workers,
            accumulate=accumulate,
            precision=precision,
            base=base,
            probe_first=probe_first,
            search=search,
            share=share,
            on=on,
            save=save,
            redo=redo,
            tensorboard=tensorboard,
            announce=show.say,
            progress=progress,
        )
    for note in done.notes:
        show.say(f"note: {note}")
    if share:
        show.say(
            f"share {share}: {count(done.trained, 'fold')} made in {show.clock(done.seconds)}; "
            "the same command without --share collects all shares"
        )
        return
    kept = f", {count(done.kept, 'result')} kept from before" if done.kept else ""
    show.say(
        f"{count(done.trained, 'network')} trained in {show.clock(done.seconds)}{kept}: "
        f"{study / 'results.csv'}"
    )
    if json:
        show.put_json({"trained": done.trained, "kept": done.kept, "rows": done.rows})
        return
    if save:
        show.say(f"the trained networks and their cards are in {study / 'networks'}")
    if done.study.synthetic:
        show.say("SYNTHETIC: these images are drawn")
    show.put_table(
        ("task", "backbone", "method", "cut", "views", "epochs", "accuracy or MAE", "n"),
        [
            (
                row.task,
                row.backbone,
                row.method,
                row.cut,
                row.views,
                row.epochs,
                f"{row.mae:.2f}" if row.accuracy is None else f"{row.accuracy:.1%}",
                str(row.n),
            )
            for row in done.summary()
        ],
    )

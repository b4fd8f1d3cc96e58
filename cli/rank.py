"""`probe rank`: layers by transfer scores, without a probe."""

from __future__ import annotations

from itertools import groupby, islice
from typing import Annotated

import typer

from cli import options, show

_CONSTANT = 5
"""Layers with constant features that are named."""
_SHOWN = 20
"""Layers of a ranking that the terminal shows."""


def rank(
    study: options.Study = options.STUDY,
    backbone: options.StudyBackbones = None,
    layer: options.StudyLayers = None,
    task: options.Tasks = None,
    rows: Annotated[
        int, typer.Option(metavar="N", help="Images to compute the scores from.")
    ] = 1_000,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Rank extracted layers by transfer scores, without fitting a probe.

    LogME, the regularised H-score and, where a layer is the network's own output, LEEP; larger is
    better. A layer that nearly repeats an earlier one (debiased CKA above 0.98) is marked. Where
    probes are fitted too, weighted Kendall tau tells how well each score orders their accuracy.

    Example: probe rank --task age
    """
    from features.study.study import open_study
    from probe.scoring.agreement import agreements, measured
    from probe.scoring.rank import rank as run
    from probe.scoring.score_table import SCORES

    accuracy = measured(open_study(study))  # first, since results.csv may not read
    with show.Progress("scoring", "layers") as progress:
        made = run(
            study,
            backbones=backbone or (),
            layers=layer or (),
            tasks=task or (),
            rows=rows,
            seed=seed,
            progress=progress,
        )
    agreed = agreements(made.lines, accuracy)
    if json:
        show.put_json({"scores": made.lines, "agreement": agreed})
        return
    headings = [score.heading for score in SCORES.values()]
    header = ["task", "backbone", "layer", "depth", *headings, "near copy of"]
    ordered = sorted(made.lines, key=lambda line: (line.task, -line.logme))
    show.put_table(
        header,
        [
            [
                line.task, line.backbone, line.key, f"{line.depth:.2f}",
                *(_cell(getattr(line, name), score.digits) for name, score in SCORES.items()),
                line.copy_of,
            ]
            for _, lines in groupby(ordered, key=lambda line: line.task)
            for line in islice(lines, _SHOWN)
        ],
    )  # fmt: skip
    if any(sum(line.task == t for line in ordered) > _SHOWN for t in made.study.tasks):
        show.say(f"the first {_SHOWN} of every task; all are in {study / 'scores.csv'}")
    still = [
        f"{name} {n:,} of {dim:,}"
        for name, n, dim in sorted(made.constant, key=lambda of: -of[1] / of[2])
    ]
    if still:
        more = f" and {len(still) - _CONSTANT} layers more" if len(still) > _CONSTANT else ""
        show.say(
            f"features that are the same for every image, which tell nothing: "
            f"{', '.join(still[:_CONSTANT])}{more}"
        )
    for line in agreed:
        show.say(
            f"{line.task}: {line.score} against {line.method} over {line.n} {line.over}: weighted tau "
            f"{line.tau:+.2f}, Pearson {line.pearson:+.2f}"
        )
    if made.study.synthetic:
        show.say("SYNTHETIC: these images are drawn")


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"

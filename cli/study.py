"""`probe status` and `probe remove`: what a study holds."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import options, show


def status(study: options.Study = options.STUDY, json: options.Json = False) -> None:
    """Show what a study holds: features, results, what is unreadable, bytes.

    Example: probe status
    """
    from features.files import words
    from features.status import held, unreadable
    from features.study import open_study
    from probe.results import BEST, read

    opened = open_study(study)
    features = held(opened)
    rows = [row for row in read(opened.folder / "results.csv") if row.layer != BEST]
    fitted = {
        name.backbone: len(
            {(r.task, r.features_key, r.method) for r in rows if r.backbone == name.backbone}
        )
        for name in features
    }
    bad = unreadable(opened)
    if json:
        show.put_json(
            {
                "source": opened.source,
                "rows": len(opened),
                "tasks": opened.tasks,
                "synthetic": opened.synthetic,
                "features": [{**vars(h), "fitted": fitted[h.backbone]} for h in features],
                "unreadable": bad,
            }
        )
        return
    stamp = ", SYNTHETIC" if opened.synthetic else ""
    show.say(
        f"{opened.folder}: {opened.source}, {len(opened)} rows, tasks {', '.join(opened.tasks)}{stamp}"
    )
    show.put_table(
        [
            "backbone",
            "domain",
            "arrays",
            "done",
            "unreadable",
            "pending",
            "fitted",
            "size",
            "state",
        ],
        [
            [
                h.backbone,
                h.domain,
                str(len(h.layers)),
                str(h.done),
                str(h.unreadable),
                str(h.pending),
                str(fitted[h.backbone]),
                words(h.bytes),
                "finished" if h.finished else "unfinished: run `probe extract` again",
            ]
            for h in features
        ],
    )
    for path, reason in bad.items():
        show.say(f"unreadable: {path}: {reason}")


def remove(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help="A backbone of the study.")],
    study: options.Study = options.STUDY,
) -> None:
    """Take one backbone out of a study: its features, results and predictions.

    Example: probe remove vggface@random
    """
    from probe.removal import remove as run

    rows = run(study, backbone)
    show.say(f"{backbone} is removed from {study}, with {rows} rows of results")

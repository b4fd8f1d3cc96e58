"""`probe status`: what a study holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli import options, show
from probe.counts import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from features.store.featurefile import Damage
    from features.study.status import StoredBackbone


def status(
    study: options.Study = options.STUDY,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Read all features, and name those that have changed on disk."
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Show what a study holds: features, results, unreadable images, bytes.

    Example: probe status --verify
    """
    from rich.filesize import decimal

    from features.machine.tally import at_work
    from features.study.status import fits_waiting, held, parts_waiting, unreadable
    from features.study.status import verify as verify_features
    from features.study.study import open_study
    from probe.results.rows import BEST, read

    opened = open_study(study)
    features = held(opened)
    rows = [row for row in read(opened.folder / "results.csv") if row.layer != BEST]
    fitted = {
        h.backbone: len(
            {(r.task, r.features_key, r.method) for r in rows if r.backbone == h.backbone}
        )
        for h in features
    }
    bad = unreadable(opened)
    damages = verify_features(opened) if verify else {}
    if json:
        about: dict[str, object] = {
            "source": opened.source,
            "rows": len(opened),
            "tasks": opened.tasks,
            "synthetic": opened.synthetic,
            "features": [{**vars(h), "fitted": fitted[h.backbone]} for h in features],
            "unreadable": bad,
        }
        show.put_json({**about, "damages": damages} if verify else about)
        _refuse(damages)
        return
    stamp = ", SYNTHETIC" if opened.synthetic else ""
    show.say(
        f"{opened.folder}: {opened.source}, {count(len(opened), 'row')}, "
        f"tasks {', '.join(opened.tasks)}{stamp}"
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
                decimal(h.bytes),
                _state(h),
            ]
            for h in features
        ],
    )
    for line in at_work(opened.folder):
        show.say(line)
    for name, parts in parts_waiting(opened).items():
        show.say(
            f"{name}: {count(parts, 'part')} made by shares; `probe extract` without --share collects them"
        )
    if fits := fits_waiting(opened):
        show.say(
            f"{count(fits, 'fit')} made by shares; `probe fit` without --share collects them, and removes "
            "those of other settings"
        )
    for path, reason in bad.items():
        show.say(f"unreadable: {path}: {reason}")
    _tell(damages)
    _refuse(damages)


def _state(features: StoredBackbone) -> str:
    if not features.finished:
        return "unfinished: run `probe extract` again"
    if features.pending:
        return (
            "finished, of a part (--limit or --quick): `probe extract` without them takes the rest"
        )
    return "finished"


def _tell(damages: Mapping[str, Sequence[Damage]]) -> None:
    for backbone, several in damages.items():
        for damage in several:
            many = len(damage.rows)
            rows = ", ".join(map(str, damage.rows[:10])) + (", ..." if many > 10 else "")
            where = f" in {count(many, 'row')}: {rows}" if many else ""
            show.say(f"{backbone}: {damage.what} has changed on disk{where}")
        if not several:
            show.say(f"{backbone}: every row is as it was written")


def _refuse(damages: Mapping[str, Sequence[Damage]]) -> None:
    from features.errors import InputError

    bad = [backbone for backbone, several in damages.items() if several]
    if bad:
        raise InputError(
            f"{', '.join(bad)}: changed on disk; `probe remove {bad[0]}` and extract it again."
        )

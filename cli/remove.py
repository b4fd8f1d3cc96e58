"""`probe remove`: one backbone taken out of a study."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import options, show
from probe.counts import count


def remove(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help="A backbone of the study.")],
    study: options.Study = options.STUDY,
) -> None:
    """Delete a backbone from a study: its features, results and predictions.

    Example: probe remove vggface@random
    """
    from probe.results.ledger import remove as run

    rows = run(study, backbone)
    show.say(f"{backbone} is removed from {study}, with {count(rows, 'row')} of results")

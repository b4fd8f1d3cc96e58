"""Whether the feature files of a study hold the same rows, since only those can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from features.featurefile import DONE
from features.study import Study


def unlike_rows(study: Study, backbones: Sequence[str]) -> str | None:
    """Two of the backbones that hold other rows, in one sentence; None if all hold the same."""
    first: tuple[str, bytes, int] | None = None
    for name in backbones:
        with study.features(name) as file:
            done = file.status == DONE
        here = (name, done.tobytes(), int(done.sum()))
        if first is None or first[1] == here[1]:
            first = first or here
            continue
        same = "" if first[2] != here[2] else ", which are not the same"
        return (
            f"{first[0]} holds {first[2]:,} of {len(study):,} images and {name} {here[2]:,}{same}; "
            "only the same images can be compared, so extract both alike (with the same --limit, or "
            "without)."
        )
    return None

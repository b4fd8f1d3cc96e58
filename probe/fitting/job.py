"""A job of `fit`: one probe on one layer for one task."""

from __future__ import annotations

from dataclasses import dataclass

from features.data.tasks import Task
from features.images.views import VIEWS
from probe.results import predictions
from probe.results import rows as results


@dataclass(frozen=True)
class ProbeJob:
    """One probe on one layer for one task: one result."""

    task: Task
    backbone: str
    key: str
    """The layer, with its pooling, as the feature file names it."""
    method: str
    shots: int | None = None
    """Training images per class; None: all."""
    fraction: float | None = None
    """Share of the training images of each class; None: all, or `shots`."""
    draw: int | None = None
    repeat: int = 0
    project: int | None = None
    """The width that features are projected to; None: they stay as they are."""
    view: str = "center"
    """What of a test image is scored."""

    @property
    def stored(self) -> predictions.Key:
        """Where predictions/ holds its scores."""
        variant = results.variant(
            views=self.view,
            crops=VIEWS[self.view],
            repeat=self.repeat,
            shots=self.shots,
            fraction=self.fraction,
            draw=self.draw,
            project=self.project,
        )
        return (self.task.name, self.backbone, self.key, self.method + variant)

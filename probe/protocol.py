"""The protocol: everything that defines a number besides the network, as one short hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from features.study import Study
from features.tasks import Task
from probe.crossval import Settings
from probe.folds import Splits

_VERSION = 1  # raised when the meaning of a number changes


def protocol(study: Study, task: Task, splits: Splits, settings: Settings, seed: int) -> str:
    """Twelve hexadecimal digits over the data, folds, scaler, grid and rule of selection."""
    labels = study.labels(task.name)[splits.part >= 0]
    said = {
        "version": _VERSION,
        "images": study.images_hash,
        "classes": list(task.classes),
        "ordered": task.ordered,
        "labels": hashlib.sha256(labels.tobytes()).hexdigest(),
        "parts": hashlib.sha256(splits.part.tobytes()).hexdigest(),
        "settings": asdict(settings),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

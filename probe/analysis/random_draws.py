"""Random weights drawn with several seeds, as one curve: their mean, and how far the draws lie apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from probe.analysis.points import Curve, Point
from probe.analysis.statistics import Interval

_DRAW = re.compile(r"(.+@random)(?:-\d+)?(@as-.+)?")
"""How features/backbone.py names a network with random weights: NAME@random, NAME@random-SEED, and with
`@as-OTHER` behind it in the geometry of another."""


def network_of(name: str) -> str:
    """NAME@random for every draw of the random weights of NAME; other names as they are."""
    draw = _DRAW.fullmatch(name)
    return draw[1] + (draw[2] or "") if draw else name


def merge_draws(curves: Sequence[Curve]) -> list[Curve]:
    """The curves, with the draws of one network's random weights as one where the first of them stood.

    The merged curve has the layers that all draws have; each value is the mean over draws, and its
    interval goes from the smallest to the largest of them.
    """
    merged: list[Curve] = []
    done: set[tuple[str, str]] = set()
    for curve in curves:
        network = network_of(curve.backbone)
        draws = [
            c
            for c in curves
            if c.domain == curve.domain == "none"
            and c.method == curve.method
            and network_of(c.backbone) == network
        ]
        if len(draws) < 2:
            merged.append(curve)
        elif (network, curve.method) not in done:
            done.add((network, curve.method))
            merged.append(replace(draws[0], points=_means(draws), draws=len(draws)))
    return merged


def spread(values: Sequence[float]) -> Interval:
    """The mean of some draws, and the smallest and the largest of them."""
    return Interval(float(np.mean(values)), min(values), max(values), np.nan)


def _means(draws: Sequence[Curve]) -> tuple[Point, ...]:
    by_layer = [{(p.layer, p.pool): p for p in draw.points} for draw in draws]
    means = []
    for place, point in by_layer[0].items():
        same = [points[place] for points in by_layer if place in points]
        if len(same) == len(draws):
            metrics = {
                name: spread([p.metrics[name].value for p in same])
                for name in point.metrics
                if all(name in p.metrics for p in same)
            }
            means.append(replace(point, metrics=metrics))
    return tuple(means)

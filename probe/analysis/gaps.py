"""The gap between the two members of a pair (one architecture, other weights), layer by layer."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from features.arrays import Doubles
from features.images.geometry import geometry_of
from features.study.study import Study
from probe.analysis.outcomes import Outcomes
from probe.analysis.statistics import Beside, Interval, band, slope, slope_weights
from probe.results.rows import ResultName

if TYPE_CHECKING:
    from probe.analysis.points import Curve


@dataclass(frozen=True)
class GapPoint:
    """The gap at one layer, with its ends of the simultaneous band."""

    layer: str
    depth: float
    gap: float
    low: float
    high: float


@dataclass(frozen=True)
class Gap:
    """Accuracy of one member of a pair minus that of the other, layer by layer, on the same images.

    Of a number it is the other's mean absolute error minus the first's.
    """

    near: str
    """The member of the closest domain, if one of them is."""
    far: str
    far_domain: str
    near_domain: str
    points: tuple[GapPoint, ...]
    slope: Interval
    """Change of the gap from the input to the end of the network."""

    @property
    def kind(self) -> str:
        """What it is a gap of: of domains, or of training at all; the same domain twice is neither."""
        if self.far_domain == "none":
            return "pretraining gap"
        return "domain gap" if self.near_domain != self.far_domain else "difference"

    @property
    def title(self) -> str:
        """`near − far`."""
        return f"{self.near} − {self.far}"


@dataclass(frozen=True)
class Member:
    """A backbone, with what tells whether it makes a pair with another."""

    name: str
    domain: str
    base: str
    """The name of its card."""
    pair: str | None
    """The card that its own names as its pair."""
    random: bool
    geometry: str
    """Which part of an image it sees, and at what size."""
    has_seen: bool
    """Whether its weights were trained on this study's own data, as far as that is known."""
    layers: Mapping[str, str]
    """Module by layer, in depth order."""


def members(study: Study) -> list[Member]:
    """The backbones of a study, as their feature files describe them."""
    backbones = []
    for name in study.backbones():
        with study.features(name) as file:
            card = file.card
            weights = json.loads(file.attributes.get("weights", "{}"))
            layers = [file.about(key) for key in file.keys]
            backbones.append(
                Member(
                    name,
                    file.domain,
                    card.get("name", name),
                    card.get("pair"),
                    bool(weights.get("random")),
                    geometry_of(str(file.attributes.get("preprocessing", ""))),
                    bool(json.loads(file.attributes.get("trained_on_this", "[]"))),
                    {layer["layer"]: layer["module"] for layer in layers},
                )
            )
    return backbones


def gaps(
    outcomes: Outcomes, drawn: Sequence[Curve], networks: Sequence[Member], closest: str | None
) -> list[Gap]:
    """The gaps of every pair among the curves of one method and pooling.

    Random weights with several seeds are one member: the mean over them.
    """
    by_name = {curve.backbone: curve for curve in drawn}
    there = [m for m in networks if m.name in by_name]
    trained = [m for m in there if not m.random]
    made = []
    for a, b in combinations(trained, 2):
        if paired(a, b):
            near, far = sorted((a, b), key=lambda m: (m.domain != closest, m.name))
            made.append(_gap(outcomes, by_name, near, [far], far.name))
    for a in trained:
        draws = [
            m
            for m in there
            if m.random and paired(a, m) and not a.layers.keys().isdisjoint(m.layers)
        ]
        if draws:
            name = "random weights" + (f" (mean of {len(draws)} draws)" if len(draws) > 1 else "")
            made.append(_gap(outcomes, by_name, a, draws, name))
    return [gap for gap in made if gap is not None]


def paired(a: Member, b: Member) -> bool:
    """Two of one architecture and layer names that see the images in one way, so that gaps can be drawn."""
    return alike(a, b) and a.geometry == b.geometry


def alike(a: Member, b: Member) -> bool:
    """Same architecture and layer names: one card, or two cards that name each other as pair.

    A pair of which the study holds no layer in common is a pair that has no gap. Imported features
    have no modules, so nothing tells their architecture, and they make no pair.
    """
    shared = [layer for layer in a.layers if layer in b.layers]
    have_modules = any(a.layers.values()) and any(b.layers.values())
    same = have_modules and all(a.layers[layer] == b.layers[layer] for layer in shared)
    linked = a.base == b.base or a.pair == b.base or b.pair == a.base
    return same and linked and "control" not in (a.domain, b.domain)


def pairs(networks: Sequence[Member], names: Container[str]) -> frozenset[frozenset[str]]:
    """The pairs among the backbones called `names`; two draws of random weights make no pair."""
    there = [m for m in networks if m.name in names]
    return frozenset(
        frozenset((a.name, b.name))
        for a, b in combinations(there, 2)
        if paired(a, b) and not (a.random and b.random)
    )


def seen_unlike(
    networks: Sequence[Member], names: Container[str]
) -> tuple[tuple[Member, Member], ...]:
    """What would be pairs of trained backbones, did they not see the images in two ways."""
    there = [m for m in networks if m.name in names and not m.random]
    matched = {m.name for a, b in combinations(there, 2) if paired(a, b) for m in (a, b)}
    return tuple(
        (a, b)
        for a, b in combinations(there, 2)
        if alike(a, b) and not paired(a, b) and a.base != b.base and not {a.name, b.name} <= matched
    )


def _gap(
    outcomes: Outcomes, drawn: Mapping[str, Curve], near: Member, far: list[Member], far_name: str
) -> Gap | None:
    """The gap at the layers that all members have, those of `far` averaged; None if there is no layer.

    Of several draws of random weights, the band also counts how far the draws lie apart.
    """
    points = {p.layer: p for p in drawn[near.name].points}
    others = [{p.layer: p for p in drawn[m.name].points} for m in far]
    columns, drawn_apart, layers, weights = [], [], [], []
    for layer, point in points.items():
        if not all(layer in other for other in others):
            continue
        names = [point.rows[0].result_name, *(other[layer].rows[0].result_name for other in others)]
        if outcomes.has(*names):
            ours, *theirs = (outcomes.worth(name) for name in names)
            columns.append(ours - np.mean(theirs, axis=0))
            drawn_apart.append([np.nanmean(worth) for worth in theirs])
            layers.append(point)
            weights.append({name: -1 / len(theirs) for name in names} | {names[0]: 1.0})
    if not layers:
        return None
    values = np.stack(columns, axis=1)
    tested = ~np.isnan(values).any(1)
    values, subjects = values[tested], outcomes.subjects[tested]
    of_draws = np.array(drawn_apart)  # (layers, draws)
    wider = np.array([outcomes.wider(of_layer) for of_layer in weights])
    means = band(values, subjects, wider, beside=_between_draws(of_draws))
    depth = np.array([p.depth for p in layers])
    trend = slope_weights(depth)
    of_slope: dict[ResultName, float] = {}
    for share, of_layer in zip(trend.tolist(), weights, strict=True):
        for name, weight in of_layer.items():
            of_slope[name] = of_slope.get(name, 0.0) + share * weight
    return Gap(
        near.name,
        far_name,
        far[0].domain,
        near.domain,
        tuple(
            GapPoint(
                point.layer,
                point.depth,
                *map(float, (means.value[i], means.low[i], means.high[i])),
            )
            for i, point in enumerate(layers)
        ),
        slope(values, depth, subjects, outcomes.wider(of_slope), _between_draws(trend @ of_draws)),
    )


def _between_draws(values: Doubles) -> Beside | None:
    """The error of the mean over the last axis, that of draws; None of one draw, which does not tell it."""
    draws = values.shape[-1]
    if draws < 2:
        return None
    return Beside(values.std(axis=-1, ddof=1) / np.sqrt(draws), draws - 1)

"""The variants of a fine-tune: what is copied, what is frozen, what starts anew."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from features.backbone import Backbone, Layer
from probe.training.cut import EMPTY, Prefix, freeze, into, prefix_of, renew_above
from probe.training.head import Network, classifier, with_head
from probe.training.recipes import Recipe

METHODS = ("finetune", "scratch", "frozen", "copied")


@dataclass(frozen=True)
class Variant:
    """One way to train one backbone."""

    method: str
    """`finetune`: all layers copied and tuned; `scratch`: none copied; `frozen`: the layers through the
    cut kept as they are; `copied`: the same layers copied, and all tuned."""
    layer: Layer | None = None
    """The cut."""
    keep_above: bool = False
    """Above the cut the layers are copied too, not drawn anew."""

    @property
    def cut(self) -> str:
        """The name of the cut, empty without one."""
        return self.layer.name if self.layer else ""

    def __str__(self) -> str:
        """The variant in words: `frozen through conv3`."""
        return f"{self.method} through {self.cut}" if self.cut else self.method


def variants(
    backbone: Backbone,
    *,
    from_scratch: bool,
    freeze_through: Sequence[str],
    copy_through: Sequence[str],
    keep_above: bool,
) -> list[Variant]:
    """The variants asked for; the whole network, tuned, if none was.

    Raises:
        InputError: A name is not a layer of the backbone.
    """
    chosen = [Variant("scratch")] if from_scratch else []
    for method, names in (("frozen", freeze_through), ("copied", copy_through)):
        if names:
            chosen += [Variant(method, x, keep_above) for x in backbone.layers(tuple(names))]
    return chosen or [Variant("finetune")]


def start(
    backbone: Backbone,
    variant: Variant,
    classes: int,
    seed: int,
    trained: dict[str, Tensor] | None = None,
) -> tuple[Network, Prefix]:
    """The network before training, and its frozen part.

    `trained` are tensors to begin with in place of the backbone's own.
    """
    architecture = backbone.architecture
    card = architecture.card
    body: nn.Module = copy.deepcopy(backbone.model)
    if trained is not None:
        into(body, trained)
    prefix = prefix_of(architecture, variant.layer) if variant.layer else EMPTY
    if variant.method == "scratch" or (variant.layer and not variant.keep_above):
        renew_above(body, card, prefix, seed)
    own = classifier(card, architecture.traced)
    on_top = own is not None and any(p.startswith(f"{own}.") for p in prefix.parameters)
    network = with_head(
        card, body, architecture.traced, architecture.input.shape, classes, seed, on_top=on_top
    )
    network.new_below_head = variant.method == "scratch" or (
        variant.layer is not None
        and not variant.keep_above
        and any(n not in prefix.parameters for n, _ in network.below_head())
    )
    if variant.method != "frozen":
        return network, EMPTY
    freeze(network.body, prefix)
    return network, prefix


def head_times(recipe: Recipe, variant: Variant) -> float:
    """The head's learning rate over that of the layers below it."""
    return recipe.scratch_head_times if variant.method == "scratch" else recipe.head_times

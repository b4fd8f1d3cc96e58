"""Recipes of training: everything about a fine-tune but its network and data, by name.

A recipe's `ours` names the settings that its source does not tell, which are this project's choice.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from features.errors import OptionError, nearest

DEFAULT = "modern"
"""The recipe that results do not name in their method."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    name: str
    source: str
    """Where it comes from, in a few words."""
    optimiser: str
    """`sgd`, with momentum, or `adamw`."""
    rate: float
    """The learning rate of the copied layers; from scratch, of all layers."""
    head_times: float
    """The head's rate over that of the layers below, where these are copied."""
    scratch_head_times: float
    """The head's rate over that of the layers below, where all start from random weights."""
    bias_times: float
    """The rate of biases over that of weights, as in Caffe."""
    momentum: float
    decay: float
    """Weight decay; biases and the weights of norms have none."""
    schedule: str
    """`cosine`, falling to zero, or `step`: times `gamma` after every fraction `step` of the training."""
    warm_up: float
    """Epochs over which the rate rises from zero."""
    step: float
    gamma: float
    batch_size: int
    epochs: int
    """The number of epochs; where training stops early, the largest."""
    iterations: int
    """The number of batches, where the source counts these: it sets the epochs; else 0."""
    patience: int
    """Epochs without a better inner log loss before training stops; 0: all epochs, no inner split."""
    smoothing: float
    """Label smoothing, 0 to 1."""
    class_weights: bool
    """Whether every class weighs the same, however many images it has."""
    crop: bool
    mirror: bool
    colour: float
    """The largest change of brightness, contrast and saturation, as a fraction."""
    standardise: bool
    """Whether the head's input is standardised by mean and SD over the training rows, where the layers
    below are copied: those of random layers would mean nothing."""
    ours: tuple[str, ...]
    """The fields that the source does not tell, which are this project's choice."""


_CAFFE = Recipe(
    name="gilnet",
    source="Levi and Hassner 2015, the published solver and train prototxt",
    optimiser="sgd",
    rate=1e-3,
    head_times=10.0,
    scratch_head_times=10.0,  # lr_mult 10 and 20 on fc8, though all is new
    bias_times=2.0,
    momentum=0.9,
    decay=5e-4,
    schedule="step",
    warm_up=0.0,
    step=0.2,  # 10,000 of 50,000 batches
    gamma=0.1,
    batch_size=50,
    epochs=0,
    iterations=50_000,
    patience=0,
    smoothing=0.0,
    class_weights=False,
    crop=True,
    mirror=True,
    colour=0.0,
    standardise=False,
    ours=(),
)

RECIPES = {
    "modern": Recipe(
        name="modern",
        source="common practice today; no single paper",
        optimiser="adamw",
        rate=3e-4,
        head_times=10.0,
        scratch_head_times=1.0,
        bias_times=1.0,
        momentum=0.9,
        decay=0.02,
        schedule="cosine",
        warm_up=0.5,
        step=0.0,
        gamma=0.0,
        batch_size=32,
        epochs=20,
        iterations=0,
        patience=5,
        smoothing=0.05,
        class_weights=False,
        crop=True,
        mirror=True,
        colour=0.1,
        standardise=True,
        ours=tuple(f.name for f in fields(Recipe) if f.name not in ("name", "source", "ours")),
    ),
    "gilnet": _CAFFE,
    # The paper tells only that both networks were fine-tuned on Adience.
    "paper": replace(
        _CAFFE,
        name="paper",
        source="Özbulak, Aytar, Ekenel 2016, which does not tell its settings; after Levi and Hassner",
        scratch_head_times=10.0,
        ours=tuple(f.name for f in fields(Recipe) if f.name not in ("name", "source", "ours")),
    ),
}
RECIPES["paper-vgg"] = replace(RECIPES["paper"], name="paper-vgg", rate=1e-4, batch_size=16)


def recipe(name: str, **changes: object) -> Recipe:
    """The recipe called `name`, with every one of `changes` that is not None.

    Raises:
        InputError: There is no such recipe, or a value is out of its range.
    """
    if name not in RECIPES:
        raise OptionError(f"--recipe {name}: not a recipe; {nearest(name, RECIPES)}")
    given = {key: value for key, value in changes.items() if value is not None}
    changed = replace(RECIPES[name], **given)  # type: ignore[arg-type]
    if "epochs" in given:
        changed = replace(changed, iterations=0)
    if changed.batch_size < 1:
        raise OptionError(f"--batch-size {changed.batch_size}: a batch has at least one image.")
    if changed.epochs < 1 and not changed.iterations:
        raise OptionError(f"--epochs {changed.epochs}: training takes at least one epoch.")
    if not changed.rate > 0:
        raise OptionError(f"--rate {changed.rate:g}: a learning rate is above zero.")
    if changed.patience < 0:
        raise OptionError(f"--patience {changed.patience}: give a number of epochs, or 0 for none.")
    return changed


def epochs_of(recipe: Recipe, rows: int) -> int:
    """How many epochs the recipe trains for on `rows` images."""
    if not recipe.iterations:
        return recipe.epochs
    return max(1, round(recipe.iterations * recipe.batch_size / rows))


def rate_factor(recipe: Recipe, epoch: float, epochs: int) -> float:
    """The factor on the rate after `epoch` (a fraction counts) of `epochs` epochs."""
    from math import cos, pi

    if epoch < recipe.warm_up:
        return (epoch + 1e-3) / recipe.warm_up if recipe.warm_up else 1.0
    if recipe.schedule == "step":
        return recipe.gamma ** int(epoch / epochs / recipe.step + 1e-9)
    left = max(epochs - recipe.warm_up, 1e-9)
    return 0.5 * (1 + cos(pi * min(1.0, (epoch - recipe.warm_up) / left)))

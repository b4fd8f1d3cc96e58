"""The head: a linear classifier that replaces a network's own, or stands on its output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from features.cards.card import Card
from features.cards.network import build
from features.cards.trace import Trace, first_tensor
from features.errors import InputError

_SPREAD = 0.01  # SD of a new head's weights, as in Caffe's prototxts


class Head(nn.Module):
    """Linear class scores of (features - `mean`) * `scale`; a map is averaged first."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, classes: int, seed: int) -> None:
        """Weights are drawn from `seed`; `mean` is 0 and `scale` 1."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.linear = nn.Linear(dim, classes)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.linear.weight, std=_SPREAD, generator=generator)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, dim)` or `(n, dim, h, w)` to `(n, classes)`."""
        scores: Tensor = self.linear((pooled(x) - self.mean) * self.scale)
        return scores

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weights `(classes, dim)` and biases that give the same scores from features as they are."""
        weight = self.linear.weight.detach() * self.scale
        return weight, self.linear.bias.detach() - weight @ self.mean

    @contextmanager
    def listening(self) -> Iterator[list[Tensor]]:
        """The head's inputs, `(n, dim)` a batch, collected while the block is open."""
        inputs: list[Tensor] = []
        handle = self.register_forward_pre_hook(
            lambda _module, given: inputs.append(pooled(given[0]).detach().cpu())
        )
        try:
            yield inputs
        finally:
            handle.remove()


def pooled(x: Tensor) -> Tensor:
    """A map `(n, dim, h, w)` or tokens `(n, tokens, dim)` averaged to `(n, dim)`."""
    if x.ndim == 3:
        return x.mean(1)
    return x.flatten(2).mean(2) if x.ndim > 2 else x


class Network(nn.Module):
    """A backbone and its head: `(n, channels, h, w)` to `(n, classes)`."""

    def __init__(self, body: nn.Module, head: Head, place: str | None) -> None:
        """The head stands in `body` at the module `place`, or, if None, on its output."""
        super().__init__()
        self.body = body
        self.top = head if place is None else nn.Identity()
        self.place = place
        self.new_below_head = False
        """Whether layers that begin with random weights lie between what is copied and the head."""

    @property
    def head(self) -> Head:
        """The head, wherever it stands."""
        head = self.top if self.place is None else self.body.get_submodule(self.place)
        assert isinstance(head, Head)
        return head

    def below_head(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The backbone's own parameters, by their names there."""
        head = {id(parameter) for parameter in self.head.parameters()}
        yield from ((n, p) for n, p in self.body.named_parameters() if id(p) not in head)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        y = first_tensor(self.body(x))
        assert y is not None
        if self.place is not None:
            return y
        scores: Tensor = self.top(y)
        return scores


def with_head(
    card: Card,
    body: nn.Module,
    traced: Trace,
    shape: tuple[int, int, int],
    classes: int,
    seed: int,
    *,
    on_top: bool,
) -> Network:
    """`body` with a head of `classes` scores, in place of its own classifier if it has one.

    What runs after the classifier (SqueezeNet's last ReLU and pool) is left out then. `on_top` keeps
    the classifier and lets the head read the network's output for images of `shape` (channels,
    height, width). `body` is changed.
    """
    place = None if on_top else classifier(card, traced)
    if place is None:
        with torch.no_grad():
            output = first_tensor(body.eval()(torch.zeros(1, *shape)))
        assert output is not None
        return Network(body, Head(pooled(output).shape[1], classes, seed), None)
    own = body.get_submodule(place)
    dim = own.in_features if isinstance(own, nn.Linear) else int(own.in_channels)  # type: ignore[arg-type]
    for name, fired in traced.fired.items():
        if fired.leaf and fired.order > traced.fired[place].order:
            set_module(body, name, nn.Identity())
    set_module(body, place, Head(dim, classes, seed))
    return Network(body, body.get_submodule(place), place)  # type: ignore[arg-type]


def classifier(card: Card, traced: Trace) -> str | None:
    """The name of a network's own classifier: the module that grows with `num_classes`.

    None where the network has no such option: then its output is an embedding, not scores. In a
    network from a Caffe prototxt the last weight layer counts as the classifier.
    """
    weighted = [name for name, fired in traced.fired.items() if fired.weight_module == name]
    if card.network.startswith("caffe:"):
        return weighted[-1] if weighted else None
    shapes = []
    for classes in (3, 5):
        other = replace(card, options={**card.options, "num_classes": classes})
        model = _built(other)
        if model is None:
            return None
        shapes.append({name: tensor.shape for name, tensor in model.state_dict().items()})
    grown = {
        name.rpartition(".")[0] for name, shape in shapes[0].items() if shapes[1].get(name) != shape
    }
    return next((name for name in reversed(weighted) if name in grown), None)


def _built(card: Card) -> nn.Module | None:
    for device in ("meta", "cpu"):  # some networks compute with their weights while they are built
        try:
            return build(card, device=device)
        except InputError:
            continue
    return None


def set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the module called `name`."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)

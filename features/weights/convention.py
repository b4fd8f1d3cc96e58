"""The conventions in which files of one network differ: channel order, mean, flatten order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from features.cards.card import Card, Input, WeightsEntry
from features.cards.trace import Trace
from features.errors import InputError


def input_for(entry: WeightsEntry, card_input: Input) -> Input:
    """The preprocessing for a file: that of [input], with the file's own mean if it has one.

    The bias of the first convolution could not take up the difference: at the border the
    convolution reads zeros, from which no mean was subtracted.
    """
    if entry.mean is None:
        return card_input
    if isinstance(entry.mean, str):
        return replace(card_input, mean=entry.mean)
    order = entry.channel_order or card_input.channel_order
    mean = tuple(entry.mean[order.index(channel)] for channel in card_input.channel_order)
    return replace(card_input, mean=mean)


def in_channel_order(
    state: Mapping[str, Tensor],
    entry: WeightsEntry,
    card: Card,
    model: nn.Module,
    traced: Trace,
    card_input: Input,
) -> dict[str, Tensor]:
    """The same weights for a network whose input has its channels in the card's own order.

    Raises:
        InputError: The network does not begin with an ordinary convolution of the image.
    """
    order = entry.channel_order
    if order is None or order == card_input.channel_order:
        return dict(state)
    turn = torch.tensor([order.index(channel) for channel in card_input.channel_order])
    modules = dict(model.named_modules())
    turned, first = dict(state), False
    for name, fired in traced.fired.items():
        module, weight = modules[name], f"{name}.weight"
        if (
            isinstance(module, nn.Conv2d)
            and fired.weight_layers == 1
            and module.in_channels == len(order)
        ):
            first = module.groups == 1
            if weight in state:  # else no chosen layer reads it
                turned[weight] = state[weight][:, turn]
        elif fired.leaf and fired.weight_layers == 0:  # a normalisation of the image itself
            for own in _own_names(module):
                tensor = state.get(f"{name}.{own}")
                if tensor is not None and tensor.shape[:1] == (len(order),):
                    turned[f"{name}.{own}"] = tensor[turn]
    if not first:
        raise InputError(
            f"{card.line('channel_order')}: the file has its channels as {order.upper()}, and "
            f"{card.network} does not begin with a convolution of {len(order)} channels that could be put "
            f"in the order {card_input.channel_order.upper()}; give [input] the file's channel_order."
        )
    return turned


def _own_names(module: nn.Module) -> list[str]:
    """The names of a module's parameters and buffers, without those of its submodules."""
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return [name for name, _ in own]

"""The conventions in which files of one network differ: channel order, mean, flatten order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from features.cards.card import Card, Input, WeightsEntry
from features.cards.trace import Trace
from features.errors import InputError


def input_for(entry: WeightsEntry, wanted: Input) -> Input:
    """The preprocessing that belongs to a file: [input]'s, with the file's own mean if it has one.

    The bias of the first convolution could not take up the difference: at the border the
    convolution reads zeros, from which no mean was subtracted.
    """
    if entry.mean is None:
        return wanted
    if isinstance(entry.mean, str):
        return replace(wanted, mean=entry.mean)
    order = entry.channel_order or wanted.channel_order
    mean = tuple(entry.mean[order.index(channel)] for channel in wanted.channel_order)
    return replace(wanted, mean=mean)


def in_channel_order(
    state: Mapping[str, Tensor],
    entry: WeightsEntry,
    card: Card,
    model: nn.Module,
    traced: Trace,
    wanted: Input,
) -> dict[str, Tensor]:
    """The same weights for a network that is fed the channels in the card's own order.

    Raises:
        InputError: The network does not begin with an ordinary convolution of three channels.
    """
    order = entry.channel_order
    if order is None or order == wanted.channel_order:
        return dict(state)
    turn = torch.tensor([order.index(channel) for channel in wanted.channel_order])
    modules = dict(model.named_modules())
    turned, first = dict(state), False
    for name, fired in traced.fired.items():
        module, weight = modules[name], f"{name}.weight"
        if isinstance(module, nn.Conv2d) and fired.weight_layers == 1 and module.in_channels == 3:
            first = module.groups == 1
            if weight in state:  # else no layer that is asked for reads it
                turned[weight] = state[weight][:, turn]
        elif fired.leaf and fired.weight_layers == 0:  # a normalisation of the image itself
            for own in _names(module):
                tensor = state.get(f"{name}.{own}")
                if tensor is not None and tensor.shape[:1] == (3,):
                    turned[f"{name}.{own}"] = tensor[turn]
    if not first:
        raise InputError(
            f"{card.line('channel_order')}: the file has its channels as {order.upper()}, and "
            f"{card.network} does not begin with a convolution of three channels that could be put "
            f"in the order {wanted.channel_order.upper()}; give [input] the file's channel_order."
        )
    return turned


def _names(module: nn.Module) -> list[str]:
    """Of its own parameters and buffers, those of its parts left out."""
    own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return [name for name, _ in own]

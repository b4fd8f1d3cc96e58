"""The whole chain of an export as one module: pixels, network, layer, pooling, probe, probabilities."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from features.backbone import Backbone, Layer
from features.cards.card import Input
from features.cards.onnx_network import OnnxNetwork
from features.cards.trace import Trace, part_of
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.pool import Pooled
from features.images.preprocess import mean_of
from features.weights.needed import read_up_to
from probe.exported.file import Contents


class Chain(nn.Module):
    """Pixels `(n, 3, h, w)` uint8 in RGB, resized and cropped, to probabilities `(n, K)`, or a number."""

    order: Tensor
    mean: Tensor
    over_sd: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, contents: Contents, backbone: Backbone, pooled: Pooled) -> None:
        """A copy of the network as far as the layer, and the probe as buffers.

        Raises:
            InputError: The network cannot be written as a graph.
        """
        super().__init__()
        if isinstance(backbone.model, OnnxNetwork):
            raise InputError(
                f"{backbone.name}: is an ONNX file, which cannot be written into another graph; export "
                "--format probe."
            )
        architecture = backbone.architecture
        self.model = copy.deepcopy(backbone.model).cpu().float().eval().requires_grad_(False)
        self.read = reader(self.model, pooled.layer, architecture.traced)
        self.pool = pooler(pooled)
        self.scale = architecture.input.scale / 255.0
        order = ["rgb".index(channel) for channel in architecture.input.channel_order]
        self.register_buffer("order", torch.tensor(order))
        self.register_buffer("mean", mean_of(architecture.input).clone())
        std = torch.tensor(architecture.input.std, dtype=torch.float32)
        self.register_buffer("over_sd", (1 / std).view(1, 3, 1, 1))
        probe, times = contents.probe, contents.about.temperature
        self.unit_rows, self.is_number = probe.unit_rows, contents.about.is_number
        self.register_buffer("feature_mean", torch.from_numpy(probe.scaler.mean.copy()))
        self.register_buffer("feature_scale", torch.from_numpy(probe.scaler.scale.copy()))
        self.register_buffer("weight", torch.from_numpy(np.float32(times) * probe.weight))
        self.register_buffer("bias", torch.from_numpy(np.float32(times) * probe.bias))
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Probabilities, or the number."""
        x = pixels.to(torch.float32).index_select(1, self.order)
        x = (x * self.scale - self.mean) * self.over_sd
        features = self.pool(self.read(x))
        if self.unit_rows:
            length = features.square().sum(1, keepdim=True).sqrt()
            z = features / length.clamp_min(1e-12)
        else:
            z = (features - self.feature_mean) * self.feature_scale
        scores = z @ self.weight.T + self.bias
        return scores if self.is_number else scores.softmax(1)


def reader(model: nn.Module, layer: Layer, traced: Trace) -> Callable[[Tensor], Tensor]:
    """A function from the network's input to the output of a layer.

    What comes after it runs too: a pass that ends early cannot be followed into a graph, from which the
    rest is taken out afterwards.
    """
    fired = traced.at(layer.module)
    module = model.get_submodule(fired.module)

    def read(x: Tensor) -> Tensor:
        left = [fired.calls]
        outputs: list[Tensor] = []

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            left[0] -= 1
            tensor = part_of(output, fired.part)
            if not left[0] and tensor is not None:
                outputs.append(tensor.clone())  # before a ReLU works in place

        handle = module.register_forward_hook(hook)
        try:
            model(x)
        finally:
            handle.remove()
        return outputs[0]

    return read


def pooler(pooled: Pooled) -> Callable[[Tensor], Tensor]:
    """As `pool.apply`, in operations that every graph has: an adaptive average is two products."""
    output, grid = pooled.layer.output, pooled.grid
    last = output.kind == "map channels last"
    if output.kind == "tokens" and pooled.pool != "none" and grid in (None, 1):
        return lambda x: pooling.apply(x, pooled)
    if output.kind == "tokens" and pooled.pool != "none":
        assert output.grid is not None
        assert grid is not None
        sides, prefix = output.grid, output.prefix

        def of_tokens(x: Tensor) -> Tensor:
            patches = x[:, prefix:].transpose(1, 2)
            return _averaged(patches.reshape(-1, x.shape[2], *sides), sides, grid)

        return of_tokens
    if grid is None:
        return lambda x: (x.permute(0, 3, 1, 2) if last else x).flatten(1)
    if pooled.pool == "max":
        return lambda x: (x.permute(0, 3, 1, 2) if last else x).amax((2, 3))
    _, height, width = pooled.layer.shape
    return lambda x: _averaged(x.permute(0, 3, 1, 2) if last else x, (height, width), grid)


def _averaged(x: Tensor, sides: tuple[int, int], grid: int) -> Tensor:
    """Maps `(n, c, h, w)` averaged to `(n, c * grid * grid)`, as `adaptive_avg_pool2d` does."""
    if grid == 1:
        return x.mean((2, 3))
    rows, columns = (_shares(side, grid).to(x.device) for side in sides)
    return (rows @ x @ columns.T).flatten(1)


def _shares(side: int, grid: int) -> Tensor:
    """What every pixel counts in every cell, `(grid, side)`; cells may overlap."""
    shares = torch.zeros(grid, side)
    for cell in range(grid):
        start, stop = cell * side // grid, -(-(cell + 1) * side // grid)
        shares[cell, start:stop] = 1 / (stop - start)
    return shares


def needed_tensors(model: nn.Module, layer: Layer, traced: Trace, wanted: Input) -> frozenset[str]:
    """The names of the tensors that the network reads up to a layer."""
    fired = traced.at(layer.module)
    return read_up_to(model, {fired.module: fired.calls}, wanted.shape)


def program_of(chain: Chain, wanted: Input, name: str) -> Any:
    """The chain as PyTorch's exported program, for any number of images.

    Raises:
        InputError: PyTorch cannot follow the network.
    """
    pixels = torch.zeros(2, 3, *wanted.size, dtype=torch.uint8)
    sizes = ({0: torch.export.Dim("n", min=1)},)
    try:
        with torch.no_grad():
            whole = torch.export.export(chain, (pixels,), dynamic_shapes=sizes, strict=False)
            short = _without_the_rest(whole.run_decompositions({}).module(check_guards=False))
            return torch.export.export(short, (pixels,), dynamic_shapes=sizes, strict=False)
    except Exception as error:  # a network can fail in any way
        why = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise InputError(
            f"{name}: its network cannot be written as one graph ({why}); export --format probe."
        ) from error


def _without_the_rest(graph: Any) -> nn.Module:
    """The graph without operations and tensors that its output does not need."""
    graph.graph.eliminate_dead_code()
    used = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name in [n for n, _ in (*graph.named_parameters(), *graph.named_buffers())]:
        if name not in used:
            owner, _, own = name.rpartition(".")
            delattr(graph.get_submodule(owner), own)
    graph.recompile()
    made: nn.Module = graph
    return made

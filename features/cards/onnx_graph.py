"""The graph of an ONNX file: its tensors, their depth and kind, and the default layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from features.cards.layer_names import layer_name
from features.cards.outputs import Output, Shape
from features.cards.trace import Fired, Trace

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "ConvInteger"}
_WEIGHTED |= {"QLinearMatMul", "MatMulInteger", "LSTM", "GRU", "RNN"}
_POOLS = {"AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "ReduceMean"}
_CHANNELS_FIRST = _POOLS - {"ReduceMean"} | {"Conv", "ConvTranspose", "BatchNormalization", "LRN"}
_CHANNELS_FIRST |= {"InstanceNormalization", "GlobalLpPool", "DepthToSpace", "SpaceToDepth"}
_SILENT = {"Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape"}
_FIRST, _LAST = "map", "map channels last"
_TURNS = {(_FIRST, (0, 2, 3, 1)): _LAST, (_LAST, (0, 3, 1, 2)): _FIRST}


@dataclass(frozen=True)
class Graph:
    """The nodes of a file and the tensors that depend on the image, which are its layers."""

    proto: Any
    """The `onnx.GraphProto`."""
    image: str
    """The name of the input for images."""

    @cached_property
    def sources(self) -> dict[str, str]:
        """The file's name by layer name of every tensor that depends on the image, in order.

        A layer's name has `.` where the file has `/` and `:`, and ends in `_` where it would have another
        meaning.
        """
        reached = {self.image}
        named: dict[str, str] = {}
        for node in self.proto.node:
            if not reached.intersection(inputs_of(node)):
                continue
            for source in filter(None, node.output):
                reached.add(source)
                name = layer_name(source.replace("/", ".").replace(":", ".").strip(".") or "tensor")
                while name in named:
                    name += "_"
                named[name] = source
        return named

    @cached_property
    def makers(self) -> dict[str, Any]:
        """The node that computes each tensor, by the file's names."""
        return {source: node for node in self.proto.node for source in node.output}

    def inside(self, node: Any) -> list[str]:
        """The inputs of a node that depend on the image."""
        return [source for source in inputs_of(node) if source in self._reached]

    @cached_property
    def _reached(self) -> frozenset[str]:
        return frozenset({self.image, *self.sources.values()})

    @cached_property
    def _constants(self) -> dict[str, int]:
        """The number of values of each tensor of weights."""
        return {tensor.name: prod(tensor.dims) for tensor in self.proto.initializer}

    def passes(self, node: Any) -> bool:
        """Whether a node passes its input on: in another shape or type, or multiplied by a number."""
        scaled = node.op_type in ("Mul", "Div") and self._constants.get(node.input[1]) == 1
        return node.op_type in _SILENT or scaled

    def up_to(self, wanted: Sequence[str]) -> tuple[list[Any], set[str]]:
        """The nodes that compute some tensors, in order, and the names of all inputs of these nodes."""
        needed = set(wanted)
        nodes = []
        for node in reversed(self.proto.node):
            if needed.intersection(node.output):
                nodes.append(node)
                needed.update(inputs_of(node))
        return nodes[::-1], needed


def inputs_of(node: Any) -> Iterator[str]:
    """The tensors that a node reads, including those of graphs inside it."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from inputs_of(inner)


def traced(graph: Graph, shapes: Mapping[str, Shape]) -> Trace:
    """The trace of a graph, like that of modules in features/cards/trace.py.

    A product of two tensors of different sizes keeps the depth of the larger, as with a gate
    (squeeze-excite); a product of two activations (attention) has no weights of its own.

    Args:
        graph: The graph.
        shapes: The shape of one image's tensor by layer name, of those that were computed.
    """
    depth = {graph.image: 0}
    sizes = {graph.sources[name]: prod(shape) for name, shape in shapes.items()}
    last: dict[str, str | None] = {graph.image: None}
    names = {source: name for name, source in graph.sources.items()}
    fired: dict[str, Fired] = {}
    weighted: str | None = None
    for node in graph.proto.node:
        read = graph.inside(node)
        if not read:
            continue
        if node.op_type == "Mul" and len(read) == 2:
            largest = max(sizes.get(source, 0) for source in read)
            below = max(depth[s] for s in read if sizes.get(s, 0) == largest)
        else:
            below = max(depth[source] for source in read)
        own = node.op_type in _WEIGHTED and len(set(read)) == 1
        for source in filter(None, node.output):
            depth[source] = below + own
            if own:
                weighted = names[source]
            last[source] = weighted
            if (name := names[source]) in shapes:
                place = len(fired)
                leaf = not graph.passes(node)
                fired[name] = Fired(
                    name, shapes[name], depth[source], 1, place + 1, leaf, weighted, place
                )
    ends = [depth[output.name] for output in graph.proto.output if output.name in depth]
    return Trace(fired, max(ends, default=0))


def kinds(graph: Graph, shapes: Mapping[str, Shape]) -> dict[str, Output]:
    """The kind of tensor by layer name, where the operations show it: maps, and what follows them.

    The result of an operation on maps alone, such as a sum or a ReLU, with as many axes is a map too.
    """
    known: dict[str, str] = {}
    for name, source in graph.sources.items():
        node, shape = graph.makers[source], shapes.get(name, ())
        if len(shape) != 3:
            continue
        read = {known.get(before) for before in graph.inside(node) if before in known}
        if node.op_type in _CHANNELS_FIRST:
            known[source] = _FIRST
        elif node.op_type == "Transpose" and len(read) == 1:
            turn = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())
            if (turned := _TURNS.get((next(iter(read)) or "", turn))) is not None:
                known[source] = turned
        elif len(read) == 1 and node.op_type not in {"Reshape", "Einsum", "MatMul", "Gather"}:
            known[source] = next(iter(read)) or ""
    return {
        name: Output(known[source] if sum(side > 1 for side in shapes[name]) > 1 else "vector")
        for name, source in graph.sources.items()
        if source in known
    }


def default_layers(graph: Graph, trace: Trace, outputs: Mapping[str, Output]) -> list[str]:
    """The end of each stage or block, the last pool, the embedding and the output, in order.

    A stage ends with the last map of its size, a block of tokens with the sum after its perceptron.
    """
    order = [name for name, fired in trace.fired.items() if name in outputs and fired.leaf]
    stages: dict[tuple[int, ...], str] = {}
    for name in order:
        shape = outputs[name].shape(trace.fired[name].shape)
        if outputs[name].kind.startswith("map"):
            stages[shape[1:]] = name
    padded = _padded(graph, trace)
    stages = {size: name for size, name in stages.items() if name not in padded}
    chosen = {*stages.values(), *_blocks(graph, trace, outputs)}
    flat = [name for name in order if outputs[name].kind == "vector"]
    pools = [n for n in order if graph.makers[graph.sources[n]].op_type in _POOLS]
    chosen.update(pools[-1:])
    names = {source: name for name, source in graph.sources.items()}
    ends = [names[output.name] for output in graph.proto.output if output.name in names]
    chosen.update(name for name in ends if name in flat)
    weights = [n for n in flat if trace.fired[n].weight_module == n]
    if weights:
        read = graph.inside(graph.makers[graph.sources[weights[-1]]])
        embedding = _before_passing(graph, read[0]) if read else ""
        if names.get(embedding) in flat:
            chosen.add(names[embedding])
    return [name for name in order if name in chosen] or order[-1:]


def _before_passing(graph: Graph, source: str) -> str:
    """The tensor from which another one differs only by its shape or a factor."""
    while (node := graph.makers.get(source)) is not None and graph.passes(node):
        source = node.input[0]
    return source


def _padded(graph: Graph, trace: Trace) -> set[str]:
    """Maps whose size is changed again by padding, as on a shortcut that rounds it down."""
    names = {source: name for name, source in graph.sources.items()}
    padded = set()
    for name, fired in trace.fired.items():
        for before in graph.inside(graph.makers[graph.sources[name]]):
            read = trace.fired.get(names.get(before, ""))
            if read is not None and len(read.shape) == len(fired.shape) == 3:
                grown = zip(read.shape[1:], fired.shape[1:], strict=True)
                if all(side < larger < 2 * side for side, larger in grown):
                    padded.add(read.module)
    return padded


def _blocks(graph: Graph, trace: Trace, outputs: Mapping[str, Output]) -> Collection[str]:
    """The sums of two tensors of tokens, except those right after an attention."""
    sums, attended = [], False
    for name, source in graph.sources.items():
        node = graph.makers[source]
        attended |= node.op_type in ("Softmax", "Attention", "MultiHeadAttention")
        if node.op_type != "Add" or name not in outputs or outputs[name].kind != "tokens":
            continue
        shapes = [trace.fired[n].shape for n, s in graph.sources.items() if s in graph.inside(node)]
        if len(shapes) == 2 and shapes[0] == shapes[1] and name in trace.fired:
            if not attended:
                sums.append(name)
            attended = False
    return sums

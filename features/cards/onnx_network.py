"""A network in an ONNX file, run by onnxruntime: `onnx:FILE`. Its tensors are its modules.

It is frozen: its weights are in the file, and it is never trained. Only the operations run that tensors
with a hook need.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from features.cards import onnx_graph
from features.cards.onnx_graph import Graph
from features.cards.outputs import CLASS_TOKEN, Output, Shape
from features.cards.trace import Trace
from features.errors import InputError
from features.machine.regular_files import MOST_BYTES, open_regular

_CHANNELS = (1, 3, 4)


class Tap(nn.Module):
    """A module through which a tensor of the graph passes, so that hooks can read it."""

    def __init__(self, operation: str) -> None:
        """`operation` is the type of the node that computes the tensor."""
        super().__init__()
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        """The tensor itself."""
        return x


class OnnxNetwork(nn.Module):
    """The network in a file; it takes `(n, c, h, w)` float32, and its tensors are read from its taps."""

    def __init__(self, file: Path) -> None:
        """Read the file.

        Raises:
            InputError: It is no ONNX file, or its input is not images.
        """
        super().__init__()
        self.file = file
        self._onnx, self._runtime = _imported("onnx"), _imported("onnxruntime")
        self._model = _read(self._onnx, file)
        weights = {tensor.name for tensor in self._model.graph.initializer}
        inputs = [value for value in self._model.graph.input if value.name not in weights]
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs) or "none"
            raise InputError(
                f"{file}: takes {len(inputs)} inputs ({names}) instead of images alone; export the part of "
                "the network that takes only images."
            )
        self.graph = Graph(self._model.graph, inputs[0].name)
        self._read_input(inputs[0])
        self.has_class_token = any(CLASS_TOKEN.search(name) for name in weights)
        self.weight_count = sum(prod(tensor.dims) for tensor in self._model.graph.initializer)
        """The number of weights."""
        self._taps = {
            name: Tap(self.graph.makers[source].op_type)
            for name, source in self.graph.sources.items()
        }
        self._sessions: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()

    def _read_input(self, value: Any) -> None:
        kind = value.type.tensor_type
        sides = [dim.dim_value for dim in kind.shape.dim]
        if len(sides) != 4:
            raise InputError(
                f"{self.file}: its input {value.name} has {len(sides)} axes, and images have four (batch, "
                "channels, height, width); export the network for images."
            )
        names = self._onnx.TensorProto.DataType.Name(kind.elem_type)
        types = {"FLOAT": np.float32, "FLOAT16": np.float16, "DOUBLE": np.float64}
        if names not in types:
            raise InputError(
                f"{self.file}: its input {value.name} is {names.lower()}, and normalised images are "
                "floating point; export it without the step that normalises."
            )
        self._type = types[names]
        self._last = sides[3] in _CHANNELS and sides[1] not in _CHANNELS
        if sides[0] > 1:
            raise InputError(
                f"{self.file}: takes batches of exactly {sides[0]} images; export it with a batch that may "
                "vary, or of 1."
            )
        self.alone = sides[0] == 1
        """Whether the file takes one image at a time."""
        height, width = sides[1:3] if self._last else sides[2:]
        self.size = (height, width) if height and width else None
        """Height and width of the input, where they are fixed."""
        self.channels = (sides[3] if self._last else sides[1]) or None
        """The number of channels of the input, where it is fixed."""

    def named_modules(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Module]]:
        """The network itself without a name, and every tensor with the name of its layer."""
        yield "", self
        yield from self._taps.items()

    def forward(self, x: Tensor) -> None:
        """Run every tap that has a hook on its tensor, in the order of the graph.

        Raises:
            InputError: The file cannot be run on these images, or not on this device or in this precision.
        """
        wanted = tuple(name for name, tap in self._taps.items() if tap._forward_hooks)
        if not wanted:
            return
        if x.dtype != torch.float32:
            raise InputError(
                f"{self.file}: computes in the precision that its file has; leave --precision out."
            )
        session = self._session(wanted, x.device)
        for name, tensor in zip(wanted, self._run(session, wanted, x), strict=True):
            self._taps[name](tensor.to(x.device))

    def _run(self, session: Any, wanted: tuple[str, ...], x: Tensor) -> Iterator[Tensor]:
        images = x.detach().cpu().numpy().astype(self._type)
        if self._last:
            images = images.transpose(0, 2, 3, 1)
        sources = [self.graph.sources[name] for name in wanted]
        batches = np.split(images, len(images)) if self.alone else [images]
        try:
            runs = [
                session.run(sources, {self.graph.image: np.ascontiguousarray(batch)})
                for batch in batches
            ]
        except Exception as error:  # onnxruntime has no common class of its own
            raise self._failed(error) from error
        for number in range(len(wanted)):
            parts = [torch.from_numpy(np.atleast_1d(np.asarray(run[number]))) for run in runs]
            made = torch.cat(parts) if len(parts) > 1 else parts[0]
            yield made.float() if made.is_floating_point() else made

    def _session(self, wanted: tuple[str, ...], device: torch.device) -> Any:
        key = (str(device), *wanted)
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = self._made(wanted, device)
            return self._sessions[key]

    def _made(self, wanted: tuple[str, ...], device: torch.device) -> Any:
        provider = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
        if provider not in self._runtime.get_available_providers():
            raise InputError(
                f"{self.file}: the onnxruntime here computes on the processor alone; use --device cpu, or "
                "install onnxruntime-gpu instead."
            )
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        providers = [(provider, {"device_id": device.index or 0} if device.type == "cuda" else {})]
        try:
            part = self._part([self.graph.sources[name] for name in wanted]).SerializeToString()
            return self._runtime.InferenceSession(part, options, providers=providers)
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> InputError:
        return InputError(
            f"{self.file}: onnxruntime cannot run it ({_first_line(error)}); correct size under [input], "
            "or export the network again with standard operations."
        )

    def _part(self, wanted: list[str]) -> Any:
        """The model up to the wanted tensors, which become its outputs."""
        nodes, needed = self.graph.up_to(wanted)
        model = self._model
        part = self._onnx.ModelProto(ir_version=model.ir_version)
        part.opset_import.extend(model.opset_import)
        part.functions.extend(model.functions)
        part.graph.name = model.graph.name or "part"
        part.graph.node.extend(nodes)
        part.graph.input.extend(v for v in model.graph.input if v.name in needed)
        part.graph.initializer.extend(t for t in model.graph.initializer if t.name in needed)
        part.graph.sparse_initializer.extend(model.graph.sparse_initializer)
        part.graph.output.extend(self._onnx.ValueInfoProto(name=name) for name in wanted)
        return part

    def trace(self, shape: tuple[int, int, int]) -> Trace:
        """The trace of the graph for one image of `shape` (channels, height, width).

        Raises:
            InputError: The file takes images of another size, or with other channels.
        """
        size = shape[1:]
        if self.channels not in (None, shape[0]):
            raise InputError(
                f"{self.file}: the number of channels that it takes is {self.channels}, not {shape[0]}; "
                "correct channel_order (grey, rgb, rgba) under [input]."
            )
        if self.size is not None and self.size != size:
            raise InputError(
                f"{self.file}: takes images of {self.size[0]} x {self.size[1]}, not {size[0]} x {size[1]}; "
                "correct size under [input]."
            )
        return onnx_graph.traced(self.graph, self.shapes(shape))

    def shapes(self, shape: tuple[int, int, int]) -> dict[str, Shape]:
        """The shape of one image's tensor by layer name."""
        wanted = tuple(self._taps)
        x = torch.zeros(1, *shape, device="cpu")
        session = self._session(wanted, x.device)
        made = zip(wanted, self._run(session, wanted, x), strict=True)
        return {name: tuple(tensor.shape[1:]) for name, tensor in made}

    def known_outputs(self, trace: Trace) -> dict[str, Output]:
        """The kind of tensor by layer name, where the operations of the graph show it."""
        shapes = {name: fired.shape for name, fired in trace.fired.items()}
        return onnx_graph.kinds(self.graph, shapes)

    def default(self, trace: Trace, outputs: dict[str, Output]) -> list[str]:
        """The layers that are read by default."""
        return onnx_graph.default_layers(self.graph, trace, outputs)


def files_of(file: Path) -> list[Path]:
    """An ONNX file, followed by the files of its tensors, if these are outside it."""
    onnx = _imported("onnx")
    helper = importlib.import_module("onnx.external_data_helper")
    names: dict[str, None] = {}
    for tensor in _read(onnx, file, whole=False).graph.initializer:
        if helper.uses_external_data(tensor):
            names[helper.ExternalDataInfo(tensor).location] = None
    return [file, *(file.parent / name for name in names)]


def digest_of(file: Path) -> str:
    """The SHA-256 of a file, or, if its tensors are outside it, of the list of the files' SHA-256."""
    files = files_of(file)
    digests = []
    for path in files:
        with open_regular(path) as opened:
            digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
    if len(files) == 1:
        return digests[0]
    listed = "".join(f"{d}  {path.name}\n" for d, path in zip(digests, files, strict=True))
    return hashlib.sha256(listed.encode()).hexdigest()


def _read(onnx: Any, file: Path, *, whole: bool = True) -> Any:
    if not file.is_file():
        raise InputError(f"{file}: there is no such ONNX file; check the path.")
    if file.stat().st_size > MOST_BYTES:
        raise InputError(
            f"{file}: is larger than 2 GB, which no ONNX file can be; export it with its tensors beside it."
        )
    try:
        model = onnx.load(file, load_external_data=whole)
    except (
        Exception
    ) as error:  # protobuf, the file system, checks of external data: each its own class
        raise InputError(
            f"{file}: not a complete ONNX file ({_first_line(error)}); export or fetch it again, with the "
            "files of its tensors beside it."
        ) from error
    if not model.graph.node:
        raise InputError(f"{file}: not an ONNX file; give one that holds a network.")
    return model


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name} is not installed; pip install 'transfer-probe[onnx]' brings it."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (
        f"{type(error).__name__}: {lines[0][:160].rstrip('. ')}" if lines else type(error).__name__
    )

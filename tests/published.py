"""One small network's weights, written in every published format by code that is not the readers'.

The network is as small as can be while everything still matters: a grouped convolution, maps that are
not square where they are flattened, two fully connected layers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from safetensors.torch import save_file
from scipy.io import savemat
from torch import Tensor
from torch.nn import functional as F

NETWORK = """
from collections import OrderedDict

from torch import nn


def build():
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
                nn.Conv2d(4, 6, 3, padding=1, groups=2),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(
                nn.Linear(6 * 4 * 3, 5), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(5, 4)
            ),
        )
    )
"""

CARD = """name = "mini"
domain = "toys"
network = "./mini.py:build"
licence = "for tests only"

[input]
size = [16, 12]
channel_order = "rgb"
scale = 255.0
mean = [100.0, 110.0, 125.0]

[layers]
conv1 = "features.1"
pool1 = "features.2"
conv2 = "features.4"
pool2 = "features.5"
fc3 = "classifier.1"
fc4 = "classifier.3"
"""
MAP = (6, 4, 3)
MODULES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "fc3": "classifier.0",
    "fc4": "classifier.3",
}
Weights = dict[str, Tensor]


def write_card(folder: Path, *entries: str) -> Path:
    """The card of the network, with `entries` as the bodies of its [[weights]] tables."""
    (folder / "mini.py").write_text(NETWORK)
    card = folder / "mini.toml"
    card.write_text(CARD + "".join(f"\n[[weights]]\n{entry}\n" for entry in entries))
    return card


def weights(seed: int = 0) -> Weights:
    """Known tensors by layer, for RGB and columns in the order channels, height, width."""
    rng = torch.Generator().manual_seed(seed)
    shapes = {"conv1": (4, 3, 3, 3), "conv2": (6, 2, 3, 3), "fc3": (5, 72), "fc4": (4, 5)}
    found = {}
    for layer, shape in shapes.items():
        found[f"{layer}.weight"] = torch.randn(shape, generator=rng) / 4
        found[f"{layer}.bias"] = torch.randn(shape[:1], generator=rng)
    return found


def activations(w: Weights, pixels: np.ndarray[Any, Any]) -> dict[str, Tensor]:
    """What the layers give for an RGB image `(16, 12, 3)`, from the tensors alone."""
    x = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    x = x - torch.tensor([100.0, 110.0, 125.0]).view(1, 3, 1, 1)
    seen = {}
    seen["conv1"] = F.conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=1).relu()
    seen["pool1"] = F.max_pool2d(seen["conv1"], 2)
    conv2 = F.conv2d(seen["pool1"], w["conv2.weight"], w["conv2.bias"], padding=1, groups=2)
    seen["conv2"] = conv2.relu()
    seen["pool2"] = F.max_pool2d(seen["conv2"], 2)
    seen["fc3"] = (seen["pool2"].flatten(1) @ w["fc3.weight"].T + w["fc3.bias"]).relu()
    seen["fc4"] = seen["fc3"] @ w["fc4.weight"].T + w["fc4.bias"]
    return seen


def bgr(w: Weights) -> Weights:
    """The same network for images whose channels are the other way round."""
    return {**w, "conv1.weight": w["conv1.weight"].flip(1)}


def by_module(w: Weights) -> Weights:
    """Under the names of the modules."""
    return {f"{MODULES[n.split('.')[0]]}.{n.split('.')[1]}": t.clone() for n, t in w.items()}


def hwio(tensor: Tensor, fc_map: tuple[int, int, int] | None = None) -> np.ndarray[Any, Any]:
    """Filters as (height, width, in, out); a matrix becomes filters over `fc_map` or 1 x 1."""
    array = tensor.numpy()
    if array.ndim == 2:
        array = array.reshape(len(array), *(fc_map or (array.shape[1], 1, 1)))
    return np.ascontiguousarray(np.einsum("oihw->hwio", array))


def last(matrix: Tensor) -> np.ndarray[Any, Any]:
    """A matrix (in, out) whose rows run through the map with its channels last."""
    apart = matrix.numpy().reshape(-1, *MAP)
    return np.ascontiguousarray(np.einsum("ochw->hwco", apart).reshape(72, -1))


def cell(items: list[Any]) -> np.ndarray[Any, Any]:
    """A MATLAB cell array."""
    found = np.empty((1, len(items)), dtype=object)
    for number, item in enumerate(items):
        found[0, number] = item
    return found


def matconvnet_filters(w: Weights) -> dict[str, np.ndarray[Any, Any]]:
    """The filters of each layer as MatConvNet has them."""
    maps = {"fc3": MAP}
    return {
        n.split(".")[0]: hwio(t, maps.get(n.split(".")[0])) for n, t in w.items() if "weight" in n
    }


def simplenn(path: Path, w: Weights, old: bool = False, wrapped: bool = False) -> None:
    """MatConvNet's SimpleNN; `old` files have fields `filters` and `biases`."""
    layers: list[Any] = []
    for name, filters in matconvnet_filters(w).items():
        bias = w[f"{name}.bias"].numpy().reshape(1, -1)
        held = {"filters": filters, "biases": bias} if old else {"weights": cell([filters, bias])}
        layers.append({"type": "conv", "name": name, "pad": [1.0, 1, 1, 1], **held})
        layers.append({"type": "relu", "name": f"relu_{name}"})
    net = {"layers": cell(layers), "meta": {"normalization": {"averageImage": np.zeros((2, 2, 3))}}}
    savemat(path, {"net": net} if wrapped else net, do_compression=wrapped)


def dagnn(path: Path, w: Weights) -> None:
    """MatConvNet's DagNN: parameters apart, layers that name theirs."""
    params, layers = [], []
    for name, filters in matconvnet_filters(w).items():
        params.append((f"{name}f", filters, 1.0))
        params.append((f"{name}b", w[f"{name}.bias"].numpy().reshape(-1, 1), 2.0))
        layers.append((name, "dagnn.Conv", cell([f"{name}f", f"{name}b"])))
        layers.append((f"relu_{name}", "dagnn.ReLU", np.zeros((0, 0))))
    kinds = [("name", object), ("value", object), ("learningRate", object)]
    savemat(
        path,
        {
            "params": np.array([tuple(params[i]) for i in range(len(params))], dtype=kinds)[None],
            "layers": np.array(layers, dtype=[(n, object) for n in ("name", "type", "params")])[
                None
            ],
        },
    )


def matlab73(path: Path, w: Weights) -> None:
    """SimpleNN in a file of version 7.3: HDF5 behind a MATLAB header, everything transposed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        numbers = count()

        def put(value: Any) -> Any:
            where = f"#refs#/{next(numbers)}"
            if isinstance(value, dict):
                group = file.create_group(where)
                group.attrs["MATLAB_class"] = np.bytes_("struct")
                for key, inner in value.items():
                    group[key] = file[put(inner)]
            elif isinstance(value, list):
                inside = [put(inner) for inner in value]
                made = file.create_dataset(where, (len(inside), 1), h5py.ref_dtype)
                made[:, 0] = inside
                made.attrs["MATLAB_class"] = np.bytes_("cell")
            elif isinstance(value, str):
                codes = np.frombuffer(value.encode("utf-16-le"), np.uint16)
                file.create_dataset(where, data=codes[:, None]).attrs["MATLAB_class"] = np.bytes_(
                    "char"
                )
            else:
                made = file.create_dataset(where, data=value.T)
                made.attrs["MATLAB_class"] = np.bytes_("single")
            return file[where].ref

        layers: list[Any] = []
        for name, filters in matconvnet_filters(w).items():
            bias = w[f"{name}.bias"].numpy().reshape(1, -1)
            layers.append({"type": "conv", "name": name, "weights": [filters, bias]})
            layers.append({"type": "relu", "name": f"relu_{name}"})
        file["layers"] = file[put(layers)]
    with path.open("r+b") as raw:
        text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 ."
        raw.write(text.ljust(116) + bytes(8) + struct.pack("<H", 0x0200) + b"IM")


def keras_arrays(w: Weights, chw: bool = False) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Kernel and bias of each layer as Keras has them."""
    found: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for name in ("conv1", "conv2", "fc3", "fc4"):
        weight = w[f"{name}.weight"]
        kernel = hwio(weight) if weight.dim() == 4 else weight.numpy().T
        if name == "fc3" and not chw:
            kernel = last(weight)
        found[name] = {"kernel": kernel, "bias": w[f"{name}.bias"].numpy()}
    return found


def keras(
    path: Path,
    w: Weights,
    *,
    root: str = "",
    names: Mapping[str, str] | None = None,
    nested: bool = False,
    chw: bool = False,
) -> None:
    """Keras's layout: a group for each layer, with the names of its weights as an attribute."""
    with h5py.File(path, "w") as file:
        top = file.create_group(root) if root else file
        arrays = {(names or {}).get(n, n): a for n, a in keras_arrays(w, chw).items()}
        if nested:
            top.attrs["layer_names"] = np.array([b"input_1", b"inner"])
            top.create_group("input_1").attrs["weight_names"] = np.array([], dtype="S1")
            group = top.create_group("inner")
            listed = [f"{name}/{part}:0" for name, parts in arrays.items() for part in parts]
            group.attrs["weight_names"] = np.array(listed, dtype="S")
            for name, parts in arrays.items():
                for part, array in parts.items():
                    group[f"{name}/{part}:0"] = array
            return
        top.attrs["layer_names"] = np.array([name.encode() for name in [*arrays, "activation"]])
        top.create_group("activation").attrs["weight_names"] = np.array([], dtype="S1")
        for name, parts in arrays.items():
            group = top.create_group(name)
            group.attrs["weight_names"] = np.array([f"{name}/{p}:0".encode() for p in parts])
            for part, array in parts.items():
                group[f"{name}/{part}:0"] = array


def keras_numbered(path: Path, w: Weights) -> None:
    """Keras 3's own layout, in which weights have numbers only."""
    with h5py.File(path, "w") as file:
        for name, parts in keras_arrays(w).items():
            for number, array in enumerate(parts.values()):
                file[f"layers/{name}/vars/{number}"] = array
        file["optimizer/vars/0"] = np.zeros(3)


def caffe(path: Path, w: Weights, old: bool = False) -> None:
    """A caffemodel, written by protobuf."""
    from features.caffe.schema import message

    net = message("NetParameter")()
    net.name = "mini"
    for name in ("conv1", "conv2", "fc3", "fc4"):
        layer = net.layers.add() if old else net.layer.add()
        layer.name = name
        layer.type = (
            (4 if name[0] == "c" else 14)
            if old
            else ("Convolution" if name[0] == "c" else "InnerProduct")
        )
        for part in ("weight", "bias"):
            tensor = w[f"{name}.{part}"]
            blob = layer.blobs.add()
            blob.data.extend(tensor.flatten().tolist())
            if old:
                sides = (1,) * (4 - tensor.dim()) + tuple(tensor.shape)
                blob.num, blob.channels, blob.height, blob.width = sides
            else:
                blob.shape.dim.extend(tensor.shape)
    path.write_bytes(net.SerializeToString())


class Lua:
    """Torch7's binary serialisation, object by object."""

    def __init__(self) -> None:
        self.bytes, self.count = b"", 0

    def put(self, value: Any) -> None:
        if isinstance(value, bool):
            self.bytes += struct.pack("<ii", 5, value)
        elif isinstance(value, int | float):
            self.bytes += struct.pack("<id", 1, value)
        elif isinstance(value, str):
            self.bytes += struct.pack("<i", 2) + self._text(value)
        elif isinstance(value, Tensor):
            self._object("torch.FloatTensor")
            self.bytes += struct.pack("<i", value.dim())
            for number in (*value.shape, *value.stride()):
                self.bytes += struct.pack("<q", number)
            self.bytes += struct.pack("<q", value.storage_offset() + 1)
            self._object("torch.FloatStorage")
            whole = value.as_strided((value.untyped_storage().nbytes() // 4,), (1,), 0)
            self.bytes += struct.pack("<q", len(whole)) + whole.numpy().astype("<f4").tobytes()
        elif isinstance(value, tuple):  # class and content
            self._object(value[0])
            self.put(value[1])
        else:
            items = list(enumerate(value, 1)) if isinstance(value, list) else list(value.items())
            self.count += 1
            self.bytes += struct.pack("<iii", 3, self.count, len(items))
            for key, inner in items:
                self.put(key)
                self.put(inner)

    def _object(self, kind: str) -> None:
        self.count += 1
        self.bytes += struct.pack("<ii", 4, self.count) + self._text("V 1") + self._text(kind)

    def _text(self, text: str) -> bytes:
        return struct.pack("<i", len(text)) + text.encode()


def torch7(path: Path, w: Weights, named: bool = False, matrices: bool = False) -> None:
    """A network of Torch7: modules in sequence, their tensors views of longer storages."""

    def module(kind: str, layer: str, **more: Any) -> tuple[str, dict[str, Any]]:
        weight, bias = w[f"{layer}.weight"], w[f"{layer}.bias"]
        if matrices and weight.dim() == 4:
            more |= {"nInputPlane": weight.shape[1], "kH": weight.shape[2], "kW": weight.shape[3]}
            weight = weight.flatten(1)
        shared = torch.cat([torch.zeros(3), weight.flatten(), torch.ones(2)])
        held = {
            "weight": shared[3 : 3 + weight.numel()].view(weight.shape),
            "bias": bias,
            "gradWeight": torch.zeros(0),
        }
        return f"nn.{kind}", {**held, "train": False, **({"name": layer} if named else {}), **more}

    convolution = "SpatialConvolutionMM" if matrices else "SpatialConvolution"
    sequence: list[Any] = [
        module(convolution, "conv1", padW=1, padH=1),
        ("nn.ReLU", {"inplace": True}),
        ("nn.SpatialMaxPooling", {"kW": 2, "kH": 2}),
        module(convolution, "conv2", padW=1, padH=1),
        ("nn.ReLU", {"inplace": True}),
        ("nn.SpatialMaxPooling", {"kW": 2, "kH": 2}),
        ("nn.View", {"numElements": 72}),
        (
            "nn.Sequential",
            {"modules": [module("Linear", "fc3"), ("nn.ReLU", {}), module("Linear", "fc4")]},
        ),
    ]
    lua = Lua()
    lua.put(("nn.Sequential", {"modules": sequence, "_type": "torch.FloatTensor"}))
    path.write_bytes(lua.bytes)


def npz_tensorflow(path: Path, w: Weights) -> None:
    """Names as `conv1_W` and arrays as TensorFlow has them."""
    short = {"kernel": "W", "bias": "b"}
    np.savez(
        path.with_suffix(".npz"),
        **{f"{n}_{short[p]}": a for n, parts in keras_arrays(w).items() for p, a in parts.items()},
    )
    path.with_suffix(".npz").rename(path)


def npz(path: Path, w: Weights) -> None:
    """Names and arrays as PyTorch has them."""
    np.savez_compressed(path.with_suffix(".npz"), **{n: t.numpy() for n, t in w.items()})
    path.with_suffix(".npz").rename(path)


def mean_image(kind: str, path: Path, image: np.ndarray[Any, Any]) -> None:
    if kind == "npy":
        np.save(path.with_suffix(".npy"), image)
        path.with_suffix(".npy").rename(path)
    elif kind == "mat":
        savemat(path, {"net": {"normalization": {"averageImage": image.transpose(1, 2, 0)}}})
    else:
        from features.caffe.schema import message

        blob = message("BlobProto")()
        blob.num, (blob.channels, blob.height, blob.width) = 1, image.shape
        blob.data.extend(image.ravel().tolist())
        path.write_bytes(blob.SerializeToString())


AUTOMATIC = {"conv1": "conv2d_9", "conv2": "conv2d_10", "fc3": "dense_1", "fc4": "dense_2"}
Writer = Callable[[Path, Weights], None]

# Every kind of file, by format and kind.
WRITERS: dict[str, Writer] = {
    "caffe new": caffe,
    "caffe old": lambda path, w: caffe(path, w, old=True),
    "matconvnet simplenn": simplenn,
    "matconvnet filters": lambda path, w: simplenn(path, w, old=True),
    "matconvnet compressed net": lambda path, w: simplenn(path, w, wrapped=True),
    "matconvnet dagnn": dagnn,
    "matconvnet 7.3": matlab73,
    "keras": keras,
    "keras model": lambda path, w: keras(path, w, root="model_weights"),
    "keras nested": lambda path, w: keras(path, w, root="model_weights", nested=True),
    "keras automatic names": lambda path, w: keras(path, w, names=AUTOMATIC),
    "keras numbered": keras_numbered,
    "torch7": torch7,
    "torch7 named": lambda path, w: torch7(path, w, named=True),
    "torch7 matrices": lambda path, w: torch7(path, w, matrices=True),
    "npz": npz,
    "npz tensorflow": npz_tensorflow,
    "pytorch": lambda path, w: torch.save({"state_dict": w}, path),
    "pytorch modules": lambda path, w: torch.save(by_module(w), path),
    "pytorch legacy": lambda path, w: torch.save(w, path, _use_new_zipfile_serialization=False),
    "safetensors": lambda path, w: save_file(w, path),
}

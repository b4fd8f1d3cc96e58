"""Golden activations: what the published networks give for one picture, run without this package.

OpenCV runs the networks from the prototxts written out in prototxts.py, NumPy prepares the picture as
the networks' publishers say, and the weights are drawn, since nobody's may be copied here. Nothing of
`features` is used. `python tests/golden.py` writes tests/kept/golden.json, which test_golden.py holds
the cards against.
"""

from __future__ import annotations

import json
import re
import struct
import sys
import tempfile
import tomllib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import prototxts

DATA = Path(__file__).parent / "kept" / "golden.json"
CARDS, SAMPLE = (Path(__file__).parents[1] / "features" / name for name in ("cards", "sample"))
VALUES = 16
Array = npt.NDArray[Any]


def photo() -> Array:
    """A picture 375 high and 500 wide, `(h, w, 3)` uint8 RGB, the same everywhere: integers alone."""
    y, x = np.mgrid[:375, :500].astype(np.int64)

    def wave(t: Array, period: int) -> Array:
        return np.abs(t % (2 * period) - period) * 255 // period

    red = wave(3 * x + y, 97) // 2 + wave(x - 2 * y, 41) // 3 + (x // 2 + y // 3) % 2 * 30
    green = wave(2 * y + x * x // 90, 61) // 2 + wave(5 * x + 3 * y, 13) // 4 + x // 9
    blue = wave(x * y // 120, 55) // 3 + wave(7 * y - x, 29) // 3 + (375 - y) // 7
    noise = ((x * 73856093) ^ (y * 19349663)) % 17
    return np.stack([red + noise, green + noise, blue], 2).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Prepared:
    """How a network's publishers prepare an image; means and deviations are in `order`."""

    crop: tuple[int, int]
    resize: tuple[int, int] | int
    order: str = "rgb"
    top: float = 1.0
    """What 255 becomes."""
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


_TORCHVISION = Prepared((224, 224), 256, "rgb", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_BVLC = Prepared((227, 227), (256, 256), "bgr", 255.0, (104.00698793, 116.66876762, 122.67891434))
_CAFFE = Prepared((224, 224), (256, 256), "bgr", 255.0, (104.0, 117.0, 123.0))
_VGGFACE2 = Prepared((224, 224), 256, "bgr", 255.0, (91.4953, 103.8827, 131.0912))
_SAMPLE = Prepared((96, 96), (96, 96), "rgb", 1.0, (0.5,) * 3, (0.25,) * 3)
PREPARED = {
    "alexnet": _TORCHVISION,
    "bvlc-alexnet": _BVLC,
    "caffenet": _BVLC,
    "control:pixels": Prepared((32, 32), (32, 32)),
    "control:tiny": Prepared((32, 32), (32, 32)),
    "gilnet": Prepared(
        (227, 227), (256, 256), "bgr", 255.0, (78.4263377603, 87.7689143744, 114.895847746)
    ),
    "googlenet-bvlc": _CAFFE,
    "mobilefacenet": Prepared((112, 96), (112, 112), "rgb", 255.0, (127.5,) * 3, (128.0,) * 3),
    "sample-faces": _SAMPLE,
    "sample-objects": _SAMPLE,
    "squeezenet1_0": _TORCHVISION,
    "squeezenet1_1": _TORCHVISION,
    "squeezenet1_1-caffe": _CAFFE,
    "vgg16": _TORCHVISION,
    "vggface": Prepared(
        (224, 224),
        (224, 224),
        "rgb",
        255.0,
        (129.186279296875, 104.76238250732422, 93.59396362304688),
    ),
    "vggface2-resnet50": _VGGFACE2,
    "vggface2-senet50": _VGGFACE2,
}
NETWORKS = {
    "alexnet": prototxts.torchvision_alexnet,
    "bvlc-alexnet": lambda: prototxts.alexnet("norm pool"),
    "caffenet": lambda: prototxts.alexnet("pool norm"),
    "gilnet": prototxts.gilnet,
    "googlenet-bvlc": prototxts.googlenet,
    "mobilefacenet": prototxts.mobilefacenet,
    "sample-faces": prototxts.small,
    "sample-objects": prototxts.small,
    "squeezenet1_0": lambda: prototxts.squeezenet("1.0"),
    "squeezenet1_1": lambda: prototxts.squeezenet("1.1"),
    "squeezenet1_1-caffe": lambda: prototxts.squeezenet("1.1"),
    "vgg16": lambda: prototxts.vgg16(1000),
    "vggface": lambda: prototxts.vgg16(2622),
    "vggface2-resnet50": lambda: prototxts.resnet(gated=False),
    "vggface2-senet50": lambda: prototxts.resnet(gated=True, axpy=False),
}


def prepared(picture: Array, how: Prepared) -> Array:
    """`(1, 3, h, w)` float32."""
    height, width = picture.shape[:2]
    if isinstance(how.resize, int):
        short = min(height, width)
        size = tuple(
            how.resize if side == short else int(how.resize * side / short)
            for side in (height, width)
        )
    else:
        size = how.resize
    small = _resampled(_resampled(picture, size[1], 1), size[0], 0)
    top, left = (round((a - b) / 2) for a, b in zip(size, how.crop, strict=True))
    cut = small[top : top + how.crop[0], left : left + how.crop[1]]
    channels = cut[:, :, ["rgb".index(channel) for channel in how.order]].astype(np.float64)
    found = (channels * how.top / 255 - np.array(how.mean)) / np.array(how.std)
    return found.transpose(2, 0, 1)[None].astype(np.float32)


def _resampled(picture: Array, out: int, axis: int) -> Array:
    """Along one axis, by a triangle as wide as a new pixel, in Pillow's fixed-point numbers."""
    length = picture.shape[axis]
    scale = length / out
    wide = max(scale, 1.0)
    moved = np.moveaxis(picture, axis, 0).astype(np.int64)
    rows = []
    for i in range(out):
        centre = (i + 0.5) * scale
        first, last = max(int(centre - wide + 0.5), 0), min(int(centre + wide + 0.5), length)
        weights = np.maximum(1 - np.abs((np.arange(first, last) - centre + 0.5) / wide), 0)
        fixed = (0.5 + weights / weights.sum() * (1 << 22)).astype(np.int64)
        total = np.tensordot(fixed, moved[first:last], 1) + (1 << 21)
        rows.append((total >> 22).clip(0, 255))
    return np.moveaxis(np.stack(rows), 0, axis).astype(np.uint8)


_FEW = 99_991
_UNIT = (np.random.PCG64(1610_00134).random_raw(_FEW) >> np.uint64(40)).astype(np.float64) / 2**23
_UNIT = (_UNIT - 1).astype(np.float32)  # -1 to 1; of a stream that NumPy promises not to change


def drawn(key: str, shape: tuple[int, ...]) -> Array:
    """Numbers from -1 to 1 that the key decides."""
    start, size = zlib.crc32(key.encode()) % _FEW, prod(shape)
    repeats = -(-(start + size) // _FEW)
    return np.tile(_UNIT, repeats)[start : start + size].reshape(shape)


@dataclass(frozen=True)
class Row:
    """One layer of a prototxt."""

    name: str
    kind: str
    bottoms: list[str]
    top: str
    numbers: Mapping[str, int]


def rows_of(text: str) -> Iterator[Row]:
    """The layers of a prototxt, one a line."""
    for line in text.strip().split("\n"):
        name, kind = re.findall(r'name: "(.*?)" type: "(.*?)"', line)[0]
        numbers = {key: int(value) for key, value in re.findall(r"(\w+): (\d+)\b", line)}
        if "bias_term: false" in line:
            numbers["bias"] = 0
        bottoms = re.findall(r'bottom: "(.*?)"', line)
        yield Row(name, kind, bottoms, re.findall(r'top: "(.*?)"', line)[0], numbers)


def blobs_of(text: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[Array]]:
    """Drawn blobs for every layer that has any; activations neither vanish nor grow.

    Args:
        text: The prototxt.
        shapes: `(channels, height, width)` or `(dim,)` of every blob.
    """
    found: dict[str, list[Array]] = {}
    for row in rows_of(text):
        below = shapes[row.bottoms[0]]
        if row.kind in ("Convolution", "InnerProduct"):
            out = row.numbers["num_output"]
            kernel = (
                row.numbers.get("kernel_h", row.numbers.get("kernel_size", 0)),
                row.numbers.get("kernel_w", row.numbers.get("kernel_size", 0)),
            )
            inside = (below[0] // row.numbers.get("group", 1), *kernel)
            inside = inside if row.kind == "Convolution" else (prod(below),)
            weight = drawn(f"{row.name} 0", (out, *inside)) * np.float32((6 / prod(inside)) ** 0.5)
            found[row.name] = [weight]
            if row.numbers.get("bias", 1):
                found[row.name].append(0.1 * drawn(f"{row.name} 1", (out,)))
            continue
        first, second = (drawn(f"{row.name} {i}", below[:1]) for i in range(2))
        if row.kind == "BatchNorm":
            found[row.name] = [0.3 * first, 1 + 0.5 * second, np.ones(1, np.float32)]
        elif row.kind == "Scale" and len(row.bottoms) == 1:
            found[row.name] = [0.8 + 0.2 * first, 0.1 * second]
        elif row.kind == "PReLU":
            found[row.name] = [0.25 + 0.1 * first]
    return found


def trained_blobs(file: Path) -> dict[str, list[Array]]:
    """The bundled weights of the sample's networks as blobs, read without a library."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    held = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, about in held.items():
        if name != "__metadata__" and about["dtype"] == "F32":
            start, end = (8 + length + offset for offset in about["data_offsets"])
            tensors[name] = np.frombuffer(data[start:end], "<f4").reshape(about["shape"])
    found: dict[str, list[Array]] = {}
    for name in dict.fromkeys(key.rpartition(".")[0] for key in tensors):
        part = {
            key.rpartition(".")[2]: t for key, t in tensors.items() if key.startswith(f"{name}.")
        }
        if "running_mean" in part:
            found[name] = [part["running_mean"], part["running_var"], np.ones(1, np.float32)]
            found[f"{name}/scale"] = [part["weight"], part["bias"]]
        else:
            found[name] = [part[key] for key in ("weight", "bias") if key in part]
    return found


def caffemodel(path: Path, text: str, blobs: Mapping[str, list[Array]]) -> None:
    """Write a caffemodel byte by byte."""
    with path.open("wb") as file:
        for row in rows_of(text):
            content = _field(1, row.name.encode()) + _field(2, row.kind.encode())
            for blob in blobs.get(row.name, []):
                shape = _field(1, b"".join(map(_varint, blob.shape)))
                numbers = np.ascontiguousarray(blob, "<f4").tobytes()
                content += _field(7, _field(7, shape) + _field(5, numbers))
            file.write(_field(100, content))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([byte | 128 for byte in low[:-1]] + low[-1:])


def layers_of(name: str) -> list[str]:
    """The names that a card gives its layers."""
    for card in CARDS.glob("*.toml"):
        held = tomllib.loads(card.read_text())
        if held["name"] == name:
            return list(held["layers"])
    raise LookupError(name)


def published(layer: str, text: str) -> str:
    """The blob of the prototxt that a card's layer is."""
    tops = {row.top for row in rows_of(text)}
    slashed = layer.replace(".", "/")
    spellings = (layer, slashed, f"{slashed}/concat", f"{slashed}/conv", f"{slashed}/conv/6")
    return next(spelling for spelling in spellings if spelling in tops)


def run(name: str) -> dict[str, Array]:
    """The activations of one network for the picture, by the layers of its card."""
    import cv2

    fed, layers = prepared(photo(), PREPARED[name]), layers_of(name)
    if name == "control:tiny":
        return {"tiny": tiny(fed[0].astype(np.float64))}
    if name not in NETWORKS:
        return {layer: fed[0].reshape(-1) for layer in layers}
    text = NETWORKS[name]()
    head = (
        f"input: 'data' input_shape {{ dim: 1 dim: 3 dim: {fed.shape[2]} dim: {fed.shape[3]} }}\n"
    )
    last = {row.top: row.name for row in rows_of(text)}  # in place, the last to write it
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "deploy.prototxt").write_text(head + text)
        files = [f"{folder}/deploy.prototxt", f"{folder}/net.caffemodel"]
        caffemodel(Path(files[1]), text, weights(name))
        net = cv2.dnn.readNetFromCaffe(*files)
    net.enableFusion(False)
    net.enableWinograd(False)
    net.setInput(fed)
    wanted = {layer: last[published(layer, text)] for layer in layers}
    given = net.forward(list(wanted.values()))
    return dict(zip(wanted, (array[0] for array in given), strict=True))


def tiny(image: Array) -> Array:
    """The trivial features of an image `(3, 32, 32)`."""
    grey = np.tensordot([0.299, 0.587, 0.114], image, 1)
    corner = grey[:-1, :-1]
    right, down = grey[:-1, 1:] - corner, grey[1:, :-1] - corner
    gradients = []
    for turn in np.arange(8) * np.pi / 4:
        towards = np.maximum(right * np.cos(turn) + down * np.sin(turn), 0)
        ends = [(i * 31 // 4, -(-(i + 1) * 31 // 4)) for i in range(4)]
        gradients += [towards[a:b, c:d].mean() for a, b in ends for c, d in ends]
    small = grey.reshape(8, 4, 8, 4).mean((1, 3)).ravel()
    return np.concatenate([small, image.mean((1, 2)), image.std((1, 2)), gradients])


def weights(name: str) -> dict[str, list[Array]]:
    """The blobs of a network by layer, as its caffemodel would have them."""
    if name.startswith("sample-"):
        return trained_blobs(SAMPLE / f"{name.removeprefix('sample-')}.safetensors")
    text = NETWORKS[name]()
    return blobs_of(text, shapes_of(text, PREPARED[name].crop))


def shapes_of(text: str, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """The shapes of all blobs; pools round up, as Caffe's do."""
    shapes: dict[str, tuple[int, ...]] = {"data": (3, *size)}
    for row in rows_of(text):
        below, number = shapes[row.bottoms[0]], row.numbers
        if row.kind == "Concat":
            shapes[row.top] = (sum(shapes[b][0] for b in row.bottoms), *below[1:])
        elif row.kind == "InnerProduct":
            shapes[row.top] = (number["num_output"],)
        elif row.kind == "Flatten":
            shapes[row.top] = (prod(below),)
        elif "global_pooling" in text.split(f'name: "{row.name}"')[1].split("\n")[0]:
            shapes[row.top] = (below[0], 1, 1)
        elif row.kind in ("Convolution", "Pooling"):
            sides = []
            for axis, side in zip("hw", below[1:], strict=True):
                kernel = number.get(f"kernel_{axis}", number.get("kernel_size", 0))
                room = side + 2 * number.get("pad", 0) - kernel
                stride = number.get("stride", 1)
                up = row.kind == "Pooling"
                sides.append((-(-room // stride) if up else room // stride) + 1)
            shapes[row.top] = (number.get("num_output", below[0]), *sides)
        else:
            shapes[row.top] = below
    return shapes


def golden(activations: Array) -> dict[str, Any]:
    """What is kept of a layer: its shape, its norm, and some values from all over it."""
    flat = activations.reshape(-1).astype(np.float64)
    shape = [activations.shape[0], *(side for side in activations.shape[1:] if side > 1)]
    values = flat[places(len(flat))]
    return {
        "shape": shape,
        "norm": float(f"{np.linalg.norm(flat):.6g}"),
        "values": [float(f"{value:.6g}") for value in values],
    }


def places(size: int) -> list[int]:
    """Where in a layer the values are taken."""
    inside = [(7919 * (i + 1) * 104_729) % size for i in range(VALUES - 2)]
    return [0, *inside, size - 1]


def main() -> None:
    """Write the golden values of all networks, or of those named."""
    held = json.loads(DATA.read_text()) if DATA.is_file() else {}
    for name in sys.argv[1:] or PREPARED:
        held[name] = {layer: golden(array) for layer, array in run(name).items()}
    DATA.write_text(_lines({name: held[name] for name in sorted(held)}))


def _lines(held: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON with a line for each layer."""
    cards = []
    for name, layers in held.items():
        rows = [f"  {json.dumps(layer)}: {json.dumps(about)}" for layer, about in layers.items()]
        cards.append(f" {json.dumps(name)}: {{\n" + ",\n".join(rows) + "\n }")
    return "{\n" + ",\n".join(cards) + "\n}\n"


if __name__ == "__main__":
    main()

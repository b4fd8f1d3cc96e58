"""An export as a graph of PyTorch (`pt2`) or ONNX, checked when written; it runs without this toolkit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from features.arrays import Floats
from features.backbone import Backbone
from features.cards.card import Input
from features.errors import InputError
from features.extraction.pool import Pooled
from features.images import preprocess
from features.images.decode import Unreadable, read_rgb
from features.machine.files import replacing
from probe.exported.exported_probe import ExportedProbe
from probe.exported.file import Contents
from probe.exported.graph import Chain, program_of

_ALIKE = 1e-4
"""By how much a probability of the graph may differ from that of the features."""
_ROUNDED = 1e-5
"""And a number besides, as a share of the largest; of it, `_ALIKE` is a share of the promised error."""
_TRIED = 8
"""Images that the graph is tried on."""

Run = Callable[[npt.NDArray[np.uint8]], Floats]


def write_graph(
    path: Path, kind: str, contents: Contents, backbone: Backbone, pooled: Pooled,
    images: Sequence[Path],
) -> float:  # fmt: skip
    """Write the chain from pixels to probabilities, and hold it to the features on some images.

    Args:
        path: The file.
        kind: `pt2` or `onnx`.
        contents: The export.
        backbone: Its network.
        pooled: The layer that the probe reads.
        images: Image files of the study.

    Returns:
        The largest difference of a probability, or of a number, on up to eight of the images.

    Raises:
        InputError: The network cannot be written as a graph, comes to other numbers there, or none of
            the images can be read.
    """
    wanted = backbone.architecture.input
    if wanted.channels != 3:
        raise InputError(
            f"{backbone.name}: reads {wanted.channels} channels, and a graph is written of networks that "
            "read colours; export --format probe."
        )
    pixels = _pixels(images, wanted)
    program = program_of(Chain(contents, backbone, pooled), wanted, backbone.name)
    about = json.dumps(_told(contents, wanted, path.name, kind))
    with replacing(path) as written:
        (_write_pt2 if kind == "pt2" else _write_onnx)(written, program, about)
        run = (_pt2 if kind == "pt2" else _onnx)(written)
        return _held_to_features(run, pixels, contents, backbone, pooled, path)


def _pixels(images: Sequence[Path], wanted: Input) -> npt.NDArray[np.uint8]:
    """Some images as the graph takes them, `(n, 3, h, w)`."""
    made = []
    for image in images:
        try:
            made.append(preprocess.to_pixels(read_rgb(image), wanted))
        except Unreadable:
            continue
        if len(made) == _TRIED:
            break
    if not made:
        raise InputError(
            f"{images[0] if images else 'the study'}: none of the study's images can be read, and a "
            "graph is not written without being tried on some; put them back."
        )
    return np.stack(made)


def _held_to_features(
    run: Run,
    pixels: npt.NDArray[np.uint8],
    contents: Contents,
    backbone: Backbone,
    pooled: Pooled,
    path: Path,
) -> float:
    """The largest difference from the features' path, on the images together and on the first alone."""
    probe = ExportedProbe(path, contents, device="cpu")
    probe.__dict__.update(network=backbone, pooled=pooled)  # which are loaded already
    made = probe.predict(list(pixels.transpose(0, 2, 3, 1)), resized=True)
    wanted = made.probabilities if made.values is None else made.values[:, None]
    apart = max(
        float(np.abs(run(pixels) - wanted).max()), float(np.abs(run(pixels[:1]) - wanted[:1]).max())
    )
    said, alike = "probabilities", _ALIKE
    if made.values is not None:  # what rounding makes of a large number is no fault of the graph
        largest = float(np.abs(wanted).max())
        said, alike = "values", _ALIKE * float(contents.about.promise["mae"]) + _ROUNDED * largest
    if not apart <= alike:
        raise InputError(
            f"{path}: the graph's {said} differ from those of the features by {apart:.2g}, so it "
            "is not written; export --format probe."
        )
    return apart


def _write_pt2(path: Path, program: Any, about: str) -> None:
    torch.export.save(program, path, extra_files={"probe.json": about})


def _pt2(path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda pixels: np.asarray(module(torch.from_numpy(pixels)).detach().numpy())


def _write_onnx(path: Path, program: Any, about: str) -> None:
    output = "value" if json.loads(about)["kind"] == "number" else "probabilities"
    onnx = _library("onnx")
    _library("onnxscript")
    made = torch.onnx.export(
        program, input_names=["pixels"], output_names=[output], dynamo=True, verbose=False,
        optimize=True,
    )  # fmt: skip
    assert made is not None
    model = made.model_proto
    model.metadata_props.add(key="probe.json", value=about)
    onnx.save(model, str(path))


def _onnx(path: Path) -> Run:
    session = _library("onnxruntime").InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    return lambda pixels: np.asarray(session.run(None, {"pixels": pixels})[0])


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"--format onnx: {name} is not installed; pip install 'transfer-probe[onnx]' brings it."
        ) from error


def _told(contents: Contents, wanted: Input, name: str, kind: str) -> dict[str, Any]:
    """What a graph's file says of itself."""
    return {
        **asdict(
            contents.about
        ),  # first, since its own `input` is that of a card, and mostly empty
        "input": f"pixels, uint8 (n, 3, {wanted.size[0]}, {wanted.size[1]}), RGB",
        "before": _before(wanted),
        "output": "value, float32 (n, 1)"
        if contents.about.is_number
        else "probabilities, float32 (n, classes)",
        "example": example(wanted, contents.about.classes, name, kind),
    }


def _before(wanted: Input) -> str:
    height, width = wanted.size
    resize = wanted.resize if wanted.resize is not None else wanted.size
    to = f"shorter side to {resize}" if isinstance(resize, int) else f"to {resize[0]} x {resize[1]}"
    half = "rounded down" if wanted.floors else "rounded to the nearest even number"
    return (
        f"turned upright as EXIF says, RGB, resized {to} (height x width; {wanted.interpolation}, "
        f"antialiased, as Pillow does), centre crop of {height} x {width}, half of an odd margin {half}; "
        "what follows is in the graph"
    )


def example(wanted: Input, classes: Sequence[str], name: str, kind: str) -> str:
    """A few lines of Python that run the graph on `photo.jpg` without this toolkit."""
    height, width = wanted.size
    resize = wanted.resize if wanted.resize is not None else wanted.size
    size = f"({resize[1]}, {resize[0]})" if not isinstance(resize, int) else (
        f"tuple(int({resize} * side / min(image.size)) for side in image.size)"
    )  # fmt: skip
    half = "room // 2" if wanted.floors else "round(room / 2)"
    load = {
        "pt2": ["import torch", f"run = torch.export.load({name!r}).module()"],
        "onnx": ["import onnxruntime", f"session = onnxruntime.InferenceSession({name!r})"],
    }[kind]
    call = {
        "pt2": "p = run(torch.from_numpy(pixels))[0].tolist()",
        "onnx": 'p = session.run(None, {"pixels": pixels})[0][0].tolist()',
    }[kind]
    lines = [
        "import numpy as np",
        load[0],
        "from PIL import Image, ImageOps",
        'image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")',
        f"image = image.resize({size}, Image.Resampling.{wanted.interpolation.upper()})",
        f"left, top = ({half} for room in (image.width - {width}, image.height - {height}))",
        f"image = image.crop((left, top, left + {width}, top + {height}))",
        "pixels = np.array(image).transpose(2, 0, 1)[None].copy()",
        load[1],
        call,
        f"print(dict(zip({list(classes)!r}, p)))" if classes else "print(p[0])",
    ]
    return "\n".join(lines) + "\n"

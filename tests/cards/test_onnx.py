"""ONNX files are read as what they are: depth, kinds and defaults by hand, numbers by PyTorch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from toys import write_images

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from features.backbone import describe, load  # noqa: E402
from features.errors import InputError  # noqa: E402
from features.extraction.capture import capture  # noqa: E402
from features.extraction.extract import extract  # noqa: E402
from probe.finetuning.finetune import finetune  # noqa: E402
from probe.fitting.fit import fit  # noqa: E402
from probe.results.rows import read  # noqa: E402

INPUT = "[input]\nsize = [16, 16]\nscale = 1.0\n"
SHAPES = {
    "w_stem": (8, 3, 3, 3),
    "w_body": (8, 8, 3, 3),
    "w_squeeze": (8, 8, 1, 1),
    "w_down": (12, 8, 1, 1),
    "w_fc": (5, 12),
}


def weights() -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=chance) / 4 for name, shape in SHAPES.items()}


def node(kind: str, read: str, made: str, **attributes: Any) -> Any:
    return helper.make_node(kind, read.split(), [made], **attributes)


# A residual block with a gate, a smaller stage, a pool, a classifier.
NODES = [
    node("Conv", "image w_stem", "/stem/conv", pads=[1, 1, 1, 1]),
    node("Relu", "/stem/conv", "/stem/relu"),
    node("Conv", "/stem/relu w_body", "body", pads=[1, 1, 1, 1]),
    node("GlobalAveragePool", "body", "gate.pool"),
    node("Conv", "gate.pool w_squeeze", "gate.conv"),
    node("Sigmoid", "gate.conv", "gate"),
    node("Mul", "body gate", "gated"),
    node("Add", "gated /stem/relu", "sum"),
    node("Conv", "sum w_down", "down.conv", strides=[2, 2]),
    node("Relu", "down.conv", "down.relu"),
    node("GlobalAveragePool", "down.relu", "pool"),
    node("Flatten", "pool", "flat"),
    node("Gemm", "flat w_fc", "scores", transB=1),
]
DEPTHS = {
    "stem.conv": 1, "stem.relu": 1, "body": 2, "gate.pool": 2, "gate.conv": 3, "gate": 3, "gated": 2,
    "sum": 2, "down.conv": 3, "down.relu": 3, "pool": 3, "scores": 4,
}  # fmt: skip


def reference(x: Tensor) -> dict[str, Tensor]:
    w = weights()
    stem = F.conv2d(x, w["w_stem"], padding=1).relu()
    body = F.conv2d(stem, w["w_body"], padding=1)
    total = body * F.conv2d(body.mean((2, 3), keepdim=True), w["w_squeeze"]).sigmoid() + stem
    down = F.conv2d(total, w["w_down"], stride=2).relu()
    pool = down.mean((2, 3), keepdim=True)
    return {"sum": total, "down.relu": down, "pool": pool, "scores": pool.flatten(1) @ w["w_fc"].T}


def write(
    folder: Path,
    nodes: list[Any] = NODES,
    batch: int | str = "n",
    kind: int = TensorProto.FLOAT,
    shape: tuple[int | str, ...] = (3, "h", "w"),
    outputs: tuple[str, ...] = ("scores",),
    more: tuple[Any, ...] = (),
    **how: Any,
) -> str:
    """An ONNX file and its card."""
    numbers = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    held = [numpy_helper.from_array(w.numpy().astype(numbers), n) for n, w in weights().items()]
    inputs = [helper.make_tensor_value_info("image", kind, [batch, *shape]), *more]
    ends = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    graph = helper.make_graph(nodes, "net", inputs, ends, held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    folder.mkdir(exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "net.onnx", **how
    )
    card = folder / "net.toml"
    card.write_text(f'name = "net"\ndomain = "toys"\nnetwork = "onnx:net.onnx"\n{INPUT}')
    return str(card)


def rows(card: str, x: Tensor, *names: str) -> dict[str, Tensor]:
    backbone = load(card)
    layers = backbone.layers(names)
    with capture(backbone.model, layers, backbone.architecture.traced) as run:
        return run(x)


def test_depth_and_kind_and_default_are_told_by_the_graph(tmp_path: Path) -> None:
    found = describe(write(tmp_path))
    assert {layer.name: round(layer.depth * 4) for layer in found.layers} == DEPTHS
    kinds = {layer.name: layer.output.kind for layer in found.layers}
    flat = ("gate.pool", "gate.conv", "gate", "pool", "scores")
    assert kinds == {name: "vector" if name in flat else "map" for name in DEPTHS}
    assert found.default == ("sum", "down.relu", "pool", "scores")
    assert found.parameters == sum(w.numel() for w in weights().values())


def test_numbers_are_those_of_the_operations(tmp_path: Path) -> None:
    x = torch.randn(5, 3, 16, 16)
    found = rows(write(tmp_path), x)
    for name, expected in reference(x).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-4)


def test_images_come_one_by_one_where_the_file_takes_one(tmp_path: Path) -> None:
    x = torch.randn(16, 3, 16, 16)
    fixed, free = write(tmp_path / "one", batch=1), write(tmp_path / "any")
    whole = rows(free, x)
    for size in (1, 3, 16):
        for card in (fixed, free):
            parts = [rows(card, part) for part in x.split(size)]
            for name, expected in whole.items():
                joined = torch.cat([part[name] for part in parts])
                torch.testing.assert_close(joined, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(
        InputError, match="takes batches of exactly 4 images; export it with a batch"
    ):
        describe(write(tmp_path / "four", batch=4))


def test_only_what_a_layer_needs_runs(tmp_path: Path) -> None:
    unknown = helper.make_node("Nothing", ["down.relu"], ["later"], domain="own")
    card = write(tmp_path, [*NODES[:10], unknown], outputs=("later",))
    with pytest.raises(InputError, match=r"net\.onnx: onnxruntime cannot run it \(.*Nothing"):
        describe(card)
    from features.cards.onnx_network import OnnxNetwork

    network = OnnxNetwork(tmp_path / "net.onnx")
    seen: list[Tensor] = []
    tap = dict(network.named_modules())["sum"]
    tap.register_forward_hook(lambda _m, _i, tensor: seen.append(tensor))
    x = torch.randn(2, 3, 16, 16)
    network(x)
    torch.testing.assert_close(seen[0], reference(x)["sum"], rtol=1e-4, atol=1e-4)


def test_channels_may_come_last(tmp_path: Path) -> None:
    turn = node("Transpose", "image", "turned", perm=[0, 3, 1, 2])
    back = node("Transpose", "sum", "back", perm=[0, 2, 3, 1])
    first = node("Conv", "turned w_stem", "/stem/conv", pads=[1, 1, 1, 1])
    nodes = [turn, first, *NODES[1:8], back, *NODES[8:]]
    card = write(tmp_path, nodes, shape=(16, 16, 3))
    x = torch.randn(2, 3, 16, 16)
    found = rows(card, x, "sum", "back")
    torch.testing.assert_close(found["sum"], reference(x)["sum"], rtol=1e-4, atol=1e-4)
    assert describe(card).outputs["back"].kind == "map channels last"
    assert torch.equal(found["back"], found["sum"].permute(0, 2, 3, 1))


def test_half_precision_is_computed_as_the_file_has_it(tmp_path: Path) -> None:
    x = torch.randn(3, 3, 16, 16)
    found = rows(write(tmp_path, kind=TensorProto.FLOAT16), x)
    for name, expected in reference(x).items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], expected, rtol=3e-2, atol=1e-2)


def test_tensors_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    outside = {"save_as_external_data": True, "location": "net.bin", "size_threshold": 0}
    card = write(tmp_path, **outside)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(
        rows(card, x)["scores"], reference(x)["scores"], rtol=1e-4, atol=1e-4
    )
    before = load(card).weights
    data = tmp_path / "net.bin"
    data.write_bytes(data.read_bytes()[::-1])
    after = load(card).weights
    assert before is not None
    assert after is not None
    assert before.sha256 != after.sha256
    data.unlink()
    with pytest.raises(
        InputError, match=r"not a complete ONNX file \(.*; export or fetch it again, with the"
    ):
        load(card)


def test_tokens_are_told_by_the_class_token(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    held = {
        "patch": chance.normal(size=(8, 3, 4, 4)),
        "class_token": chance.normal(size=(1, 1, 8)),
        "mix": chance.normal(size=(8, 8)) / 3,
        "order": np.array([1, 1, 1]),
    }
    tensors = [
        numpy_helper.from_array(a.astype("i8" if n == "order" else "f4"), n)
        for n, a in held.items()
    ]
    nodes = [
        node("Conv", "image patch", "patches", strides=[4, 4]),
        helper.make_node("Flatten", ["patches"], ["none"]),
        helper.make_node("Shape", ["patches"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "two"], ["to"], axis=0),
        node("Reshape", "patches to", "lines"),
        node("Transpose", "lines", "places", perm=[0, 2, 1]),
        helper.make_node("Concat", ["batch", "ones"], ["copies"], axis=0),
        node("Expand", "class_token copies", "class"),
        helper.make_node("Concat", ["class", "places"], ["tokens"], axis=1),
        node("MatMul", "tokens mix", "query"),
        node("Transpose", "query", "key", perm=[0, 2, 1]),
        node("MatMul", "query key", "likeness"),
        node("Softmax", "likeness", "attention", axis=-1),
        node("MatMul", "attention tokens", "looked"),
        node("Add", "tokens looked", "block.attention"),
        node("MatMul", "block.attention mix", "perceptron"),
        node("Add", "block.attention perceptron", "block"),
        helper.make_node("ReduceMean", ["block"], ["scores"], axes=[1], keepdims=0),
    ]
    tensors += [
        numpy_helper.from_array(np.array(v, "i8"), n)
        for n, v in (("two", [8, 16]), ("ones", [1, 8]))
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 16, 16])
    end = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [image], [end], tensors)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "net.onnx")
    card = tmp_path / "net.toml"
    card.write_text(f'name = "net"\ndomain = "toys"\nnetwork = "onnx:net.onnx"\n{INPUT}')
    found = describe(str(card))
    assert (
        found.outputs["block"].words == "tokens, prefix 1, the first a class token, patches 4 x 4"
    )
    assert found.default == ("patches", "block", "scores")
    assert found.refused["key"].startswith("which of its two axes are tokens cannot be told")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    card = write(tmp_path)
    net = tmp_path / "net.onnx"
    with pytest.raises(
        InputError,
        match=r"^onnx:net: the file does not say how images are prepared; write net\.toml",
    ):
        describe(f"onnx:{net}")
    with pytest.raises(
        InputError, match=r"its weights are inside onnx:net\.onnx and cannot be replaced"
    ):
        load(card, "random")
    with pytest.raises(
        InputError, match=r"nowhere\.onnx: there is no such ONNX file; check the path\.$"
    ):
        describe(f"onnx:{tmp_path / 'nowhere.onnx'}")
    other = helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 1])
    with pytest.raises(
        InputError, match=r"takes 2 inputs \(image, age\) instead of images alone; export"
    ):
        describe(write(tmp_path / "two", more=(other,)))
    with pytest.raises(
        InputError, match="its input image is uint8, and normalised images are floating"
    ):
        describe(write(tmp_path / "bytes", kind=TensorProto.UINT8))
    with pytest.raises(InputError, match="takes images of 8 x 8, not 16 x 16; correct size under"):
        describe(write(tmp_path / "size", shape=(3, 8, 8)))
    with pytest.raises(InputError, match="its input image has 3 axes, and images have four"):
        describe(write(tmp_path / "axes", shape=(3, 16)))
    net.write_bytes(net.read_bytes()[:200])
    with pytest.raises(InputError, match=r"net\.onnx: not a complete ONNX file"):
        describe(card)
    os.truncate(net, 1 << 40)
    with pytest.raises(InputError, match=r"net\.onnx: is larger than 2 GB"):
        describe(card)


def test_a_checksum_in_the_card_is_checked(tmp_path: Path) -> None:
    card = write(tmp_path)
    held = load(card).weights
    assert held is not None
    assert not held.verified
    text = Path(card).read_text()
    Path(card).write_text(f'{text}[[weights]]\nsha256 = "{held.sha256}"\n')
    verified = load(card).weights
    assert verified is not None
    assert verified.verified
    Path(card).write_text(f'{text}[[weights]]\nsha256 = "{"0" * 64}"\n')
    with pytest.raises(InputError, match="not the file that net's card describes"):
        load(card)


@pytest.mark.parametrize(
    ("source", "layer"),
    [
        ("best", "best_"),
        ("/all/", "all_"),
        ("a\0b\n", "a_b_"),
        ("..", "tensor"),
        ("x/y:0", "x.y.0"),
    ],
)
def test_a_tensor_whose_name_no_layer_may_have_gets_another(
    tmp_path: Path, source: str, layer: str
) -> None:
    """Features that are extracted under it can be fitted, which brings rows of its own called best."""
    pool = [node("GlobalAveragePool", "image", "pool"), node("Flatten", "pool", "flat")]
    end = helper.make_node("Relu", ["flat"], [source])
    card = write(tmp_path / "net", [*pool, end], outputs=(source,))
    assert layer in [found.name for found in describe(card).layers]
    study = tmp_path / "study"
    data = write_images(tmp_path / "images", 12)
    made = extract(study, card, data=str(data), layers=(layer,), batch_size=4)
    with h5py.File(made.file) as file:
        assert set(file["layers"]) == {layer}
    if source == "best":
        fit(study, probes=("ridge",), folds=2, c=(1.0,))
        assert {row.layer for row in read(study / "results.csv")} == {"best", "best_", "majority"}


def test_features_are_extracted_and_the_network_is_not_trained(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    for number in range(6):
        file = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 255, (16, 16, 3), dtype="u1")).save(file)
    card = write(tmp_path / "net")
    made = extract(tmp_path / "study", card, data=str(tmp_path / "data"), batch_size=4)
    with h5py.File(made.file) as file:
        assert set(file["layers"]) == {
            "sum",
            "sum:avg",
            "down.relu",
            "down.relu:avg",
            "pool",
            "scores",
        }
        pictures = sorted((tmp_path / "data").rglob("*.png"))
        images = np.stack([np.asarray(Image.open(p)) for p in pictures]).transpose(0, 3, 1, 2)
        expected = reference(torch.from_numpy(images.copy()).float() / 255)["scores"]
        np.testing.assert_allclose(file["layers/scores"][:], expected.numpy(), rtol=1e-3, atol=1e-4)
    with pytest.raises(
        InputError, match="an ONNX file is frozen and cannot be fine-tuned; fit probes"
    ):
        finetune(tmp_path / "study", backbone=card)

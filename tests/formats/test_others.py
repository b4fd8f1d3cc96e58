"""Files of other kinds are named as what they are; weights in several files are read as one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from features.backbone import load
from features.errors import InputError
from features.formats.recognise import read, recognise
from features.weights.entries import digests_of

TINY = {
    "conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "fc.weight": (5, 64), "fc.bias": (5,)
}  # fmt: skip


def tensors() -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(2)
    return {name: torch.rand(shape, generator=chance) for name, shape in TINY.items()}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.onnx",
            b"\x08\x0a\x12\x07pytorch\x1a\x03\x31.0",
            "an ONNX graph, which is not read; give the PyTorch",
        ),
        ("a.onnx", b"\x08\x08\x3a\x90\x01" + bytes(200), "an ONNX graph, "),
        ("a.tflite", b"\x1c\0\0\0TFL3" + bytes(20), "a TensorFlow Lite graph; "),
        (
            "frozen.pb",
            b"\x0a\x1a\x0a\x05input\x12\x0bPlaceholder\x2a\x00" + bytes(20),
            "a TensorFlow graph; ",
        ),
        (
            "saved_model.pb",
            b"\x08\x01\x12\x90\x01\x0a\x05\x32\x03abc" + bytes(200),
            "a TensorFlow Saved",
        ),
        ("m.ckpt-1.data-00000-of-00001", b"\x3f\x80\0\0" * 20, "a TensorFlow checkpoint; "),
        (
            "m.ckpt-1.index",
            b"\0\0\x01" + bytes(30) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb",
            "a TensorFlow c",
        ),
        (
            "a.mlmodel",
            b"\x08\x04\x12\x0c\x0a\x0a\x0a\x05image\x1a\x01\x22" + bytes(99),
            "a Core ML m",
        ),
        (
            "dlib_face_recognition_resnet_model_v1.dat",
            b"\x01\x01\x01\x0dloss_metric_2\x01\x02" + bytes(30),
            "a dlib model; ",
        ),
        ("shape_predictor.dat", b"\x01\x01\x81\x88\x81\x01" + bytes(30), "a dlib model; "),
        ("a.lz4", b"\x04\x22\x4d\x18" + bytes(9), "an lz4 file; unpack it with lz4 -d"),
        ("a.dat.bz2", b"BZh91AY&SY" + bytes(9), "a bzip2 file; "),
        ("a.zst", b"\x28\xb5\x2f\xfd" + bytes(9), "a Zstandard file; "),
        ("a.xz", b"\xfd7zXZ\x00" + bytes(9), "an xz file; "),
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(9), "a 7-Zip archive; "),
        ("a.gguf", b"GGUF\x03\0\0\0" + bytes(9), "a GGUF file of quantised weights; "),
        ("a.params", b"\x12\x01" + bytes(6) + bytes(8), "a file of MXNet's parameters; "),
        ("a.xml", b'<?xml version="1.0"?>\n<net name="x" version="11">', "an OpenVINO description"),
        ("a.weights", b'{"a": 1}', "JSON text; "),
        ("a.weights", b"\x08", "not a file of weights in any format"),
        ("a.weights", b"\x0a\x0a\x0a", "not a file of weights in any format"),
    ],
)
def test_other_kinds_are_named(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        recognise(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: {said}")
    assert message.endswith(".")
    assert "\n" not in message


def sharded(folder: Path, kind: str = "safetensors") -> Path:
    """Two files of a network and the index that names them."""
    folder.mkdir(exist_ok=True)
    given, files = tensors(), {}
    for number, part in enumerate((("conv.weight", "fc.bias"), ("conv.bias", "fc.weight")), 1):
        name = f"model-{number:05}-of-00002.{kind}"
        files |= dict.fromkeys(part, name)
        if kind == "safetensors":
            save_file({n: given[n] for n in part}, folder / name)
        else:
            torch.save({n: given[n] for n in part}, folder / name)
    start = "model" if kind == "safetensors" else "pytorch_model"
    index = folder / f"{start}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 9}, "weight_map": files}))
    return index


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_weights_in_several_files_are_those_of_one(
    tiny_card: object, tmp_path: Path, kind: str
) -> None:
    card = tiny_card()  # type: ignore[operator]
    index = sharded(tmp_path / "given", kind)
    names = []
    for given in (index, index.parent):
        backbone = load(str(card), str(given))
        names.append(backbone.name)
        for name, tensor in tensors().items():
            assert torch.equal(backbone.model.state_dict()[name], tensor)
    assert names[1] == "tiny@given"
    before = digests_of(index).sha256
    assert before == digests_of(index.parent).sha256
    index.unlink()  # the numbers in the names tell as much
    assert set(read(index.parent).tensors) == set(tensors())
    part = next(index.parent.glob(f"*1-of-00002.{kind}"))
    other = {"conv.weight": torch.zeros(4, 3, 3, 3), "fc.bias": torch.zeros(5)}
    save_file(other, part) if kind == "safetensors" else torch.save(other, part)
    assert digests_of(index.parent).sha256 != before
    part.unlink()
    with pytest.raises(InputError, match="are not the 2 that belong together; "):
        read(index.parent)


def test_a_folder_as_it_is_published(tiny_card: object, tmp_path: Path) -> None:
    card = tiny_card()  # type: ignore[operator]
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "config.json").write_text("{}")
    save_file(tensors(), tmp_path / "given" / "model.safetensors")
    backbone = load(str(card), str(tmp_path / "given"))
    assert torch.equal(backbone.model.state_dict()["fc.bias"], tensors()["fc.bias"])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "a folder with no safetensors files and no index; "),
        ({"a.safetensors": "", "b.safetensors": ""}, "2 safetensors files (a.safetensors, b.safe"),
        (
            {".metadata": "", "__0_0.distcp": ""},
            "(FSDP); gather it first: python -m torch.distributed.",
        ),
        (
            {"mp_rank_00_model_states.pt": ""},
            "a DeepSpeed checkpoint in parts; gather it first: python ",
        ),
        (
            {"latest": "global_step10", "global_step10": ""},
            "given/zero_to_fp32.py ",
        ),
        ({"saved_model.pb": ""}, "a TensorFlow SavedModel; "),
        ({"model.safetensors.index.json": "["}, "not the index of a sharded file of weights"),
        ({"model.safetensors.index.json": '{"weight_map": 3}'}, "not the index of a sharded"),
        ({"model.safetensors.index.json": '{"weight_map": {}}'}, "names no files of weights; "),
        (
            {"model.safetensors.index.json": '{"weight_map": {"a": "../x"}}'},
            "names the file '../x', which is not beside it; fetch an intact one.",
        ),
        (
            {"model.safetensors.index.json": '{"weight_map": {"a": "x.safetensors"}}'},
            "names the file x.safetensors, which is not beside it; put all 1 files",
        ),
    ],
)
def test_folders_that_cannot_be_used(files: dict[str, str], said: str, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read(folder)
    message = str(caught.value)
    assert message.startswith(str(folder))
    assert said in message
    assert message.endswith(".")
    assert "\n" not in message


def test_two_files_with_one_name_are_not_one_network(tmp_path: Path) -> None:
    index = sharded(tmp_path / "given")
    save_file(tensors(), index.parent / "model-00002-of-00002.safetensors")
    with pytest.raises(InputError, match="two of its files hold a tensor of the same name; "):
        read(index)

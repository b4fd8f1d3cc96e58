from pathlib import Path

import numpy as np
import pytest
import torch
from caffefiles import write

from features.caffe import fitted, named_tensors, read_binaryproto, read_caffemodel
from features.caffe.caffemodel import MAX_FIELDS
from features.caffe.schema import message
from features.errors import InputError

ADIENCE_MEAN = Path("/work/shared/adience/gilnet_mean.binaryproto")

WEIGHTS = {
    "conv": [torch.randn(4, 3, 2, 2), torch.randn(4)],
    "one": [torch.randn(1, 3, 1, 1), torch.randn(1)],
    "fc": [torch.randn(5, 6), torch.randn(5)],
    "top": [torch.randn(1, 5), torch.randn(1)],
}
TYPES = {"conv": "Convolution", "one": "Convolution", "fc": "InnerProduct", "top": "InnerProduct"}


@pytest.mark.parametrize("old", [False, True])
def test_blobs_come_back_in_their_shapes(tmp_path: Path, old: bool) -> None:
    read = read_caffemodel(write(tmp_path / "x.caffemodel", WEIGHTS, TYPES, old))
    assert list(read) == list(WEIGHTS)
    for name, parts in WEIGHTS.items():
        assert all(a.equal(b) for a, b in zip(read[name], parts, strict=True))


def field(number: int, wire: int, content: bytes) -> bytes:
    def varint(value: int) -> bytes:
        low = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
        return bytes([byte | 128 for byte in low[:-1]] + low[-1:])

    return varint(number << 3 | wire) + (varint(len(content)) if wire == 2 else b"") + content


def one_layer(blob: bytes, name: bytes = b"fc") -> bytes:
    return field(100, 2, field(1, 2, name) + field(7, 2, blob))


def test_numbers_are_read_however_they_are_packed(tmp_path: Path) -> None:
    values = np.arange(40, dtype="<f4")
    loose = b"".join(field(5, 5, value.tobytes()) for value in values)
    shape = field(7, 2, field(1, 2, bytes([5, 8])))
    unknown = field(77, 2, b"?" * 99) + field(78, 0, b"\x05") + field(79, 1, b"12345678")
    for blob in (
        field(5, 2, values.tobytes()),
        loose,
        field(5, 2, values[:7].tobytes()) + field(5, 2, values[7:].tobytes()),
        field(8, 2, values.astype("<f8").tobytes()),
        b"".join(field(8, 1, value.tobytes()) for value in values.astype("<f8")),
        field(6, 2, b"1234" * 40) + unknown + field(5, 2, values.tobytes()),
    ):
        path = tmp_path / "x.caffemodel"
        path.write_bytes(unknown + one_layer(shape + blob) + unknown)
        (tensor,) = read_caffemodel(path)["fc"]
        assert tensor.equal(torch.arange(40.0).reshape(5, 8))
        assert tensor.dtype == torch.float32


def test_a_single_number_has_one_side(tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(one_layer(field(7, 2, b"") + field(5, 2, np.float32(3).tobytes())))
    assert read_caffemodel(path)["fc"][0].tolist() == [3.0]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "byte 0 begins no field"),
        (b"version https://git-lfs.github.com/spec/v1\n", "byte 0 begins no field"),
        (field(1, 2, b"net"), "it holds no layer with weights"),
        (field(100, 2, field(1, 2, b"relu1")) * 50, "it holds no layer with weights"),
        (field(100, 2, b"") * (MAX_FIELDS + 1), f"a message has more than {MAX_FIELDS} fields"),
        (b"\xa2\x06\xff\xff\xff\xff\x0f", "a field at byte 0 goes past the end"),
        (b"\xff" * 99, "byte 10 begins no number"),
        (one_layer(field(7, 2, field(1, 2, b"\xff\xff\xff\xff\x07"))),
         "a blob of layer 'fc' declares 2147483647 numbers and holds 0"),
        (one_layer(field(7, 2, field(1, 2, bytes([2, 3]))) + field(5, 2, bytes(20))),
         "a blob of layer 'fc' declares 2 x 3 numbers and holds 5"),
        (one_layer(field(1, 0, b"\xff" * 9 + b"\x01") + field(5, 2, bytes(20))),
         "a blob of layer 'fc' declares -1 x 0 x 0 x 0 numbers and holds 5"),
        (one_layer(field(5, 2, bytes(21))), "a number is cut off"),
        (one_layer(b""), "a blob of layer 'fc' holds no numbers"),
        (one_layer(field(5, 2, bytes(4)), b"\xff\xfe"), "the name of a layer is not text"),
        (field(100, 2, field(1, 2, b"a" * (1 << 21))), "description is longer than 1048576 bytes"),
    ],
)  # fmt: skip
def test_a_damaged_caffemodel_is_refused(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        read_caffemodel(path)
    assert said in str(caught.value)
    assert str(caught.value) == (
        f"{path}: not a Caffe model that can be read ({str(caught.value).partition('read (')[2]}"
    )
    assert str(caught.value).endswith("give the .caffemodel that belongs to the network.")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_caffemodel(tmp_path / "x.caffemodel")


def test_a_mean_image_is_read(tmp_path: Path) -> None:
    mean = torch.rand(3, 4, 5)
    blob = message("BlobProto")(num=1, channels=3, height=4, width=5, data=mean.flatten().tolist())
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(blob.SerializeToString())
    assert read_binaryproto(path).equal(mean)
    blob.channels, blob.width = 5, 3
    path.write_bytes(blob.SerializeToString())
    with pytest.raises(InputError, match=r"its sides are 5 x 4 x 3, not 3 x height x width"):
        read_binaryproto(path)
    path.write_bytes(b"<html>")
    with pytest.raises(InputError, match="not a Caffe mean image"):
        read_binaryproto(path)


@pytest.mark.skipif(not ADIENCE_MEAN.exists(), reason="the published mean image is not here")
def test_the_mean_image_of_gilnet_has_the_published_means() -> None:
    mean = read_binaryproto(ADIENCE_MEAN)
    assert mean.shape == (3, 256, 256)
    expected = torch.tensor([78.4263377603, 87.7689143744, 114.895847746])
    torch.testing.assert_close(mean.double().mean((1, 2)).float(), expected)


def test_names_are_fitted_to_a_network() -> None:
    ones, twos = torch.ones(2), torch.full((2,), 2.0)
    blobs = {
        "a/conv": [torch.rand(2, 3, 1, 1)],
        "a/bn": [ones, ones, torch.ones(1)],
        "a/scale": [twos, twos],
        "stray": [ones, ones],
        "b/fc": [torch.rand(5, 2), torch.rand(5)],
    }
    wanted = {
        "a_conv.weight": torch.rand(2, 3, 1, 1),
        "a_bn.running_mean": ones,
        "a_bn.running_var": ones,
        "a_bn.weight": ones,
        "a_bn.bias": ones,
        "b.fc.weight": torch.rand(5, 2, 1, 1),
        "b.fc.bias": torch.rand(5),
    }
    found = fitted(named_tensors(blobs), wanted)
    assert set(found) == {*wanted, "stray.weight", "stray.bias"}
    assert all(found[key].shape == wanted[key].shape for key in wanted)
    assert found["a_bn.weight"].equal(twos)
    assert found["b.fc.weight"].flatten().equal(blobs["b/fc"][0].flatten())


def test_batch_norm_divides_by_its_factor() -> None:
    blobs = {"bn": [torch.tensor([3.0, 6.0]), torch.tensor([9.0, 12.0]), torch.tensor([3.0])]}
    assert named_tensors(blobs)["bn.running_mean"].tolist() == [1.0, 2.0]
    assert named_tensors(blobs)["bn.running_var"].tolist() == [3.0, 4.0]
    blobs["bn"][2] = torch.zeros(1)
    assert named_tensors(blobs)["bn.running_mean"].tolist() == [0.0, 0.0]

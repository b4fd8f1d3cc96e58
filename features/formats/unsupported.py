"""Files whose weights are not read: each is named as what it is, with what to do."""

from __future__ import annotations

import re
from pathlib import Path

from features.machine.regular_files import open_regular

_ELSEWHERE = "convert it to safetensors, or save its arrays with numpy.savez"
_PACKED = {
    b"\x04\x22\x4d\x18": ("an lz4 file", "unpack it with lz4 -d"),
    b"\x28\xb5\x2f\xfd": ("a Zstandard file", "unpack it with zstd -d"),
    b"\xfd7zXZ\x00": ("an xz file", "unpack it with xz -d"),
    b"BZh": ("a bzip2 file", "unpack it with bunzip2"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "unpack it"),
    b"Rar!": ("a RAR archive", "unpack it"),
}
_DLIB = re.compile(rb"\x01[\x01-\x0f](\x01[\x01-\x40](loss|fc|con|input|mmod|max|avg|relu)_|\x81)")
_TABLE_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


def other_kind(path: Path, head: bytes) -> str | None:
    """What a file is, and what to do, as the end of a sentence; None for an unknown kind."""
    for magic, (kind, command) in _PACKED.items():
        if head.startswith(magic):
            return f"{kind}; {command} and give what is in it."
    if head[4:8] == b"TFL3":
        return f"a TensorFlow Lite graph; {_ELSEWHERE}."
    if head.startswith(b"GGUF"):
        return f"a GGUF file of quantised weights; {_ELSEWHERE}."
    if head.startswith(b"\x12\x01" + bytes(6)):
        return f"a file of MXNet's parameters; {_ELSEWHERE}."
    if _DLIB.match(head):
        return f"a dlib model; {_ELSEWHERE}."
    if b"<net " in head[:512] and head.lstrip().startswith(b"<"):
        return "an OpenVINO description, which is not read; give the file it was converted from."
    if head.startswith(b"{"):
        return "JSON text; give the file of weights, or the index.json of a sharded one."
    return _protobuf(path, head) or _of_tensorflow(path)


def _protobuf(path: Path, head: bytes) -> str | None:
    """The same of ONNX, Core ML and TensorFlow graphs: messages like Caffe's, with other fields first."""
    if len(head) > 4 and head[:1] == b"\x08" and 0 < head[1] < 64:
        text = head[4 : 4 + head[3]]
        if head[2:3] in b"\x1a\x22\x28\x3a\x42" or (head[2:3] == b"\x12" and _is_text(text)):
            return "an ONNX graph, which is not read; give the PyTorch or safetensors file it came from."
        if path.name == "saved_model.pb" or b"serve" in head or b"saved_model" in head:
            return f"a TensorFlow SavedModel; {_ELSEWHERE}."
        if head[2:3] in b"\x12\x52\xa2\xaa\xb2\xea\xf2\xa3":
            return f"a Core ML model; {_ELSEWHERE}."
    if head[:1] == b"\x0a" and b"\x0a" in head[1:4]:
        inner = head[head.index(b"\x0a", 1) :]
        name = inner[2 : 2 + inner[1]] if len(inner) > 2 else b""
        if _is_text(name) and inner[2 + len(name) : 3 + len(name)] == b"\x12":
            return f"a TensorFlow graph; {_ELSEWHERE}."
    return None


def _of_tensorflow(path: Path) -> str | None:
    with open_regular(path) as file:
        file.seek(max(0, path.stat().st_size - 8))
        end = file.read(8)
    if end == _TABLE_END or re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        return f"a TensorFlow checkpoint; {_ELSEWHERE}."
    return None


def _is_text(content: bytes) -> bool:
    return bool(content) and all(32 <= byte < 127 for byte in content)

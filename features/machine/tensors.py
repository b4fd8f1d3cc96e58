"""Writing tensors as safetensors: the same tensors are the same bytes, and nothing is left beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

_ALIGNED = 8


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file to `path`, whose metadata are in the order of their names.

    The library writes them in an order of chance, and first into a file of its own beside this one, which
    a kill would leave there.
    """
    from safetensors.torch import save

    data = memoryview(save(dict(tensors)))
    length = int.from_bytes(data[:8], "little")
    header = {
        "__metadata__": dict(sorted(metadata.items())),
        **json.loads(bytes(data[8 : 8 + length])),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(data[8 + length :])

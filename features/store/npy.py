"""NumPy's `.npy`: one array, whose header must agree with the size of the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def array_of(file: Any, size: int) -> npt.NDArray[Any]:
    """The array of a `.npy` file of `size` bytes; its header is checked before memory is allocated.

    Raises:
        ValueError: It is damaged, or holds Python objects.
    """
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0}
    read_header = readers.get(version, np.lib.format.read_array_header_2_0)
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if not dtype.itemsize:
        raise ValueError("its elements have no size")
    count = 1
    for side in shape:
        count *= int(side)
    if count < 0 or count * dtype.itemsize > size or len(shape) > 32:
        raise ValueError(f"an array of shape {shape} is declared in {size} bytes")
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise ValueError("it ends early")
    array = np.frombuffer(bytearray(data), dtype=dtype, count=count)
    return array.reshape(shape, order="F" if fortran else "C")

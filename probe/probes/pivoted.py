"""LAPACK's pivoted Cholesky factor, called so that other threads run meanwhile.

SciPy's own wrapper keeps the interpreter's lock for the whole call, minutes for ten thousand rows: training
sets would wait for each other, and no signal were heard. A function called by ctypes lets go of it.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import Doubles, Ints


def pivoted_cholesky(a: Doubles, tol: float) -> tuple[Doubles, Ints, int]:
    """The factor U with P'AP = U'U, the order P of the rows and the rank.

    Args:
        a: Symmetric, `(n, n)`, in Fortran's order, which U overwrites in and above the diagonal.
        tol: The squared distance from the span of the others at which a row adds nothing.
    """
    n = ctypes.c_int(len(a))
    rank, info = ctypes.c_int(0), ctypes.c_int(0)
    order: npt.NDArray[np.int32] = np.zeros(len(a), dtype=np.int32)
    work = np.empty(2 * len(a))
    if len(a):
        _dpstrf()(
            b"U", ctypes.byref(n), a.ctypes.data, ctypes.byref(n), order.ctypes.data,
            ctypes.byref(rank), ctypes.byref(ctypes.c_double(tol)), work.ctypes.data,
            ctypes.byref(info),
        )  # fmt: skip
    return a, order.astype(np.int64) - 1, rank.value


@functools.cache
def _dpstrf() -> Callable[..., None]:
    """LAPACK's function, as SciPy hands it to Cython."""
    from scipy.linalg import cython_lapack  # slow to import

    capsule: Any = cython_lapack.__pyx_capi__["dpstrf"]
    name, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p, *[ctypes.c_void_p] * 8)
    return kind(pointer(capsule, name(capsule)))

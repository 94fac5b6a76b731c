# SPDX-License-Identifier: MIT
"""Arrays whose first byte lies where runtimes want it, so that they take them as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64
"""TensorFlow copies an input that begins elsewhere: its operators read so many bytes at a time."""

LEAST_BYTES = 1 << 16
"""A smaller array is copied sooner than such a place for it is found."""


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """As ``numpy.empty``."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    if size < LEAST_BYTES or kind.hasobject:
        return np.empty(shape, kind)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return memory[begin : begin + size].view(kind).reshape(shape)

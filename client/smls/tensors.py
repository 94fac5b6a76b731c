# SPDX-License-Identifier: MIT
"""Named tensors, as the Open Inference Protocol names and types them. Pure; needs numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from smls.datatypes import KINDS

Tensors = Mapping[str, NDArray[Any]]
"""Arrays by name. Those of BYTES hold objects, each of them ``bytes``."""

DATATYPES: Mapping[str, np.dtype[Any]] = {name: np.dtype(kind) for name, kind in KINDS.items()}
"""The protocol's datatypes and numpy's for each."""

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name for ``dtype``; texts of any length are BYTES.

    :raises ValueError: where the protocol has none.

    >>> datatype_of(np.dtype(np.float32))
    'FP32'
    """
    if dtype.kind in "SU":
        return "BYTES"
    try:
        return _NAMES[dtype.newbyteorder("=")]
    except KeyError:
        wanted = ", ".join(DATATYPES)
        raise ValueError(f"got an array of {dtype}, wanted one of {wanted}") from None


@frozen
class TensorSpec:
    """A tensor's name, its datatype, and its shape with -1 for each side that is open."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return DATATYPES[self.datatype]

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape will do.

        >>> TensorSpec("x", "FP32", (-1, 4)).admits((7, 4))
        True
        """
        return len(shape) == len(self.shape) and all(
            side in (-1, got) for side, got in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        sides = ", ".join("?" if side < 0 else str(side) for side in self.shape)
        return f"{self.datatype}[{sides}]"

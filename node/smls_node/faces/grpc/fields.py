# SPDX-License-Identifier: MIT
"""The numbers in a message's repeated fields as arrays, and back. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.tensorbytes import to_bytes
from smls_node.faces.grpc.encoding import cut, delimited, joined

FIXED = {np.dtype(np.float32), np.dtype(np.float64)}
"""Numbers that a packed field holds as they lie in memory; others are varints."""


def from_field(where: str, message: Any, field: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The numbers of the repeated field ``field``, one after the other.

    :raises BadRequest: where one does not fit into ``dtype``; ``where`` begins the message.
    """
    values = getattr(message, field)
    if dtype in FIXED:
        _, cuts = cut(message.SerializeToString(), _number(message, field))
        if cuts:
            return np.frombuffer(joined(cuts), dtype.newbyteorder("<"))
    if dtype.kind in "fb":
        return np.fromiter(values, dtype, len(values))
    wide = np.fromiter(values, np.uint64 if dtype == np.uint64 else np.int64, len(values))
    bounds = np.iinfo(dtype)
    if wide.size and not (bounds.min <= wide.min() and wide.max() <= bounds.max):
        raise BadRequest(
            f"{where}: got {wide.min()} to {wide.max()} in {field}, wanted {dtype}: "
            f"{bounds.min} to {bounds.max}"
        )
    return wide.astype(dtype)


def to_field(message: Any, field: str, array: NDArray[Any]) -> None:
    """Puts the numbers of ``array`` into the repeated field ``field``."""
    if array.dtype in FIXED:
        message.MergeFromString(delimited(_number(message, field), bytes(to_bytes(array))))
    else:
        getattr(message, field).extend(array.reshape(-1).tolist())


def texts(values: Any) -> NDArray[Any]:
    """The texts of a repeated field of bytes as an array of BYTES."""
    array = np.empty(len(values), np.object_)
    array[:] = list(values)
    return array


def _number(message: Any, field: str) -> int:
    return int(message.DESCRIPTOR.fields_by_name[field].number)

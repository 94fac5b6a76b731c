# SPDX-License-Identifier: MIT
"""One tensor's shape, datatype and bytes, as the Open Inference Protocol has them. Pure.

Bytes are little-endian, the last side running fastest. BOOL is one byte, each element of BYTES
comes after its length in four.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.tensors import DATATYPES

Buffer = bytes | bytearray | memoryview

MAX_SIDES = 64
"""numpy's."""

_LENGTH = Struct("<I")


def kind_of(where: str, datatype: object) -> np.dtype[Any]:
    """What numpy calls ``datatype``.

    :raises BadRequest: where there is none of that name; ``where`` begins the message, here as
        everywhere below.
    """
    if isinstance(datatype, str) and datatype in DATATYPES:
        return DATATYPES[datatype]
    wanted = ", ".join(DATATYPES)
    raise BadRequest(f"{where}: datatype: got {shown(datatype)}, wanted one of {wanted}")


def shape_of(where: str, shape: object) -> tuple[int, ...]:
    """``shape`` where it is a list of whole numbers from 0.

    :raises BadRequest: where it is not.
    """
    if isinstance(shape, list | tuple) and len(shape) <= MAX_SIDES:
        sides = [side for side in shape if isinstance(side, int) and not isinstance(side, bool)]
        if len(sides) == len(shape) and all(0 <= side < 1 << 63 for side in sides):
            return tuple(sides)
    raise BadRequest(
        f"{where}: shape: got {shown(shape)}, wanted a list of {MAX_SIDES} whole numbers from 0 "
        "at most"
    )


def shaped(where: str, array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """``array`` in that shape, which has as many elements.

    :raises BadRequest: where numpy has no such arrays.
    """
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise BadRequest(f"{where}: shape: got {list(shape)}: {error}") from None


def from_bytes(where: str, datatype: str, shape: Sequence[int], data: Buffer) -> NDArray[Any]:
    """The array that ``data`` is; but for BYTES it lies in there.

    :raises BadRequest: where there are more or fewer bytes than the shape needs.
    """
    kind, count = kind_of(where, datatype), prod(shape)
    if kind.hasobject:
        return shaped(where, _texts(where, count, memoryview(data)), shape)
    size = kind.itemsize * count
    if len(data) != size:
        raise BadRequest(
            f"{where}: got {len(data)} bytes, wanted {size}: {datatype} of shape {list(shape)}"
        )
    array = np.frombuffer(data, kind.newbyteorder("<"))
    if kind.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise BadRequest(f"{where}: got bytes above 1, wanted 0 or 1 for each BOOL")
    return shaped(where, array, shape)


def to_bytes(array: NDArray[Any]) -> Buffer:
    """What is in ``array``; a view of it where it lies as it has to.

    :raises ValueError: where it is of nothing that the protocol has.
    """
    if array.dtype.kind in "OSU":
        parts: list[bytes] = []
        for text in texts_of(array):
            parts += (_LENGTH.pack(len(text)), text)
        return b"".join(parts)
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def texts_of(array: NDArray[Any]) -> list[bytes]:
    """The elements of an array of texts or bytes, in their order.

    :raises ValueError: where one of them is neither.
    """
    return [_encoded(each) for each in array.reshape(-1).tolist()]


def shown(value: Any, most: int = 60) -> str:
    """``value`` as a message shows it.

    >>> shown("x" * 99, 10)
    "'xxxxxx..."
    """
    if hasattr(value, "as_buffer"):
        return "a list"
    text = repr(value[:most] if isinstance(value, str | bytes | list | tuple) else value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _texts(where: str, count: int, data: memoryview) -> NDArray[Any]:
    texts: list[bytes] = []
    position, end = 0, len(data)
    while position < end and len(texts) < count:
        begin = position + _LENGTH.size
        position = begin + _LENGTH.unpack_from(data, position)[0] if begin <= end else end + 1
        if position > end:
            raise BadRequest(f"{where}: got {end} bytes, which end within element {len(texts)}")
        texts.append(bytes(data[begin:position]))
    if len(texts) != count or position != end:
        got = len(texts) if position == end else f"{end - position} bytes more than {count}"
        raise BadRequest(f"{where}: got {got} elements of BYTES, wanted {count}")
    array = np.empty(count, np.object_)
    array[:] = texts
    return array


def _encoded(element: object) -> bytes:
    if isinstance(element, bytes):
        return element
    if isinstance(element, str):
        return element.encode()
    raise ValueError(f"got {shown(element)} in an array, wanted texts or bytes")

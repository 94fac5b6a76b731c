# SPDX-License-Identifier: MIT
"""TensorFlow's ``TensorProto`` as an array, and back. Pure.

A tensor is sent as bytes in ``tensor_content``, or as values in the field of its kind. Of values
there may be fewer than the shape has places: the last one fills the rest, and nothing is zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.tensorbytes import from_bytes, shape_of, shaped, texts_of
from smls.tensors import DATATYPES, TensorSpec, datatype_of
from smls_node.faces.grpc.fields import from_field, texts, to_field
from smls_node.faces.grpc.messages import message
from smls_node.signature import zeros

TensorProto = message("tensorflow.TensorProto")

_TYPES = TensorProto.DESCRIPTOR.fields_by_name["dtype"].enum_type

_KINDS = {
    "DT_FLOAT": ("FP32", "float_val"),
    "DT_DOUBLE": ("FP64", "double_val"),
    "DT_INT32": ("INT32", "int_val"),
    "DT_UINT8": ("UINT8", "int_val"),
    "DT_INT16": ("INT16", "int_val"),
    "DT_INT8": ("INT8", "int_val"),
    "DT_STRING": ("BYTES", "string_val"),
    "DT_INT64": ("INT64", "int64_val"),
    "DT_BOOL": ("BOOL", "bool_val"),
    "DT_UINT16": ("UINT16", "int_val"),
    "DT_HALF": ("FP16", "half_val"),
    "DT_UINT32": ("UINT32", "uint32_val"),
    "DT_UINT64": ("UINT64", "uint64_val"),
}
"""Each of TensorFlow's types that is known here: the Open Inference Protocol's name for it, and
the field of its values."""

_BY_NUMBER = {_TYPES.values_by_name[name].number: kind for name, kind in _KINDS.items()}
_NUMBERS = {datatype: number for number, (datatype, _) in _BY_NUMBER.items()}


def to_array(where: str, proto: Any, max_bytes: int) -> NDArray[Any]:
    """The array that ``proto`` holds, of ``max_bytes`` at most once its values are spread out.

    :raises BadRequest: beginning with ``where``, what was got and what was wanted.
    """
    if proto.dtype not in _BY_NUMBER:
        known = _TYPES.values_by_number.get(proto.dtype)
        got = known.name if known else proto.dtype
        raise BadRequest(f"{where}: dtype: got {got}, wanted one of {', '.join(_KINDS)}")
    datatype, field = _BY_NUMBER[proto.dtype]
    if proto.tensor_shape.unknown_rank:
        raise BadRequest(f"{where}: tensor_shape: got an unknown rank, wanted all sides")
    shape = shape_of(where, [int(dim.size) for dim in proto.tensor_shape.dim])
    if proto.tensor_content:
        if datatype == "BYTES":
            raise BadRequest(f"{where}: got texts in tensor_content, wanted them in {field}")
        return from_bytes(where, datatype, shape, proto.tensor_content)
    count = prod(shape)
    if count * DATATYPES[datatype].itemsize > max_bytes:
        raise BadRequest(f"{where}: shape: got {list(shape)}, wanted {max_bytes} bytes at most")
    values = _values(where, proto, datatype, field)
    if len(values) > count:
        raise BadRequest(
            f"{where}: got {len(values)} values in {field}, wanted {count} at most "
            f"for shape {list(shape)}"
        )
    return shaped(where, _spread(values, count), shape)


def from_array(array: NDArray[Any]) -> Any:
    """``array`` as a ``TensorProto`` with its values in the field of their kind, where clients
    in any language look for them."""
    datatype = datatype_of(array.dtype)
    proto = TensorProto(dtype=_NUMBERS[datatype])
    set_shape(proto.tensor_shape, array.shape)
    _, field = _BY_NUMBER[proto.dtype]
    if datatype == "BYTES":
        proto.string_val.extend(texts_of(array))
    else:
        to_field(proto, field, array.view(np.uint16) if datatype == "FP16" else array)
    return proto


def describe(info: Any, spec: TensorSpec) -> None:
    """Puts ``spec`` into a ``TensorInfo``."""
    info.name = f"{spec.name}:0"
    info.dtype = _NUMBERS[spec.datatype]
    set_shape(info.tensor_shape, spec.shape)


def set_shape(proto: Any, shape: Sequence[int]) -> None:
    """Puts ``shape``, with -1 for an open side, into a ``TensorShapeProto``."""
    for side in shape:
        proto.dim.add(size=side)


def _values(where: str, proto: Any, datatype: str, field: str) -> NDArray[Any]:
    if datatype == "BYTES":
        return texts(proto.string_val)
    if datatype == "FP16":
        return from_field(where, proto, field, np.dtype(np.uint16)).view(np.float16)
    return from_field(where, proto, field, DATATYPES[datatype])


def _spread(values: NDArray[Any], count: int) -> NDArray[Any]:
    """``values``, and the last of them until there are ``count``; zeros or no text for none."""
    if len(values) == count:
        return values
    last = values[-1:] if len(values) else zeros(TensorSpec("", datatype_of(values.dtype), (1,)))
    return np.concatenate([values, np.repeat(last, count - len(values))])

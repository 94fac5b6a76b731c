# SPDX-License-Identifier: MIT
"""The tensors of the Open Inference Protocol's ``ModelInfer`` as arrays. Pure.

A request sends its tensors as numbers in ``contents``, or as bytes in ``raw_input_contents``, one
for each input in their order, and is answered in the same way. FP16 has no field in ``contents``,
so an answer that has some is sent as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.inference import check_sent
from smls.tensorbytes import Buffer, from_bytes, kind_of, shape_of, shaped, texts_of, to_bytes
from smls.tensors import Tensors, datatype_of
from smls_node.faces.grpc.encoding import cut, head
from smls_node.faces.grpc.fields import from_field, texts, to_field
from smls_node.faces.grpc.messages import message

Request = message("inference.ModelInferRequest")

_RAW_INPUTS = int(Request.DESCRIPTOR.fields_by_name["raw_input_contents"].number)

_RAW_OUTPUTS = int(
    message("inference.ModelInferResponse").DESCRIPTOR.fields_by_name["raw_output_contents"].number
)

_FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def split(data: bytes) -> tuple[bytes, list[memoryview]]:
    """A ``ModelInferRequest`` without its raw tensors, and these, which are not copied."""
    return cut(data, _RAW_INPUTS)


def read(request: Any, raw: Sequence[memoryview]) -> Tensors:
    """The inputs of a ``ModelInferRequest``; those sent as bytes lie in ``raw``.

    :raises BadRequest: naming the input, what was got and what was wanted.
    :raises Unsupported: where an input lies in shared memory.
    """
    raw = [*(memoryview(each) for each in request.raw_input_contents), *raw]
    inputs = request.inputs
    for each in inputs:
        check_sent(f"input {each.name}", each.parameters)
    if raw and len(raw) != len(inputs):
        raise BadRequest(
            f"raw_input_contents: got {len(raw)}, wanted one for each of {len(inputs)} inputs"
        )
    tensors: dict[str, NDArray[Any]] = {}
    for index, each in enumerate(inputs):
        where = f"input {each.name}"
        if each.name in tensors:
            raise BadRequest(f"{where}: got it twice, wanted it once")
        shape = shape_of(where, tuple(each.shape))
        if not raw:
            tensors[each.name] = _from_contents(where, each.contents, each.datatype, shape)
        elif each.contents.ListFields():
            raise BadRequest(f"{where}: got contents beside raw_input_contents, wanted one of them")
        else:
            tensors[each.name] = from_bytes(where, each.datatype, shape, raw[index])
    return tensors


def write(response: Any, outputs: Tensors, *, raw: bool) -> bytes:
    """A ``ModelInferResponse`` with ``outputs`` in it, as bytes with ``raw`` or where some are
    FP16; these are copied once, when it is put together."""
    named = {name: datatype_of(array.dtype) for name, array in outputs.items()}
    pieces: list[Buffer] = []
    raw = raw or any(datatype not in _FIELDS for datatype in named.values())
    for name, datatype in named.items():
        array = outputs[name]
        told = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            pieces.append(to_bytes(array))
        elif datatype == "BYTES":
            told.contents.bytes_contents.extend(texts_of(array))
        else:
            to_field(told.contents, _FIELDS[datatype], array)
    heads = [head(_RAW_OUTPUTS, len(piece)) for piece in pieces]
    fields = [part for both in zip(heads, pieces, strict=True) for part in both]
    return b"".join([response.SerializeToString(), *fields])


def _from_contents(
    where: str, contents: Any, datatype: str, shape: tuple[int, ...]
) -> NDArray[Any]:
    dtype = kind_of(where, datatype)
    if datatype not in _FIELDS:
        raise BadRequest(f"{where}: got {datatype} in contents, wanted it in raw_input_contents")
    field = _FIELDS[datatype]
    got, wanted = len(getattr(contents, field)), prod(shape)
    if got != wanted:
        raise BadRequest(
            f"{where}: got {got} values in {field}, wanted {wanted} for shape {list(shape)}"
        )
    if datatype == "BYTES":
        return shaped(where, texts(contents.bytes_contents), shape)
    return shaped(where, from_field(where, contents, field, dtype), shape)

# SPDX-License-Identifier: MIT
"""JSON with NaN and Infinity, and the tensors in it, as TensorFlow Serving's REST takes and gives
them. Pure.

orjson knows neither token. A text that holds one is read by Python's own ``json``, at half the
speed; an array that holds such numbers is written by orjson all the same, and its nulls, of which
numbers have no others, are replaced.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.tensorbytes import MAX_SIDES
from smls.tensorjson import TYPES, narrow
from smls.tensors import DATATYPES

SHOWN_CHARACTERS = 256
"""So much of a value that is at fault is shown, as TensorFlow Serving does."""

_BINARY = "b64"

_KINDS = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}
"""The kinds of arrays that numpy may find in JSON where one of the kind is wanted."""

_NAMES = {
    "FP16": "half",
    "FP32": "float",
    "FP64": "double",
    "BYTES": "string",
}

_JSON_NAMES = {
    type(None): "Null",
    bool: "Boolean",
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}


def read(body: bytes | memoryview) -> Any:
    """What the JSON text ``body`` holds.

    :raises BadRequest: where it is none, telling where it ends to be.
    """
    if not len(body):
        raise BadRequest("JSON Parse error: The document is empty.")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        text = bytes(body)
        if b"NaN" not in text and b"Infinity" not in text:
            raise BadRequest(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRequest(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"JSON Parse error: {error}") from None


def write(value: Any) -> bytes:
    """``value`` as JSON; arrays in it are what ``plain`` gives."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def is_binary(value: Any) -> bool:
    """Whether ``value`` is ``{"b64": text}``, which stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_BINARY), str)


def binary(value: Any) -> bytes:
    """The bytes of a text, or of ``{"b64": text}``.

    :raises ValueError: where it is neither, or no base64.
    """
    if isinstance(value, str):
        return value.encode()
    if not is_binary(value):
        raise ValueError(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    text = "".join(value[_BINARY].split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("Unable to base64 decode") from None


def array(value: Any, datatype: str | None) -> NDArray[Any]:
    """The tensor that ``value``, a scalar or lists in lists, spells.

    Where ``datatype`` is ``None`` it is what the values look like: BYTES, BOOL, INT64 or FP64.

    :raises BadRequest: where a value is of another type or cannot be held, or the lists are of
        different lengths.
    """
    sides = len(shape_of(value))
    if sides > MAX_SIDES:
        raise BadRequest(f"got lists in lists {sides} deep, wanted {MAX_SIDES} at most")
    try:
        return _array(value, datatype or _looks(value))
    except (ValueError, OverflowError) as error:
        told = fault(value, datatype) if datatype else None
        raise BadRequest(told or str(error)) from None


def fault(value: Any, datatype: str) -> str | None:
    """What is wrong with ``value`` as a tensor of ``datatype``, as TensorFlow Serving says it."""
    shape = shape_of(value)
    waiting = [(value, 0)]
    while waiting:
        each, level = waiting.pop()
        if not isinstance(each, list):
            if level != len(shape):
                return (
                    f"JSON Value: {shown(each)} found at incorrect level: {level + 1} in the JSON "
                    f"DOM. Expected at level: {len(shape)}"
                )
            told = _leaf_fault(each, datatype)
            if told is not None:
                return told
            continue
        if level >= len(shape):
            return f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        if len(each) != shape[level]:
            return (
                f"Encountered list at unexpected size: {len(each)} at level: {level} "
                f"expected size: {shape[level]}"
            )
        waiting += [(child, level + 1) for child in reversed(each)]
    return None


def shape_of(value: Any) -> tuple[int, ...]:
    """The lengths of the lists in ``value``, as its first elements tell.

    >>> shape_of([[1, 2], [3, 4], [5, 6]])
    (3, 2)
    """
    sides = []
    while isinstance(value, list):
        sides.append(len(value))
        value = value[0] if value else None
    return tuple(sides)


def shown(value: Any) -> str:
    """``value`` as JSON, cut off where it is long."""
    try:
        text = json.dumps(value)
    except (ValueError, TypeError, RecursionError):
        text = json_name(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def json_name(value: Any) -> str:
    """What JSON calls the type of ``value``."""
    return _JSON_NAMES.get(type(value), type(value).__name__)


def plain(tensor: NDArray[Any], *, as_binary: bool = False) -> Any:
    """What ``write`` takes for ``tensor``.

    Texts are texts, or ``{"b64": text}`` where ``as_binary`` says so or they are no UTF-8.
    """
    if tensor.dtype.kind in "OSU":
        return _written(tensor.tolist(), as_binary)
    if tensor.dtype == np.float16:
        tensor = tensor.astype(np.float32)
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        return orjson.Fragment(_with_tokens(tensor))
    if tensor.ndim == 0:
        return tensor[()]
    return tensor if tensor.flags.c_contiguous else tensor.copy(order="C")


def _array(value: Any, datatype: str) -> NDArray[Any]:
    if datatype == "BYTES":
        return _texts(value)
    dtype = DATATYPES[datatype]
    found = np.array(value)
    if found.size and found.dtype.kind not in _KINDS[dtype.kind]:
        told = fault(value, datatype)
        if told is not None:
            raise ValueError(told)
        # Whole numbers of 64 bits, which numpy takes for floats where there are small ones too.
        return np.array(value, dtype)
    return narrow(found, dtype)


def _texts(value: Any) -> NDArray[Any]:
    found = np.array(value, np.object_)
    flat = found.reshape(-1)
    for place, each in enumerate(flat):
        flat[place] = binary(each)
    return flat.reshape(found.shape)


def _looks(value: Any) -> str:
    first = next(_leaves(value), 0.0)
    if isinstance(first, (str, dict)):
        return "BYTES"
    if isinstance(first, bool):
        return "BOOL"
    return "INT64" if np.array(value).dtype.kind in "iu" else "FP64"


def _leaves(value: Any) -> Iterator[Any]:
    while isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, list):
        yield value


def _leaf_fault(value: Any, datatype: str) -> str | None:
    dtype = DATATYPES[datatype]
    told = (
        f"JSON Value: {shown(value)} Type: {json_name(value)} is not of expected type: "
        f"{_NAMES.get(datatype, datatype.lower())}"
    )
    if dtype.kind == "O" and isinstance(value, dict):
        try:
            binary(value)
        except ValueError as error:
            return str(error)
        return None
    if type(value) not in TYPES[dtype.kind]:
        return told
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        return told
    if dtype.kind == "f" and abs(value) > float(np.finfo(dtype).max) and abs(value) != np.inf:
        return told
    return None


def _with_tokens(tensor: NDArray[Any]) -> bytes:
    """``tensor`` as JSON with NaN, Infinity and -Infinity in it."""
    tokens = [_token(number) for number in tensor[~np.isfinite(tensor)].flat]
    if tensor.ndim == 0:
        return tokens[0]
    contiguous = tensor if tensor.flags.c_contiguous else tensor.copy(order="C")
    first, *rest = orjson.dumps(contiguous, option=orjson.OPT_SERIALIZE_NUMPY).split(b"null")
    pieces = [first]
    for token, piece in zip(tokens, rest, strict=True):
        pieces += (token, piece)
    return b"".join(pieces)


def _token(number: float) -> bytes:
    if np.isnan(number):
        return b"NaN"
    return b"Infinity" if number > 0 else b"-Infinity"


def _written(value: Any, as_binary: bool) -> Any:
    if isinstance(value, list):
        return [_written(each, as_binary) for each in value]
    data = value.encode() if isinstance(value, str) else value
    if not as_binary:
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    return {_BINARY: base64.b64encode(data).decode("ascii")}

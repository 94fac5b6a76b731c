# SPDX-License-Identifier: MIT
"""One tensor in JSON, as the Open Inference Protocol has it: a list of numbers, truth values or
texts, nested as the shape says or flat. Pure.

It is read by simdjson where that is installed, straight into an array, and otherwise by Python's
own module into lists first; so is a text with NaN or Infinity in it, which Triton's clients send.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.tensorbytes import MAX_SIDES, Buffer, kind_of, shaped, shown, texts_of

PIECE = 1 << 16
"""Numbers that are written at once, in 3 ms: no other thread runs meanwhile."""

TOKENS = (b"NaN", b"Infinity")
"""What strict JSON has not."""

TYPES: dict[str, tuple[type, ...]] = {
    "f": (int, float),
    "i": (int,),
    "u": (int,),
    "b": (bool,),
    "O": (str,),
}
"""What an element of each of numpy's kinds is in JSON."""

OF_TYPE = {"f": "d", "i": "i", "u": "u"}
WIDEST = {"f": np.float64, "i": np.int64, "u": np.uint64, "b": np.bool_}
_WANTED = {
    "f": "numbers",
    "i": "whole numbers that fit",
    "u": "whole numbers from 0 that fit",
    "b": "true or false",
    "O": "texts",
}


def parse(
    where: str, text: Buffer, keys: Iterable[str], item_keys: Iterable[str]
) -> dict[str, Any]:
    """What stands under ``keys`` in the object that ``text`` is in JSON, ``null`` left out; of
    objects in the lists there, what stands under ``item_keys``. Their ``data`` is left for
    ``from_json``.

    :raises BadRequest: where it is no object, or no JSON.
    """
    found: Any
    try:
        import simdjson
    except ImportError:
        found = _parse_plainly(where, text)
        listed = isinstance(found, dict)
    else:
        try:
            found = simdjson.Parser().parse(text)
            listed = isinstance(found, simdjson.Object)
            if listed:
                found = {key: _listed(found.get(key), item_keys) for key in keys}
        except (ValueError, RuntimeError) as error:
            if not any(token in bytes(text) for token in TOKENS):
                raise BadRequest(f"{where}: got no JSON that can be read: {error}") from None
            found = _parse_plainly(where, text)
            listed = isinstance(found, dict)
    if not listed:
        raise BadRequest(f"{where}: got {shown(found)}, wanted an object")
    return {key: value for key in keys if (value := found.get(key)) is not None}


def from_json(where: str, datatype: str, shape: Sequence[int], data: Any) -> NDArray[Any]:
    """The array of what ``parse`` has left under ``data``.

    :raises BadRequest: where there are more or fewer elements than the shape needs, or one of
        them is of another kind, or too large for it.
    """
    kind = kind_of(where, datatype)
    if not isinstance(data, list) and not hasattr(data, "as_buffer"):
        raise BadRequest(f"{where}: data: got {shown(data)}, wanted a list")
    _check_nesting(where, shape, data)
    if kind.kind in "fiu" and not isinstance(data, list):
        try:
            buffer = data.as_buffer(of_type=OF_TYPE[kind.kind])
        except (TypeError, ValueError):
            raise _mixed(where, kind) from None
        wide: NDArray[Any] = np.frombuffer(buffer, WIDEST[kind.kind])
    else:
        wide = _from_list(where, data, kind)
    try:
        array = narrow(wide, kind)
    except OverflowError:
        raise _too_large(where, kind) from None
    if array.size != prod(shape):
        raise BadRequest(
            f"{where}: data: got {array.size} elements, wanted {prod(shape)}: shape {list(shape)}"
        )
    return shaped(where, array, shape)


def to_json(where: str, array: NDArray[Any]) -> bytes:
    """The elements of ``array`` as a flat list; what is no number (NaN, infinities) is ``null``.

    :raises BadRequest: where texts are not UTF-8, which JSON cannot tell.
    """
    if array.dtype.kind in "OSU":
        try:
            return json.dumps([text.decode() for text in texts_of(array)]).encode()
        except UnicodeDecodeError:
            raise BadRequest(
                f"{where}: its bytes are no text, so JSON cannot hold them; ask for binary data"
            ) from None
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1)
    pieces = [native[begin : begin + PIECE] for begin in range(0, len(native), PIECE)]
    return b"[%b]" % b",".join(map(_numbers, pieces))


def narrow(array: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """``array`` as ``kind``.

    :raises OverflowError: where a number in it is too large for that.
    """
    if kind.kind in "iu" and array.size and array.dtype != kind:
        bounds = np.iinfo(kind)
        if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
            raise OverflowError(f"got a number outside of {bounds.min} to {bounds.max}")
    try:
        with np.errstate(over="raise"):
            return array.astype(kind, copy=False)
    except FloatingPointError:
        raise OverflowError(f"got a number that does not fit into {kind}") from None


def _numbers(piece: NDArray[Any]) -> bytes:
    """The numbers, with commas between them."""
    try:
        import orjson
    except ImportError:
        listed = [each if isfinite(each) else None for each in piece.tolist()]
        return json.dumps(listed).encode()[1:-1]
    return orjson.dumps(piece, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def _listed(value: Any, keys: Iterable[str]) -> Any:
    """A value of simdjson's as Python's own, but for the ``data`` of the objects in a list.

    Objects are asked for these keys alone: to ask for all of them takes time as their square.
    """
    import simdjson

    if not isinstance(value, simdjson.Array):
        return _plain(value)
    return [
        {
            key: each if key == "data" else _plain(each)
            for key in keys
            if (each := item.get(key)) is not None
        }
        if isinstance(item, simdjson.Object)
        else _plain(item)
        for item in value
    ]


def _plain(value: Any) -> Any:
    if hasattr(value, "as_list"):
        return value.as_list()
    return value.as_dict() if hasattr(value, "as_dict") else value


def _parse_plainly(where: str, text: Buffer) -> Any:
    try:
        return json.loads(bytes(text), parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{where}: got no JSON that can be read: {error}") from None


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:80]} is too large for a number of 64 bits")
    return number


def _check_nesting(where: str, shape: Sequence[int], data: Any) -> None:
    """Raises where lists are nested, and not as the shape says."""
    sides: list[int] = []
    while isinstance(data, list) or hasattr(data, "as_buffer"):
        sides.append(len(data))
        if not sides[-1] or len(sides) > MAX_SIDES:
            break
        data = data[0]
    if len(sides) > 1 and sides != list(shape):
        raise BadRequest(
            f"{where}: data: got lists of shape {sides}, wanted {list(shape)} or one flat list"
        )


def _from_list(where: str, data: Any, kind: np.dtype[Any]) -> NDArray[Any]:
    elements = _plain(data)
    while elements and all(isinstance(each, list) for each in elements):
        elements = [each for inner in elements for each in inner]
    if not all(type(each) in TYPES[kind.kind] for each in elements):
        raise _mixed(where, kind)
    if kind.hasobject:
        return _texts(where, elements)
    try:
        array: NDArray[Any] = np.array(elements, WIDEST[kind.kind])
    except OverflowError:
        raise _too_large(where, kind) from None
    return array


def _texts(where: str, elements: list[str]) -> NDArray[Any]:
    array = np.empty(len(elements), np.object_)
    try:
        array[:] = [each.encode() for each in elements]
    except UnicodeEncodeError:
        raise BadRequest(f"{where}: data: got half a surrogate pair, wanted texts") from None
    return array


def _mixed(where: str, kind: np.dtype[Any]) -> BadRequest:
    return BadRequest(
        f"{where}: data: got something else among its elements, wanted {_WANTED[kind.kind]}"
    )


def _too_large(where: str, kind: np.dtype[Any]) -> BadRequest:
    return BadRequest(f"{where}: data: got a number that does not fit into {kind}")

# SPDX-License-Identifier: MIT
"""Large bodies of one tensor of numbers, straight into an array: simdjson reads the numbers, and
numpy finds from the text whether its lists are of the same lengths. Pure.

Whatever else a body may be is left to ``tfvalues``, which makes Python's values of it and knows
what to tell of its faults; that takes three times as long, and Python's lock all the while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from smls.tensorbytes import MAX_SIDES
from smls.tensorjson import OF_TYPE, WIDEST, narrow
from smls.tensors import DATATYPES
from smls_node.signature import DEFAULT, Signature

LARGE = 1 << 16
"""Bodies with fewer bytes are read in less than a millisecond either way."""

KEYS = {"instances", "inputs"}


@frozen(eq=False)
class Large:
    """The tensor under ``key``, for the only input of the signature."""

    signature: str
    key: str
    array: NDArray[Any]


def read(body: memoryview | bytes, signatures: Mapping[str, Signature]) -> Large | None:
    """What ``body`` holds, where it is large and holds nothing but numbers for one input."""
    if len(body) < LARGE:
        return None
    try:
        import simdjson
    except ImportError:
        return None
    try:
        return _large(body, simdjson.Parser().parse(body), signatures)
    except (ValueError, RuntimeError, TypeError, OverflowError, LookupError, AttributeError):
        # No such numbers: who reads it into Python's values tells what it is instead.
        return None


def _large(
    body: memoryview | bytes, document: Any, signatures: Mapping[str, Signature]
) -> Large | None:
    (key,) = set(document.keys()) - {"signature_name"}
    name = document.get("signature_name") or DEFAULT
    if key not in KEYS or name not in signatures or len(signatures[name].inputs) != 1:
        return None
    kind = DATATYPES[signatures[name].inputs[0].datatype]
    if kind.kind not in OF_TYPE:
        return None
    shape = _shape(document[key])
    wide: NDArray[Any] = np.frombuffer(
        document[key].as_buffer(of_type=OF_TYPE[kind.kind]), WIDEST[kind.kind]
    )
    if not wide.size or wide.size != prod(shape) or not is_regular(body, shape):
        return None
    return Large(name, key, narrow(wide, kind).reshape(shape))


def _shape(value: Any) -> tuple[int, ...]:
    sides = []
    while hasattr(value, "as_buffer"):
        sides.append(len(value))
        value = value[0]
    if len(sides) > MAX_SIDES:
        raise ValueError("too many sides")
    return tuple(sides)


def is_regular(body: memoryview | bytes, shape: Sequence[int]) -> bool:
    """Whether the lists from the first bracket of the JSON text ``body`` to its last one have
    ``shape``, where they hold nothing but numbers.

    Between two neighbours stand a comma and as many closing, then opening brackets as sides end
    there. More commas than that, such as those of a further key, are no lists of this shape.
    """
    text = np.frombuffer(body, np.uint8)
    commas = np.flatnonzero(text == ord(","))
    begin, end = _ends(text)
    commas = commas[(commas > begin) & (commas < end)]
    count = prod(shape)
    if len(commas) != count - 1:
        return False
    ending = np.zeros(count - 1, np.uint8)
    for side in range(1, len(shape)):
        size = prod(shape[side:])
        ending[size - 1 :: size] += 1
    edges = np.concatenate([[begin], commas])
    closing = np.add.reduceat((text[: end + 1] == ord("]")).view(np.uint8), edges)
    opening = np.add.reduceat((text[: end + 1] == ord("[")).view(np.uint8), edges)
    return bool(
        opening[0] == closing[-1] == len(shape)
        and (closing[:-1] == ending).all()
        and (opening[1:] == ending).all()
    )


def _ends(text: NDArray[np.uint8]) -> tuple[int, int]:
    """The places of the first opening and the last closing bracket."""
    begin = int(np.argmax(text == ord("[")))
    return begin, len(text) - 1 - int(np.argmax(text[::-1] == ord("]")))

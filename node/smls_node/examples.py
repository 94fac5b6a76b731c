# SPDX-License-Identifier: MIT
"""TensorFlow's Examples, which are features by name, as a signature's inputs; and its outputs as
classes and regressions. Pure, and the same for REST and gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.tensors import Tensors, TensorSpec
from smls_node.signature import Signature

Feature = Sequence[bytes] | Sequence[float] | Sequence[int]
"""The values of a feature, all of one type."""

Example = Mapping[str, Feature]

CLASSES, SCORES, OUTPUTS = "classes", "scores", "outputs"
"""What the outputs of signatures to classify and to regress are called."""

ClassScore = tuple[str, float]
"""A class and its score; the class is empty where the model names none, the score 0."""


def inputs_of(examples: Sequence[Example], signature: Signature) -> Tensors:
    """The signature's inputs for ``examples``, one row each.

    A signature with one input of texts, none of which is a feature, parses serialized Examples
    by itself, as TensorFlow's do. Any other takes the features by their names; one with a single
    input takes examples of a single feature, whatever its name.

    :raises BadRequest: where a feature is missing or unknown, or has too few or too many values.
    """
    specs = signature.inputs
    if not examples:
        raise BadRequest("Input is empty.")
    if len(specs) == 1 and not any(specs[0].name in example for example in examples):
        if specs[0].datatype == "BYTES":
            rows = np.empty(len(examples), np.object_)
            rows[:] = [serialized(example) for example in examples]
            return {specs[0].name: rows}
        if all(len(example) == 1 for example in examples):
            return {specs[0].name: _column(specs[0], [next(iter(e.values())) for e in examples])}
    names = [spec.name for spec in specs]
    for number, example in enumerate(examples):
        if set(example) != set(names):
            raise BadRequest(
                f"example {number}: got features {', '.join(example) or 'none'}, "
                f"wanted {', '.join(names)}"
            )
    return {
        spec.name: _column(spec, [example[spec.name] for example in examples]) for spec in specs
    }


def images_in(examples: Sequence[Example]) -> tuple[bytes, ...] | None:
    """The images, where each example has one feature and that one value of bytes."""
    found = []
    for example in examples:
        values = next(iter(example.values()), ())
        if len(example) != 1 or len(values) != 1 or not isinstance(values[0], bytes):
            return None
        found.append(values[0])
    return tuple(found)


def classifications(outputs: Tensors, rows: int) -> list[list[ClassScore]]:
    """The classes of each row with their scores, in the model's order.

    :raises BadRequest: where the outputs are not those of a signature to classify.
    """
    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    found = [each for each in (classes, scores) if each is not None]
    if not found:
        raise BadRequest(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or '
            f'"{SCORES}". Got: {", ".join(outputs)}'
        )
    for each in found:
        if each.ndim != 2 or len(each) != rows or each.shape != found[0].shape:
            raise BadRequest(
                f"Expected Tensor shape: [batch_size num_classes] but got {list(each.shape)}"
            )
    shape = found[0].shape
    labels = [[""] * shape[1]] * rows if classes is None else [_texts(row) for row in classes]
    values = np.zeros(shape, np.float32) if scores is None else scores
    return [
        list(zip(names, row, strict=True))
        for names, row in zip(labels, values.astype(np.float32).tolist(), strict=True)
    ]


def regressions(outputs: Tensors, rows: int) -> list[float]:
    """The value of each row.

    :raises BadRequest: where the outputs are not those of a signature to regress.
    """
    values = outputs.get(OUTPUTS)
    if values is None:
        raise BadRequest(
            f"No regression outputs found in SignatureDef: got {', '.join(outputs)}, "
            f"wanted {OUTPUTS}"
        )
    if values.shape not in ((rows,), (rows, 1)):
        raise BadRequest(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{list(values.shape)}"
        )
    if values.dtype.kind != "f":
        raise BadRequest(f"Expected output Tensor of DT_FLOAT.  Got: {values.dtype}")
    return [float(value) for value in values.reshape(rows)]


def serialized(example: Example) -> bytes:
    """``example`` as the bytes of a ``tensorflow.Example``.

    Its fields are message 1 ``features``, in it a map 1 ``feature`` of texts and messages, in
    each of these one list: 1 of bytes, 2 of floats, 3 of whole numbers of 64 bits.
    """
    entries = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _feature(values)))
        for name, values in example.items()
    )
    return _field(1, entries)


def _column(spec: TensorSpec, values: Sequence[Feature]) -> NDArray[Any]:
    """``values`` as one row each of what ``spec`` describes."""
    row = spec.shape[1:]
    wanted = f"input {spec.name}: got values %s, wanted {spec}"
    kinds = {type(each) for value in values for each in value}
    if (bytes in kinds) != (spec.datatype == "BYTES") and kinds:
        raise BadRequest(wanted % ("of bytes" if bytes in kinds else "that are no bytes"))
    if float in kinds and spec.dtype.kind != "f":
        raise BadRequest(wanted % "with decimal points")
    try:
        return np.array(values, spec.dtype).reshape(len(values), *row)
    except (ValueError, OverflowError):
        counts = ", ".join(str(len(value)) for value in values[:8])
        raise BadRequest(wanted % f"in numbers of {counts}") from None


def _texts(row: NDArray[Any]) -> list[str]:
    return [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in row
    ]


def _feature(values: Feature) -> bytes:
    if not values:
        return b""
    if isinstance(values[0], bytes):
        return _field(1, b"".join(_field(1, each) for each in values if isinstance(each, bytes)))
    if isinstance(values[0], float):
        return _field(2, _field(1, np.array(values, "<f4").tobytes()))
    return _field(3, _field(1, b"".join(_varint(int(each) % 2**64) for each in values)))


def _field(number: int, data: bytes) -> bytes:
    """A field of bytes, or of a message or packed numbers, in protobuf's wire format."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])

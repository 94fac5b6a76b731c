# SPDX-License-Identifier: MIT
"""Bodies of TensorFlow Serving's classify and regress as Examples, and results as bodies. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen

from smls.errors import BadRequest
from smls_node.examples import ClassScore, Example, Feature
from smls_node.faces import tfvalues
from smls_node.faces.tfjson import Signatures, document_of, signature_named, wrong


@frozen(eq=False)
class Examples:
    """A classify or regress call, with the context's features in each example."""

    signature: str
    examples: tuple[Example, ...]


def examples(body: memoryview | bytes, signatures: Signatures) -> Examples:
    """The classify or regress call that ``body`` holds.

    :raises BadRequest: telling what is wrong with it.
    """
    document = document_of(body)
    name = signature_named(document)
    if name not in signatures:
        raise BadRequest(
            f"No signature was found with the name: {name}; wanted one of {', '.join(signatures)}"
        )
    context = _example(document.get("context", {}))
    if "examples" not in document:
        raise wrong(
            document,
            "When method is classify, key 'examples' is expected and was not found",
        )
    found = document["examples"]
    if not isinstance(found, list):
        raise wrong(document, "Expecting 'examples' value to be an list/array")
    if not found:
        raise wrong(document, "'examples' value is an empty array")
    return Examples(name, tuple({**context, **_example(each)} for each in found))


def classified(rows: Sequence[Sequence[ClassScore]]) -> bytes:
    """The body that tells the classes of each example."""
    return tfvalues.write({"results": [[_class(each) for each in row] for row in rows]})


def regressed(values: Sequence[float]) -> bytes:
    """The body that tells the value of each example."""
    return tfvalues.write({"results": tfvalues.plain(np.array(values, np.float32))})


def _class(found: ClassScore) -> list[Any]:
    label, score = found
    return [label, tfvalues.plain(np.array(score, np.float32))]


def _example(value: Any) -> Example:
    if not isinstance(value, dict):
        got = tfvalues.json_name(value)
        raise BadRequest(f"Example must be JSON object but got JSON {got}")
    return {name: _feature(name, each) for name, each in value.items()}


def _feature(name: str, value: Any) -> Feature:
    values = [_element(name, each) for each in (value if isinstance(value, list) else [value])]
    kinds = {type(each) for each in values}
    if len(kinds) > 1:
        first = _FEATURES[type(values[0])]
        raise BadRequest(f"Unexpected element type in feature: {name} expecting type: {first}")
    return values


_FEATURES = {bytes: "bytes", float: "float", int: "int64"}


def _element(name: str, value: Any) -> Any:
    if isinstance(value, str) or tfvalues.is_binary(value):
        try:
            return tfvalues.binary(value)
        except ValueError as error:
            raise BadRequest(f"Feature: {name}: {error}") from None
    if isinstance(value, float):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise BadRequest(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        return int(value)
    raise BadRequest(
        f"Feature: {name} has element with unexpected JSON type: {tfvalues.json_name(value)}"
    )

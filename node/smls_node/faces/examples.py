# SPDX-License-Identifier: MIT
"""Requests that each model answers as they stand, for the description of the calls. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smls.tensors import Tensors, datatype_of
from smls_node.catalogue import Model

MAX_ELEMENTS = 1 << 20
"""A model whose smallest input has more has no example: nobody edits megabytes of text."""


def with_examples(description: Mapping[str, Any], models: Mapping[str, Model]) -> dict[str, Any]:
    """OpenAPI's ``description`` with ``models``, by their names, as examples: of the names and
    versions in the paths, and of the bodies of infer and predict. Those of one model have its
    name throughout, and the bodies stand once, among the components."""
    inputs = {name: tensors for name, model in models.items() if (tensors := _inputs(model))}
    bodies = {
        f"{call}-{name}": {"value": body(tensors)}
        for name, tensors in inputs.items()
        for call, body in _BODIES.items()
    }
    parts = {
        "name": {name: {"value": name} for name in models},
        "number": {name: {"value": model.version} for name, model in models.items()},
    }

    def filled(path: str, operation: Mapping[str, Any]) -> dict[str, Any]:
        told = dict(operation)
        told["parameters"] = [
            {**each, "examples": parts[each["name"]]}
            if each["in"] == "path" and parts.get(each["name"])
            else each
            for each in operation["parameters"]
        ]
        call = path.replace(":", "/").rpartition("/")[2]
        if call in _BODIES and inputs:
            examples = {name: {"$ref": f"#/components/examples/{call}-{name}"} for name in inputs}
            body = operation["requestBody"]
            of_json = {**body["content"][_JSON], "examples": examples}
            told["requestBody"] = {**body, "content": {**body["content"], _JSON: of_json}}
        return told

    # To unload a model should take more than to press a button.
    paths = {
        path: methods
        if path.startswith("/v2/repository/")
        else {method: filled(path, operation) for method, operation in methods.items()}
        for path, methods in description["paths"].items()
    }
    return {**description, "paths": paths, "components": {"examples": bodies}}


_JSON = "application/json"


def _inputs(model: Model) -> Tensors:
    """One row that the model takes and JSON can tell; nothing where there is none."""
    _, signature = model.signature()
    tensors = model.runtime.example
    if not tensors and signature.is_open:
        tensors = signature.zeros()
    if sum(array.size for array in tensors.values()) > MAX_ELEMENTS:
        return {}
    try:
        return {name: _readable(array) for name, array in tensors.items()}
    except UnicodeDecodeError:
        return {}


def _readable(array: NDArray[Any]) -> NDArray[Any]:
    """The same with texts for bytes."""
    if array.dtype.kind == "O":
        texts: NDArray[Any] = np.vectorize(bytes.decode, otypes=[np.object_])(array)
        return texts
    return array


def _plain(array: NDArray[Any]) -> Any:
    """The array as lists; zeros without the point, which makes them twice as long."""
    if array.dtype.kind == "f" and not array.any():
        return array.astype(np.int8).tolist()
    return array.tolist()


def _infer(tensors: Tensors) -> Any:
    return {
        "inputs": [
            {
                "name": name,
                "datatype": datatype_of(array.dtype),
                "shape": list(array.shape),
                "data": _plain(np.atleast_1d(array)),
            }
            for name, array in tensors.items()
        ]
    }


def _predict(tensors: Tensors) -> Any:
    return {"inputs": {name: _plain(array) for name, array in tensors.items()}}


_BODIES: Mapping[str, Callable[[Tensors], Any]] = {"infer": _infer, "predict": _predict}

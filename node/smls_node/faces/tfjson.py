# SPDX-License-Identifier: MIT
"""Bodies of TensorFlow Serving's REST calls as tensors, and outputs as bodies. Pure.

Its own texts are used for what is wrong with a body, since people search for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.tensors import Tensors, TensorSpec
from smls_node.faces import tflarge, tfvalues
from smls_node.faces.tfshapes import fitted, narrowed
from smls_node.signature import DEFAULT, Signature

Signatures = Mapping[str, Signature]


@frozen(eq=False)
class Predict:
    """A predict call: what is asked of one signature, and how the answer is to be told.

    ``runs`` are several where a signature that takes one at a time is given several instances.
    ``sides`` are those that the answer is ``narrowed`` to.
    """

    signature: str
    runs: tuple[Tensors, ...]
    by_row: bool
    sides: int | None = None

    def answer(self, outputs: Sequence[Tensors]) -> bytes:
        """The body for the outputs of the runs.

        :raises BadRequest: where they have no rows, but were asked for by row.
        """
        tensors = outputs[0] if len(outputs) == 1 else _joined(outputs)
        tensors = narrowed(tensors, self.sides)
        if self.by_row:
            return tfvalues.write({"predictions": _rows(tensors)})
        values = {name: _value(name, tensor) for name, tensor in tensors.items()}
        only = next(iter(values.values())) if len(values) == 1 else values
        return tfvalues.write({"outputs": only})


def predict(body: memoryview | bytes, signatures: Signatures) -> Predict:
    """The predict call that ``body`` holds.

    :raises BadRequest: telling what is wrong with it.
    """
    large = tflarge.read(body, signatures)
    if large is not None:
        signature = signatures[large.signature]
        return _asked(
            large.signature,
            signature,
            {signature.inputs[0].name: large.array},
            by_row=large.key == "instances",
        )
    document = document_of(body)
    name = signature_named(document)
    if name not in signatures:
        raise BadRequest(
            f'Serving signature name: "{name}" not found in signature def; '
            f"wanted one of {', '.join(signatures)}"
        )
    signature = signatures[name]
    if "instances" in document and "inputs" in document:
        raise wrong(
            document,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise wrong(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise wrong(document, "No values in 'instances' array")
        tensors = _from_instances(instances, signature)
    elif "inputs" in document:
        tensors = _from_inputs(document["inputs"], signature)
    else:
        raise BadRequest("Missing 'inputs' or 'instances' key")
    return _asked(name, signature, tensors, by_row="instances" in document)


def _asked(name: str, signature: Signature, tensors: Tensors, *, by_row: bool) -> Predict:
    whole, sides = fitted(tensors, signature)
    runs = _runs(whole, signature) if by_row else (whole,)
    return Predict(name, runs, by_row, sides)


def document_of(body: memoryview | bytes) -> dict[str, Any]:
    """The object that ``body`` holds.

    :raises BadRequest: where it holds none.
    """
    document = tfvalues.read(body)
    if not isinstance(document, dict):
        raise wrong(document, "Is not object")
    return document


def signature_named(document: Mapping[str, Any]) -> str:
    """The signature that ``document`` names, or the default.

    :raises BadRequest: where what it names is no text.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise wrong(
            document, "not formatted correctly. 'signature_name' key must be a string value."
        )
    return name or DEFAULT


def wrong(value: Any, told: str) -> BadRequest:
    """The error that ``value`` is not as it must be."""
    return BadRequest(f"JSON Value: {tfvalues.shown(value)} {told}")


def _from_instances(instances: list[Any], signature: Signature) -> Tensors:
    """One row an instance: an object with a value for each input, or the only input's value."""
    specs = {spec.name: spec for spec in signature.inputs}
    has_objects = _is_object(instances[0])
    if not has_objects and len(specs) != 1:
        raise BadRequest(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    for number, instance in enumerate(instances):
        if _is_object(instance) != has_objects:
            wanted, got = ("object", "list") if has_objects else ("value/list", "object")
            raise BadRequest(f"Expecting {wanted} but got {got} at item {number} of input list")
    if not has_objects:
        (spec,) = specs.values()
        return {spec.name: _column(instances, spec)}
    names = instances[0].keys() if signature.is_open else specs.keys()
    for number, instance in enumerate(instances):
        if instance.keys() != names:
            raise BadRequest(_misnamed(number, instance, list(names)))
    return {
        name: _column([each[name] for each in instances], specs.get(name), name) for name in names
    }


def _misnamed(number: int, instance: dict[str, Any], names: list[str]) -> str:
    for name in instance:
        if name not in names:
            return (
                f"Failed to process element: {number} key: {name} of 'instances' list. Error: "
                f"INVALID_ARGUMENT: JSON object: does not have named input: {name}"
            )
    return (
        f"Failed to process element: {number} of 'instances' list. JSON object: "
        f"{tfvalues.shown(instance)} keys must be equal to: {','.join(sorted(names))}"
    )


def _column(values: list[Any], spec: TensorSpec | None, key: str = "") -> NDArray[Any]:
    datatype = spec.datatype if spec else None
    try:
        return tfvalues.array(values, datatype)
    except BadRequest as error:
        told = _row_fault(values, datatype, f" key: {key}" if key else "") if datatype else None
        raise BadRequest(told or error.message) from None


def _row_fault(values: list[Any], datatype: str, key: str) -> str | None:
    """What is wrong with the first of ``values`` that is at fault."""
    shape = tfvalues.shape_of(values[0])
    for number, value in enumerate(values):
        told = tfvalues.fault(value, datatype)
        got = tfvalues.shape_of(value)
        if told is None and got != shape:
            told = f"Expecting shape {_shown(shape)} but got: {_shown(got)}"
        if told is not None:
            return (
                f"Failed to process element: {number}{key} of 'instances' list. Error: "
                f"INVALID_ARGUMENT: {told}"
            )
    return None


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _from_inputs(value: Any, signature: Signature) -> Tensors:
    """An object with a tensor for each input, or the only input's tensor."""
    specs = {spec.name: spec for spec in signature.inputs}
    if not _is_object(value):
        if len(specs) != 1:
            raise BadRequest(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        value = {next(iter(specs)): value}
    for name in specs:
        if name not in value:
            raise BadRequest(f"Missing named input: {name} in 'inputs' object.")
    for name in value:
        if name not in specs and not signature.is_open:
            raise BadRequest(f"JSON object: does not have named input: {name}")
    return {
        name: tfvalues.array(each, specs[name].datatype if name in specs else None)
        for name, each in value.items()
    }


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not tfvalues.is_binary(value)


def _runs(tensors: Tensors, signature: Signature) -> tuple[Tensors, ...]:
    """The instances in one run, or each in its own where the signature takes one at a time."""
    specs = {spec.name: spec for spec in signature.inputs}
    if signature.batches or set(specs) != set(tensors):
        return (tensors,)
    if all(specs[name].admits(tensor.shape) for name, tensor in tensors.items()):
        return (tensors,)
    count = len(next(iter(tensors.values())))
    return tuple(
        {name: _one(tensor[number, ...], specs[name]) for name, tensor in tensors.items()}
        for number in range(count)
    )


def _one(instance: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    return instance[None] if spec.admits((1, *instance.shape)) else instance


def _joined(outputs: Sequence[Tensors]) -> Tensors:
    """The outputs of runs of one instance each, a row each."""
    together: dict[str, NDArray[Any]] = {}
    for name in outputs[0]:
        pieces = [each[name] for each in outputs]
        has_rows = all(piece.ndim and len(piece) == 1 for piece in pieces)
        together[name] = np.concatenate(pieces) if has_rows else np.stack(pieces)
    return together


def _rows(tensors: Tensors) -> Any:
    count = -1
    for name, tensor in tensors.items():
        if tensor.ndim == 0:
            raise BadRequest(
                f"Tensor name: {name} has no shape information ; ask for it with 'inputs'"
            )
        if count not in (-1, len(tensor)):
            raise BadRequest(
                f"Tensor name: {name} has inconsistent batch size: {len(tensor)} expecting: "
                f"{count}; ask for it with 'inputs'"
            )
        count = len(tensor)
    if len(tensors) == 1:
        return next(_value(name, tensor) for name, tensor in tensors.items())
    return [
        {name: _value(name, tensor[row, ...]) for name, tensor in tensors.items()}
        for row in range(count)
    ]


def _value(name: str, tensor: NDArray[Any]) -> Any:
    return tfvalues.plain(tensor, as_binary=name.endswith("_bytes"))

# SPDX-License-Identifier: MIT
"""The Open Inference Protocol (V2) in terms of the node, whatever carries it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from smls.errors import BadRequest, Unsupported
from smls.inference import WantedOutput
from smls.tensorbytes import Buffer, from_bytes, shown
from smls.tensors import DATATYPES, Tensors, TensorSpec
from smls_node.catalogue import Catalogue, Model
from smls_node.serving import DEFAULT_PRIORITY
from smls_node.signature import OF_INPUTS, Signature
from smls_node.versions import State

NAME = "smls-node"

EXTENSIONS = ("binary_tensor_data", "model_repository", "schedule_policy")
"""By Triton's names; the last are priorities and timeouts."""

MAX_PRIORITY = 9

INDEX_STATES = {
    State.START: "LOADING",
    State.LOADING: "LOADING",
    State.AVAILABLE: "READY",
    State.UNLOADING: "UNLOADING",
    State.END: "UNAVAILABLE",
}
"""The repository index's word for each state."""


@frozen
class Asked:
    """What the parameters of a request ask of the node; ``rest`` is for the model, and the
    signature its first where none is named."""

    signature: str | None = None
    priority: int = DEFAULT_PRIORITY
    timeout_seconds: float | None = None
    rest: Mapping[str, Any] = field(factory=dict)


def asked(parameters: Mapping[str, Any]) -> Asked:
    """``priority`` (1 goes first, 0 leaves it to the node) and ``timeout`` (microseconds, 0 for
    none), as Triton's scheduling policy extension has them, and ``signature_name``, as TensorFlow
    Serving has it: the protocol knows one signature a model.

    :raises BadRequest: where one of them is something else.
    :raises Unsupported: where the request belongs to a sequence.
    """
    rest = dict(parameters)
    priority = _whole("priority", rest.pop("priority", 0), MAX_PRIORITY)
    timeout = _whole("timeout", rest.pop("timeout", 0), 2**63 - 1)
    signature = rest.pop("signature_name", "")
    if not isinstance(signature, str):
        raise BadRequest(f"parameters: signature_name: got {shown(signature)}, wanted a text")
    sequence = rest.pop("sequence_id", 0)
    rest.pop("sequence_start", None)
    rest.pop("sequence_end", None)
    if sequence not in (0, ""):
        raise Unsupported("sequence_id: sequences of requests are not served")
    return Asked(
        signature or None, priority or DEFAULT_PRIORITY, timeout / 1e6 if timeout else None, rest
    )


def for_model(
    signature: Signature,
    parameters: Mapping[str, Any],
    of_inputs: Mapping[str, Mapping[str, Any]],
) -> Mapping[str, Any]:
    """The parameters for a model of this signature, those of the inputs under ``OF_INPUTS``: none
    but for one that takes what it is given, since requests with parameters are run one by one."""
    if not signature.is_open:
        return {}
    own = {name: each for name, each in parameters.items() if name != OF_INPUTS}
    return {**own, OF_INPUTS: of_inputs} if of_inputs else own


def check_outputs(signature: Signature, wanted: Iterable[WantedOutput]) -> None:
    """Whether the signature may have these outputs.

    :raises BadRequest: where it has not.
    :raises Unsupported: where one is asked for as labels, or in shared memory.
    """
    names = [spec.name for spec in signature.outputs]
    for each in wanted:
        if each.name not in names and not signature.is_open:
            raise BadRequest(f"outputs: got {each.name!r}, wanted {', '.join(names)}")
        for parameter in ("classification", "shared_memory_region"):
            if each.parameters.get(parameter):
                raise Unsupported(f"output {each.name}: {parameter} is not served")


def chosen(outputs: Tensors, wanted: Iterable[WantedOutput]) -> Tensors:
    """The outputs that are wanted, in the order in which they are; all where none is named.

    :raises BadRequest: where the model has not given one of them.
    """
    names = [each.name for each in wanted]
    for name in names:
        if name not in outputs:
            raise BadRequest(f"outputs: got {name!r}, wanted {', '.join(outputs)}")
    return {name: outputs[name] for name in names} if names else outputs


def raw_inputs(signature: Signature, body: Buffer) -> Tensors:
    """The inputs where ``body`` is the only tensor and no more: one row. One element of BYTES is
    as it is, without its length before it.

    :raises BadRequest: where the model has several inputs, or the body has not the bytes of one.
    """
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs) or "any"
        raise BadRequest(f"a raw body is for models of one input, and this one's are {names}")
    (spec,) = signature.inputs
    where = f"input {spec.name}"
    shape = _raw_shape(where, spec, signature.batches, len(body))
    data = len(body).to_bytes(4, "little") + body if spec.datatype == "BYTES" else body
    return {spec.name: from_bytes(where, spec.datatype, shape, data)}


def server(version: str) -> dict[str, Any]:
    """What the server is."""
    return {"name": NAME, "version": version, "extensions": list(EXTENSIONS)}


def metadata(
    catalogue: Catalogue, model: Model, signature_name: str | None = None
) -> dict[str, Any]:
    """What a model is, and the tensors of one of its signatures, of the first where none is named.

    :raises BadRequest: where there is none of that name.
    """
    _, signature = model.signature(signature_name)
    return {
        "name": model.name,
        "versions": [each.version for each in catalogue.versions(model.name)],
        "platform": model.platform,
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
    }


def index(catalogue: Catalogue, ready: bool = False) -> list[dict[str, str]]:
    """Each version, and its state; those that answer alone where ``ready``."""
    found = {
        (each.name, each.version): (State(each.state), each.why) for each in catalogue.absent
    } | {
        (model.name, model.version): (model.state, model.runtime.problem)
        for model in catalogue.models
    }
    return [
        {"name": name, "version": version, "state": INDEX_STATES[state], "reason": why}
        for (name, version), (state, why) in found.items()
        if state is State.AVAILABLE or not ready
    ]


def _whole(name: str, value: object, most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    raise BadRequest(f"parameters: {name}: got {shown(value)}, wanted a whole number 0-{most}")


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _raw_shape(where: str, spec: TensorSpec, batches: bool, size: int) -> tuple[int, ...]:
    """One row, and of the other sides one at most is found from the number of bytes."""
    sides = [1, *spec.shape[1:]] if batches and spec.shape else list(spec.shape)
    open_sides = [place for place, side in enumerate(sides) if side < 0]
    if spec.datatype == "BYTES":
        return tuple(1 if side < 0 else side for side in sides)
    if len(open_sides) > 1:
        raise BadRequest(f"{where}: a raw body cannot tell which shape of {spec} it has")
    if open_sides:
        each = DATATYPES[spec.datatype].itemsize
        for side in sides:
            each *= max(1, side)
        sides[open_sides[0]] = size // each
    return tuple(sides)

# SPDX-License-Identifier: MIT
"""Requests and answers of the Open Inference Protocol (V2) over HTTP, as both ends know them. Pure.

A body is JSON. With the binary extension the JSON comes first, as long as a header says, and after
it the bytes of those tensors that have a ``binary_data_size``, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from smls.errors import BadRequest, Unsupported
from smls.tensorbytes import Buffer, from_bytes, kind_of, shape_of, shown, to_bytes
from smls.tensorjson import from_json, parse, to_json
from smls.tensors import Tensors, datatype_of

LENGTH_HEADER = "Inference-Header-Content-Length"
"""The bytes of JSON at the beginning of a body; 0 where the body is one tensor and no more."""

BINARY = "application/octet-stream"

_KEYS = ("model_name", "model_version", "id", "parameters", "inputs", "outputs")
_SIZE = "binary_data_size"
_ITEM_KEYS = ("name", "datatype", "shape", "parameters", "data")


@frozen
class WantedOutput:
    """An output that is asked for; ``binary`` is ``None`` where the request's own wish holds."""

    name: str
    binary: bool | None = None
    parameters: Mapping[str, Any] = field(factory=dict)


@frozen(eq=False)
class InferRequest:
    """Named tensors for a model. All its outputs are wanted where ``outputs`` names none.

    ``binary`` asks for outputs as bytes. ``parameters`` are the request's own, less that one, and
    ``input_parameters`` those of the inputs that have any, by their names.
    """

    inputs: Tensors
    outputs: tuple[WantedOutput, ...] = ()
    binary: bool = False
    id: str = ""
    parameters: Mapping[str, Any] = field(factory=dict)
    input_parameters: Mapping[str, Mapping[str, Any]] = field(factory=dict)

    def is_binary(self, output: str) -> bool:
        """Whether ``output`` is wanted as bytes."""
        for wanted in self.outputs:
            if wanted.name == output and wanted.binary is not None:
                return wanted.binary
        return self.binary


@frozen(eq=False)
class InferAnswer:
    """What a model's version gave."""

    model: str
    version: str
    outputs: Tensors
    id: str = ""


@frozen
class Body:
    """A whole body; ``json_bytes`` is how much of it is JSON, ``None`` where all of it is."""

    data: bytes = field(repr=False)
    json_bytes: int | None = None


def json_length(text: str | None, size: int) -> int | None:
    """What ``LENGTH_HEADER`` says of a body of ``size`` bytes; ``None`` without it.

    :raises BadRequest: where it is no number, or larger than the body.
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= size:
        return int(text)
    raise BadRequest(f"{LENGTH_HEADER}: got {shown(text)}, wanted 0-{size}, the body's own length")


def read_request(body: Buffer, json_bytes: int | None) -> InferRequest:
    """The request in a body of which ``json_bytes`` are JSON, all of it where ``None``.

    Tensors that came as bytes lie in ``body``.

    :raises BadRequest: telling what is wrong with it.
    :raises Unsupported: where an input lies in shared memory.
    """
    head, rest = _split(body, json_bytes)
    inputs = _tensors("input", head.get("inputs"), rest)
    parameters = dict(_parameters("request", head))
    binary = _flag("request", parameters, "binary_data_output")
    parameters.pop("binary_data_output", None)
    outputs = head.get("outputs")
    wanted = [] if outputs is None else _objects("outputs", outputs)
    told = {item["name"]: _told(item.get("parameters")) for item in head["inputs"]}
    of_inputs = {name: each for name, each in told.items() if each}
    return InferRequest(inputs, _wanted(wanted), bool(binary), _id(head), parameters, of_inputs)


def write_request(request: InferRequest) -> Body:
    """The body of ``request``, its tensors as bytes.

    :raises ValueError: where an array is of nothing that the protocol has.
    """
    head: dict[str, Any] = {"parameters": {**request.parameters}}
    if request.binary:
        head["parameters"]["binary_data_output"] = True
    if request.id:
        head["id"] = request.id
    if request.outputs:
        head["outputs"] = [
            {"name": each.name, "parameters": {"binary_data": request.is_binary(each.name)}}
            for each in request.outputs
        ]
    binary = frozenset(request.inputs)
    return _body(head, "inputs", request.inputs, binary, request.input_parameters)


def read_answer(body: Buffer, json_bytes: int | None) -> InferAnswer:
    """The answer in a body, as ``read_request``.

    :raises BadRequest: where it is none.
    """
    head, rest = _split(body, json_bytes)
    outputs = _tensors("output", head.get("outputs"), rest)
    model, version = head.get("model_name"), head.get("model_version", "")
    if not isinstance(model, str) or not isinstance(version, str):
        raise BadRequest("the answer: model_name and model_version are no texts")
    return InferAnswer(model, version, outputs, _id(head))


def write_answer(answer: InferAnswer, binary: frozenset[str]) -> Body:
    """The body of ``answer``; outputs that ``binary`` names as bytes, the others as JSON.

    :raises BadRequest: where JSON cannot tell what is in an output.
    """
    head = {"model_name": answer.model, "model_version": answer.version}
    if answer.id:
        head["id"] = answer.id
    return _body(head, "outputs", answer.outputs, binary)


def _split(body: Buffer, json_bytes: int | None) -> tuple[dict[str, Any], memoryview]:
    view = memoryview(body)
    if json_bytes is None:
        return parse("the body", view, _KEYS, _ITEM_KEYS), view[:0]
    head = parse("the body's JSON", view[:json_bytes], _KEYS, _ITEM_KEYS)
    return head, view[json_bytes:]


def _tensors(what: str, items: object, rest: memoryview) -> Tensors:
    """The tensors by name; ``rest`` are the bytes of those that are not in the JSON."""
    tensors: dict[str, NDArray[Any]] = {}
    for item in _objects(f"{what}s", items):
        name = _name(what, item)
        where = f"{what} {name}"
        if name in tensors:
            raise BadRequest(f"{where}: got it twice")
        datatype, shape = item.get("datatype"), shape_of(where, item.get("shape"))
        kind_of(where, datatype)
        assert isinstance(datatype, str)
        parameters = _parameters(where, item)
        check_sent(where, parameters)
        size = parameters.get(_SIZE)
        if size is None:
            if "data" not in item:
                raise BadRequest(f"{where}: got neither data nor binary_data_size")
            tensors[name] = from_json(where, datatype, shape, item["data"])
            continue
        if "data" in item:
            raise BadRequest(f"{where}: got both data and binary_data_size, wanted one of them")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
            raise BadRequest(
                f"{where}: binary_data_size: got {shown(size)}, wanted 0-{len(rest)}, the bytes "
                "that are left of the body"
            )
        tensors[name] = from_bytes(where, datatype, shape, rest[:size])
        rest = rest[size:]
    if len(rest):
        raise BadRequest(f"the body: got {len(rest)} bytes that belong to no {what}")
    return tensors


def check_sent(where: str, parameters: Mapping[str, Any]) -> None:
    """Whether a tensor with these parameters was sent along.

    :raises Unsupported: where it lies in shared memory.
    """
    if "shared_memory_region" in parameters:
        raise Unsupported(f"{where}: shared memory is not served; send the tensor itself")


def _wanted(items: list[dict[str, Any]]) -> tuple[WantedOutput, ...]:
    found: dict[str, WantedOutput] = {}
    for item in items:
        name = _name("output", item)
        where = f"output {name}"
        if name in found:
            raise BadRequest(f"{where}: asked for twice")
        parameters = dict(_parameters(where, item))
        binary = _flag(where, parameters, "binary_data")
        parameters.pop("binary_data", None)
        found[name] = WantedOutput(name, binary, parameters)
    return tuple(found.values())


def _objects(where: str, items: object) -> list[dict[str, Any]]:
    if isinstance(items, list) and all(isinstance(item, dict) for item in items):
        return items
    raise BadRequest(f"{where}: got {shown(items)}, wanted a list of objects")


def _name(what: str, item: Mapping[str, Any]) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"{what}: name: got {shown(name)}, wanted a text")
    return name


def _parameters(where: str, item: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"{where}: parameters: got {shown(parameters)}, wanted an object")
    return parameters


def _told(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The parameters of a tensor, less what says how it travels."""
    return {name: each for name, each in (parameters or {}).items() if name != _SIZE}


def _flag(where: str, parameters: Mapping[str, Any], name: str) -> bool | None:
    flag = parameters.get(name)
    if flag is not None and not isinstance(flag, bool):
        raise BadRequest(f"{where}: {name}: got {shown(flag)}, wanted true or false")
    return flag


def _id(head: Mapping[str, Any]) -> str:
    given = head.get("id")
    if given is None:
        return ""
    if not isinstance(given, str):
        raise BadRequest(f"id: got {shown(given)}, wanted a text")
    return given


def _body(
    head: Mapping[str, Any],
    key: str,
    tensors: Tensors,
    binary: frozenset[str],
    parameters: Mapping[str, Mapping[str, Any]] = {},
) -> Body:
    """``head`` with the tensors under ``key``, and then the bytes of those in ``binary``;
    ``parameters`` are the tensors' own.

    What is large is copied once, when the body is put together.
    """
    items: list[bytes] = []
    rest: list[Buffer] = []
    for name, array in tensors.items():
        item: dict[str, Any] = {
            "name": name,
            "datatype": datatype_of(array.dtype),
            "shape": list(np.shape(array)),
        }
        if name in parameters:
            item["parameters"] = {**parameters[name]}
        if name in binary:
            rest.append(to_bytes(array))
            item.setdefault("parameters", {})[_SIZE] = len(rest[-1])
            items.append(json.dumps(item).encode())
        else:
            items.append(b'%b,"data":%b}' % (_open(item), to_json(f"{key} {name}", array)))
    begin = b'%b,"%b":[' % (_open(head), key.encode())
    text = [begin, *_between(items), b"]}"]
    whole = b"".join([*text, *rest])
    return Body(whole, sum(map(len, text)) if binary else None)


def _open(value: Mapping[str, Any]) -> bytes:
    """``value``, which is not empty, as JSON that can be added to."""
    return json.dumps(value).encode()[:-1]


def _between(items: Iterable[bytes]) -> Iterable[bytes]:
    for number, item in enumerate(items):
        if number:
            yield b","
        yield item

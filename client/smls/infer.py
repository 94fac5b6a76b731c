# SPDX-License-Identifier: MIT
"""Named tensors for a model, as a question to a node. Needs numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike

from smls.errors import BadRequest, NodeFault
from smls.inference import (
    LENGTH_HEADER,
    Body,
    InferRequest,
    WantedOutput,
    json_length,
    read_answer,
    write_request,
)
from smls.tensors import Tensors
from smls.transport import Reply


@frozen(eq=False)
class Inference:
    """What a node's model gave; ``address`` is the node's ``host:port``.

    The outputs lie in the answer's bytes, and cannot be written to.
    """

    model: str
    version: str
    address: str
    outputs: Tensors


@frozen
class Infer:
    """A request of the Open Inference Protocol, its tensors as bytes both ways."""

    written: Body
    rows: int

    @property
    def body(self) -> bytes:
        return self.written.data

    @property
    def headers(self) -> Mapping[str, str]:
        return {LENGTH_HEADER: str(self.written.json_bytes)}

    def target(self, model: str | None, version: str | None) -> str:
        assert model is not None
        of_version = "" if version is None else f"/versions/{quote(version, safe='')}"
        return f"/v2/models/{quote(model, safe='')}{of_version}/infer"

    def read(self, reply: Reply, address: str) -> Inference:
        try:
            length = json_length(reply.header(LENGTH_HEADER), len(reply.body))
            answer = read_answer(reply.body, length)
        except BadRequest as error:
            raise NodeFault(f"its answer is no inference: {error.message}") from error
        return Inference(answer.model, answer.version, address, answer.outputs)


def question(
    inputs: Mapping[str, ArrayLike], outputs: Iterable[str] | None, parameters: Mapping[str, Any]
) -> Infer:
    """The question for these outputs, all where ``None``.

    :raises BadRequest: where the inputs are no arrays that the protocol has.
    """
    if not isinstance(inputs, Mapping):
        raise BadRequest(f"inputs: got {type(inputs).__name__}, wanted arrays by name")
    if isinstance(outputs, str):
        raise BadRequest(f"outputs: got {outputs!r}, wanted a list of names")
    wanted = tuple(WantedOutput(name, True) for name in outputs or ())
    try:
        tensors = {name: np.asarray(value) for name, value in inputs.items()}
        request = InferRequest(tensors, wanted, binary=True, parameters=parameters)
        return Infer(write_request(request), _rows(tensors))
    except (TypeError, ValueError) as error:
        raise BadRequest(f"inputs: {error}") from error


def _rows(tensors: Tensors) -> int:
    """As many as the first side of all ``tensors`` says; 1 where there is no such number.

    Whether a model takes its inputs in rows, the node alone knows, and tells by what it reports.
    """
    first = {array.shape[0] if array.ndim else 1 for array in tensors.values()}
    return max(1, first.pop()) if len(first) == 1 else 1

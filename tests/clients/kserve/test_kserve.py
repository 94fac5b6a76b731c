# SPDX-License-Identifier: MIT
"""KServe's own clients, as they are installed: V1 and V2 over HTTP, and V2 over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    InferResponse,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput
from numpy.typing import NDArray

from tests.processes import Running

Array = NDArray[Any]

DATATYPES = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}

HALVES = np.array([[1.0], [2.0]], np.float32)


class Rest:
    """``InferenceRESTClient`` of one protocol at one node; what it is asked is waited for."""

    def __init__(self, client: InferenceRESTClient, url: str, loop: asyncio.Runner) -> None:
        self._client, self._url, self._loop = client, url, loop

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        return lambda *given, **more: self._loop.run(call(self._url, *given, **more))


@contextmanager
def rest(node: Running, protocol: str) -> Iterator[Rest]:
    with asyncio.Runner() as loop:
        client = InferenceRESTClient(RESTConfig(protocol=protocol))
        yield Rest(client, node.url.rstrip("/"), loop)
        loop.run(client.close())


@pytest.fixture
def v1(mixed_models: Running) -> Iterator[Rest]:
    with rest(mixed_models, "v1") as client:
        yield client


@pytest.fixture
def v2(mixed_models: Running) -> Iterator[Rest]:
    with rest(mixed_models, "v2") as client:
        yield client


def given(name: str, array: Array, datatype: str, *, binary: bool) -> InferInput:
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def halves(*, binary: bool, **more: Any) -> InferRequest:
    return InferRequest("half_plus_two", [given("x", HALVES, "FP32", binary=binary)], **more)


def ask_grpc(node: Running, method: str, *asked: Any) -> Any:
    async def ask() -> Any:
        async with InferenceGRPCClient(node.grpc_address) as client:
            call: Coroutine[Any, Any, Any] = getattr(client, method)(*asked)
            return await call

    return asyncio.run(ask())


def the_output(answer: InferResponse) -> Array:
    (output,) = answer.outputs
    array: Array = output.as_numpy()
    return array


def sample(datatype: str) -> Array:
    if datatype == "BYTES":
        return np.array([["hällo"], [""]], np.object_)
    return np.array([[0, 1], [1, 0]], DATATYPES[datatype])


def test_v1_tells_that_the_server_and_its_models_are_there(v1: Rest) -> None:
    assert v1.is_server_live() is True
    assert v1.is_model_ready("half_plus_two") is True
    with pytest.raises(httpx.HTTPStatusError, match="versions of model other"):
        v1.is_model_ready("other")


def test_v1_predicts(v1: Rest) -> None:
    assert v1.infer({"instances": [1.0, 2.0]}, "half_plus_two") == {"predictions": [2.5, 3.0]}


def test_v1_tells_what_is_wrong(v1: Rest) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="not of expected type: float") as error:
        v1.infer({"instances": ["a"]}, "half_plus_two")
    assert error.value.response.status_code == 400
    with pytest.raises(httpx.HTTPStatusError, match=r"Malformed request: .*:explain"):
        v1.explain("half_plus_two", {"instances": [1.0]})


def test_v2_tells_that_the_server_and_its_models_are_there(v2: Rest) -> None:
    assert v2.is_server_live() is True
    assert v2.is_server_ready() is True
    assert v2.is_model_ready("half_plus_two") is True
    assert v2.is_model_ready("other") is False


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("binary_answer", [True, False])
def test_v2_infers_in_json_and_in_bytes(v2: Rest, binary: bool, binary_answer: bool) -> None:
    told = {"binary_data": binary_answer}
    more = {"request_id": "7", "request_outputs": [RequestedOutput("y", told)]}
    headers: dict[str, str] = {}
    answer = v2.infer(halves(binary=binary, **more), "half_plus_two", response_headers=headers)
    assert the_output(answer).tolist() == [[2.5], [3.0]]
    assert (answer.id, answer.model_name) == ("7", "half_plus_two")
    assert ("inference-header-content-length" in headers) == binary_answer


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("binary", [True, False])
def test_v2_carries_every_datatype(v2: Rest, datatype: str, binary: bool) -> None:
    tensor = given("a", sample(datatype), datatype, binary=binary)
    asked = InferRequest("echo", [tensor], parameters={"binary_data_output": binary})
    answer = v2.infer(asked, "echo")
    assert answer.outputs[0].datatype == datatype
    assert the_output(answer).tolist() == sample(datatype).tolist()


def test_half_floats_go_as_bytes(v2: Rest, mixed_models: Running) -> None:
    """KServe's clients send no others."""
    array = np.array([[0.5, 1.0]], np.float16)
    asked = InferRequest("echo", [given("a", array, "FP16", binary=True)])
    asked.parameters = {"binary_data_output": True}
    assert the_output(v2.infer(asked, "echo")).tolist() == array.tolist()
    assert the_output(ask_grpc(mixed_models, "infer", asked)).tolist() == array.tolist()


def test_v2_tells_what_is_wrong(v2: Rest) -> None:
    wrong = given("x", HALVES.astype(np.float64), "FP64", binary=True)
    with pytest.raises(httpx.HTTPStatusError, match=r"input x: got FP64\[2, 1\]") as error:
        v2.infer(InferRequest("half_plus_two", [wrong]), "half_plus_two")
    assert error.value.response.status_code == 400


def test_grpc_tells_that_the_server_and_its_models_are_there(mixed_models: Running) -> None:
    assert ask_grpc(mixed_models, "is_server_live") is True
    assert ask_grpc(mixed_models, "is_server_ready") is True
    assert ask_grpc(mixed_models, "is_model_ready", "half_plus_two") is True
    assert ask_grpc(mixed_models, "is_model_ready", "other") is False


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("binary", [True, False])
def test_grpc_carries_every_datatype(mixed_models: Running, datatype: str, binary: bool) -> None:
    tensor = given("a", sample(datatype), datatype, binary=binary)
    answer = ask_grpc(mixed_models, "infer", InferRequest("echo", [tensor], request_id="4"))
    assert (answer.id, answer.model_name) == ("4", "echo")
    found = the_output(answer).tolist()
    if datatype == "BYTES":
        found = [[each.decode() for each in row] for row in found]
    assert found == sample(datatype).tolist()


def test_grpc_infers_and_tells_what_is_wrong(mixed_models: Running) -> None:
    wanted = [RequestedOutput("y")]
    answer = ask_grpc(mixed_models, "infer", halves(binary=True, request_outputs=wanted))
    assert the_output(answer).tolist() == [[2.5], [3.0]]
    wrong = InferRequest("other", [given("x", HALVES, "FP32", binary=True)])
    with pytest.raises(grpc.RpcError) as error:
        ask_grpc(mixed_models, "infer", wrong)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND

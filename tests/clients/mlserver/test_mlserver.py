# SPDX-License-Identifier: MIT
"""MLServer's types and codecs, its gRPC stubs and ``mlserver infer``, as they are installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest
import requests
from mlserver.codecs import NumpyCodec, NumpyRequestCodec, PandasCodec, StringRequestCodec
from mlserver.grpc import converters
from mlserver.grpc import dataplane_pb2 as messages
from mlserver.grpc import model_repository_pb2 as repository
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.grpc.model_repository_pb2_grpc import ModelRepositoryServiceStub
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RequestOutput,
)

from tests.processes import DEADLINE_SECONDS, Running

Infer = Callable[[str, InferenceRequest], InferenceResponse]

NUMBERS = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
FLOATS = ("float32", "float64")

TABLE = pd.DataFrame({"a": [1, 2], "b": ["x", "ü"], "c": [0.5, 1.5], "d": [True, False]})


def over_rest(node: Running) -> Infer:
    def infer(model: str, asked: InferenceRequest) -> InferenceResponse:
        url = f"{node.url}v2/models/{model}/infer"
        headers = {"Content-Type": "application/json"}
        answer = requests.post(url, asked.model_dump_json(), headers=headers, timeout=60)
        assert answer.ok, answer.text
        return InferenceResponse.model_validate(answer.json())

    return infer


def over_grpc(channel: grpc.Channel, *, raw: bool) -> Infer:
    stub = GRPCInferenceServiceStub(channel)

    def infer(model: str, asked: InferenceRequest) -> InferenceResponse:
        request = converters.ModelInferRequestConverter.from_types(
            # With ``use_raw`` it takes the data out of what it is given.
            asked.model_copy(deep=True),
            model_name=model,
            use_raw=raw,
        )
        answer = stub.ModelInfer(request, timeout=60)
        assert bool(answer.raw_output_contents) == raw
        return converters.ModelInferResponseConverter.to_types(answer)

    return infer


@pytest.fixture
def channel(mixed_models: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(mixed_models.grpc_address) as channel:
        yield channel


@pytest.fixture(params=["rest", "grpc", "grpc, raw"])
def infer(request: pytest.FixtureRequest, mixed_models: Running, channel: grpc.Channel) -> Infer:
    if request.param == "rest":
        return over_rest(mixed_models)
    return over_grpc(channel, raw="raw" in request.param)


def asked(name: str, array: np.ndarray[Any, Any], **more: Any) -> InferenceRequest:
    return InferenceRequest(inputs=[NumpyCodec.encode_input(name, array)], **more)


def the_output(answer: InferenceResponse) -> np.ndarray[Any, Any]:
    (output,) = answer.outputs
    return NumpyCodec.decode_output(output)


def halves(*rows: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([[row] for row in rows], np.float32)


def test_a_model_answers(infer: Infer) -> None:
    wanted = [RequestOutput(name="y")]
    answer = infer("half_plus_two", asked("x", halves(1, 2), id="9", outputs=wanted))
    assert the_output(answer).tolist() == [[2.5], [3.0]]
    assert (answer.id, answer.model_name, answer.model_version) == ("9", "half_plus_two", "123")


@pytest.mark.parametrize("kind", [*NUMBERS, *FLOATS])
def test_every_datatype_comes_back(infer: Infer, kind: str) -> None:
    array = np.array([[0, 1], [1, 0]], kind)
    found = the_output(infer("echo", asked("a", array)))
    assert (found.dtype, found.tolist()) == (array.dtype, array.tolist())


def test_request_codecs_read_the_answers(infer: Infer) -> None:
    texts = ["hällo", ""]
    answer = infer("echo", StringRequestCodec.encode_request(texts))
    assert StringRequestCodec.decode_response(answer) == texts
    answer = infer("echo", NumpyRequestCodec.encode_request(halves(1, 2)))
    assert NumpyRequestCodec.decode_response(answer).tolist() == [[1.0], [2.0]]


def test_data_frames_come_back(infer: Infer) -> None:
    answer = infer("echo", PandasCodec.encode_request(TABLE))
    found = PandasCodec.decode_response(answer)
    texts = found["b"].map(lambda each: each.decode() if isinstance(each, bytes) else each)
    assert found.assign(b=texts).to_dict("list") == TABLE.to_dict("list")


def test_the_types_read_what_the_node_tells_of_itself(mixed_models: Running) -> None:
    def told(path: str) -> Any:
        return requests.get(f"{mixed_models.url}v2{path}", timeout=60).json()

    assert MetadataServerResponse.model_validate(told("")).name == "smls-node"
    model = MetadataModelResponse.model_validate(told("/models/half_plus_two"))
    assert [(each.name, each.datatype, each.shape) for each in model.inputs or ()] == [
        ("x", "FP32", [-1, 1])
    ]
    answer = requests.post(
        f"{mixed_models.url}v2/repository/index",
        RepositoryIndexRequest(ready=True).model_dump_json(),
        headers={"Content-Type": "application/json"},
        timeout=60,
    )
    index = RepositoryIndexResponse.model_validate(answer.json())
    assert {each.name for each in index.root} == {"echo", "half_plus_two"}


def test_the_stubs_of_the_data_plane(channel: grpc.Channel) -> None:
    stub = GRPCInferenceServiceStub(channel)
    assert stub.ServerLive(messages.ServerLiveRequest(), timeout=60).live
    assert stub.ServerReady(messages.ServerReadyRequest(), timeout=60).ready
    assert stub.ModelReady(messages.ModelReadyRequest(name="echo"), timeout=60).ready
    answer = stub.ServerMetadata(messages.ServerMetadataRequest(), timeout=60)
    server = converters.ServerMetadataResponseConverter.to_types(answer)
    assert server.name == "smls-node"
    answer = stub.ModelMetadata(messages.ModelMetadataRequest(name="half_plus_two"), timeout=60)
    model = converters.ModelMetadataResponseConverter.to_types(answer)
    assert (model.name, model.versions) == ("half_plus_two", ["123"])
    with pytest.raises(grpc.RpcError) as error:
        over_grpc(channel, raw=True)("other", asked("x", halves(1)))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_stubs_of_the_repository(channel: grpc.Channel) -> None:
    stub = ModelRepositoryServiceStub(channel)

    def ready() -> set[str]:
        index = stub.RepositoryIndex(repository.RepositoryIndexRequest(ready=True), timeout=60)
        return {each.name for each in index.models if each.state == "READY"}

    assert ready() == {"echo", "half_plus_two"}
    stub.RepositoryModelUnload(repository.RepositoryModelUnloadRequest(model_name="echo"))
    assert ready() == {"half_plus_two"}
    stub.RepositoryModelLoad(repository.RepositoryModelLoadRequest(model_name="echo"))
    assert ready() == {"echo", "half_plus_two"}


@pytest.mark.parametrize("more", [[], ["--binary-data"], ["--batch-size", "3"]])
def test_mlserver_infer(mixed_models: Running, tmp_path: Path, more: list[str]) -> None:
    lines = [
        asked("x", halves(number), id=str(number)).model_dump_json(exclude_none=True) + "\n"
        for number in range(7)
    ]
    source, target = tmp_path / "asked.jsonl", tmp_path / "answered.jsonl"
    source.write_text("".join(lines))
    options = {"-u": mixed_models.address, "-m": "half_plus_two", "-i": source, "-o": target}
    program = Path(sys.executable).with_name("mlserver")
    subprocess.run(
        [program, "infer", *(str(each) for pair in options.items() for each in pair), *more],
        check=True,
        timeout=DEADLINE_SECONDS,
    )
    answers = [
        InferenceResponse.model_validate_json(line) for line in target.read_text().splitlines()
    ]
    found = {int(answer.id or -1): the_output(answer).tolist() for answer in answers}
    assert found == {number: [[number / 2 + 2]] for number in range(7)}

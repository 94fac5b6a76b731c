# SPDX-License-Identifier: MIT
"""The Open Inference Protocol over HTTP, both ends in memory."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from twisted.internet.defer import Deferred, succeed

from smls.errors import ModelNotFound
from smls.inference import LENGTH_HEADER, InferRequest, WantedOutput, read_answer, write_request
from smls.tensors import Tensors, TensorSpec
from smls_node.serving import Ask, Phase
from smls_node.signature import DEFAULT, Signature
from smls_node.versions import Standing, State
from tests.memory import Reply
from tests.node.memory import Broken, HalfPlusTwo, MemoryNode, model


class Sums:
    """Adds up the rows of ``x``, and tells the lengths of the texts ``t``."""

    process = problem = ""
    batches: list[int]

    def __init__(self, *, is_open: bool = False) -> None:
        inputs = (TensorSpec("x", "FP32", (-1, -1)), TensorSpec("t", "BYTES", (-1,)))
        outputs = (TensorSpec("sum", "FP32", (-1,)), TensorSpec("text", "BYTES", (-1,)))
        self.signatures = {DEFAULT: Signature(inputs, outputs, is_open=is_open)}
        self.example = self.signatures[DEFAULT].zeros()
        self.parameters: list[Mapping[str, Any]] = []

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        self.parameters.append(parameters)
        return {"sum": inputs["x"].sum(axis=1), "text": inputs["t"]}

    def unload(self) -> None: ...


class Only(Sums):
    """Takes one tensor, and gives it back."""

    def __init__(self, datatype: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        spec = TensorSpec("x", datatype, shape)
        self.signatures = {DEFAULT: Signature((spec,), (spec,), batches=shape[:1] == (-1,))}

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        return inputs


TENSORS = {
    "x": np.array([[1, 2], [3, 4]], np.float32),
    "t": np.array([b"a", b"\xff"], np.object_),
}

JSON = {
    "id": "7",
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]]},
        {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
    ],
}

INFER = "/v2/models/sums/infer"


def sums(*, is_open: bool = False, **more: Any) -> MemoryNode:
    return MemoryNode(model("sums", "3", Sums(is_open=is_open)), **more)  # type: ignore[arg-type]


def only(datatype: str, *shape: int) -> MemoryNode:
    return MemoryNode(model("sums", runtime=Only(datatype, shape)))  # type: ignore[arg-type]


def ask(node: MemoryNode, body: object, path: str = INFER, **headers: str) -> Reply:
    return node.request("POST", path, json.dumps(body).encode(), **headers)


def binary(node: MemoryNode, request: InferRequest) -> Reply:
    body = write_request(request)
    assert body.json_bytes is not None
    headers = {LENGTH_HEADER.replace("-", "_"): str(body.json_bytes)}
    return node.request("POST", INFER, body.data, "application/octet-stream", **headers)


def refused(reply: Reply, status: int, *told: str) -> None:
    assert reply.status == status
    assert list(reply.json) == ["error"]
    for each in told:
        assert each in reply.json["error"]


def test_json_is_answered_in_json() -> None:
    reply = ask(sums(), JSON)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json == {
        "model_name": "sums",
        "model_version": "3",
        "id": "7",
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [2], "data": [3.0, 7.0]},
            {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
        ],
    }


def test_bytes_are_answered_in_bytes() -> None:
    reply = binary(sums(), InferRequest(TENSORS, binary=True))
    assert reply.headers["Content-Type"] == "application/octet-stream"
    read = read_answer(reply.body, int(reply.headers[LENGTH_HEADER]))
    assert read.outputs["sum"].tolist() == [3, 7]
    assert read.outputs["text"].tolist() == [b"a", b"\xff"]


def test_each_output_comes_as_it_is_asked_for_and_no_other() -> None:
    wanted = (WantedOutput("sum", False),)
    reply = binary(sums(), InferRequest(TENSORS, wanted, binary=True))
    assert reply.headers["Content-Type"] == "application/json"
    assert [each["name"] for each in reply.json["outputs"]] == ["sum"]


def test_bytes_that_json_cannot_hold_are_told() -> None:
    refused(binary(sums(), InferRequest(TENSORS)), 400, "outputs text", "binary")


@pytest.mark.parametrize("path", ["/v2/models/sums/versions/3/infer", INFER])
def test_a_version_may_be_named(path: str) -> None:
    assert ask(sums(), JSON, path).json["model_version"] == "3"


def test_where_the_time_went_and_the_load_are_told() -> None:
    headers = ask(sums(), JSON).headers
    assert "infer;dur=" in headers["Server-Timing"]
    assert headers["Endpoint-Load-Metrics"].startswith("JSON ")


@pytest.mark.parametrize(
    ("shape", "size", "got"),
    [
        ((-1, 4), 16, [1, 4]),
        ((-1, -1), 12, [1, 3]),
        ((2, 2), 16, [2, 2]),
        ((-1, 2, -1), 8, [1, 2, 1]),
    ],
)
def test_a_raw_body_is_one_row(shape: tuple[int, ...], size: int, got: list[int]) -> None:
    body = np.arange(size // 4, dtype=np.float32).tobytes()
    reply = only("FP32", *shape).request("POST", INFER, body, **RAW)
    read = read_answer(reply.body, int(reply.headers[LENGTH_HEADER]))
    assert read.outputs["x"].shape == tuple(got)
    assert read.outputs["x"].tobytes() == body


RAW = {LENGTH_HEADER.replace("-", "_"): "0"}


def test_a_raw_body_may_be_one_text() -> None:
    reply = only("BYTES", -1).request("POST", INFER, b"\xff\xd8 an image", **RAW)
    read = read_answer(reply.body, int(reply.headers[LENGTH_HEADER]))
    assert read.outputs["x"].tolist() == [b"\xff\xd8 an image"]


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (sums(), "models of one input"),
        (only("FP32", -1, 3), "got 16 bytes, wanted 12"),
        (only("FP32", -1, -1, -1), "which shape"),
        (only("FP64", -1, 0, -1), "got 16 bytes, wanted 0"),
    ],
)
def test_a_raw_body_that_does_not_fit_is_told(node: MemoryNode, told: str) -> None:
    refused(node.request("POST", INFER, b"0" * 16, **RAW), 400, told)


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"inputs": JSON["inputs"][:1]}, 400, "no 't'"),  # type: ignore[index]
        ({"inputs": [*JSON["inputs"], {**JSON["inputs"][0], "name": "z"}]}, 400, "'z'"),  # type: ignore[index,misc]
        ({"inputs": []}, 400, "no 'x'"),
        ({"outputs": [{"name": "z"}]}, 400, "outputs: got 'z', wanted sum, text"),
        ({"outputs": [{"name": "sum", "parameters": {"classification": 3}}]}, 501, "classific"),
        (
            {"outputs": [{"name": "sum", "parameters": {"shared_memory_region": "r"}}]},
            501,
            "shared",
        ),
        ({"parameters": {"priority": -1}}, 400, "priority: got -1"),
        ({"parameters": {"priority": 10}}, 400, "wanted a whole number 0-9"),
        ({"parameters": {"priority": "1"}}, 400, "priority: got '1'"),
        ({"parameters": {"timeout": 1.5}}, 400, "timeout: got 1.5"),
        ({"parameters": {"sequence_id": 3}}, 501, "sequence_id"),
    ],
)
def test_what_is_wrong_is_told(change: dict[str, Any], status: int, told: str) -> None:
    refused(ask(sums(), {**JSON, **change}), status, told)


def test_a_datatype_or_shape_that_the_model_does_not_take_is_told() -> None:
    tensors = {**TENSORS, "x": np.zeros((2, 2), np.float64)}
    refused(
        binary(sums(), InferRequest(tensors)), 400, "input x: got FP64[2, 2], wanted FP32[?, ?]"
    )
    tensors = {**TENSORS, "x": np.zeros((2,), np.float32)}
    refused(binary(sums(), InferRequest(tensors)), 400, "input x: got FP32[2], wanted FP32[?, ?]")


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xd8 an image", b"inputs=1", b"[" * 50_000])
def test_a_body_that_is_no_json_is_told(body: bytes) -> None:
    refused(sums().request("POST", INFER, body, "image/jpeg"), 400, "no JSON")


@pytest.mark.parametrize("length", ["-1", "99999", "x", "9" * 30, "1e3"])
def test_a_length_that_cannot_be_is_told(length: str) -> None:
    headers = {LENGTH_HEADER.replace("-", "_"): length}
    refused(sums().request("POST", INFER, b"{}", **headers), 400, LENGTH_HEADER)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/other/infer", 404),
        ("/v2/models/sums/versions/9/infer", 404),
        ("/v2/models/sums/versions/x/infer", 404),
        ("/v2/models/sums/explain", 404),
        ("/v2/models/sums", 405),
        ("/v2/models/sums/ready", 405),
    ],
)
def test_what_is_not_there_is_told(path: str, status: int) -> None:
    refused(ask(sums(), JSON, path), status)


def test_a_fault_of_the_model_is_a_500_with_an_id() -> None:
    node = MemoryNode(model("sums", runtime=Broken()))
    tensors = {"image": np.zeros((1, 8, 8, 3), np.float32)}
    refused(binary(node, InferRequest(tensors)), 500, "fault")


def test_priorities_and_timeouts_reach_the_queue() -> None:
    node = sums()
    seen: list[tuple[int, float]] = []
    submit = node.workers.submit

    def watched(job: Any, *, deadline: float, priority: int, **more: Any) -> None:
        seen.append((priority, deadline))
        submit(job, deadline=deadline, priority=priority, **more)

    node.workers.submit = watched  # type: ignore[method-assign]
    ask(node, {**JSON, "parameters": {"priority": 1, "timeout": 2_000_000}})
    ask(node, {**JSON, "parameters": {"priority": 0, "timeout": 0}})
    ask(node, {**JSON, "parameters": {"timeout": 2_000_000}}, X_Request_Timeout_Ms="500")
    assert seen == [(1, 2.0), (5, 30.0), (5, 0.5)]


def test_other_parameters_go_to_models_that_take_what_they_are_given() -> None:
    for is_open, wanted in ((False, {}), (True, {"temperature": 0.5})):
        node = sums(is_open=is_open)
        ask(node, {**JSON, "parameters": {"temperature": 0.5, "priority": 2}})
        runtime: Any = node.serving.catalogue.models[0].runtime
        assert runtime.parameters == [wanted]


def half(x: object, **parameters: object) -> Reply:
    node = MemoryNode(model("half", runtime=HalfPlusTwo()))
    item = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": x}
    if parameters:
        item["name"] = "inputs"
    body = {"inputs": [item], "parameters": parameters}
    return ask(node, body, "/v2/models/half/infer")


def test_any_signature_may_be_named() -> None:
    for name, output in {"regress_x_to_y": "outputs", "classify_x_to_y": "scores"}.items():
        (told,) = half([1.0], signature_name=name).json["outputs"]
        assert (told["name"], told["data"]) == (output, [2.5])
    (told,) = half([1.0]).json["outputs"]
    assert told["name"] == "y"
    refused(half([1.0], signature_name="many"), 400, "got no 'tag', wanted tag, signal")
    refused(half([1.0], signature_name="x"), 400, "signature: got 'x', wanted serving_default")
    refused(half([1.0], signature_name=3), 400, "signature_name: got 3, wanted a text")


def test_large_answers_in_json_are_packed_and_bytes_are_not() -> None:
    rows = np.zeros((20_000, 2), np.float32)
    tensors = {"x": rows, "t": np.full(20_000, b"text", np.object_)}
    for binary in (True, False):
        written = write_request(InferRequest(tensors, binary=binary))
        reply = sums(max_upload=1_000_000).request(
            "POST",
            INFER,
            written.data,
            **{LENGTH_HEADER: str(written.json_bytes), "Accept-Encoding": "gzip"},
        )
        assert len(reply.body) > 1
        assert reply.headers.get("Content-Encoding") == (None if binary else "gzip")
        if binary:
            length = int(reply.headers[LENGTH_HEADER])
            found = read_answer(reply.body, length).outputs
            assert found["sum"].tolist() == [0.0] * 20_000
        else:
            told = json.loads(gzip.decompress(reply.body))["outputs"]
            assert told[1]["data"] == ["text"] * 20_000


def test_the_server_says_what_it_is() -> None:
    for path in ("/v2", "/v2/"):
        about = sums().request("GET", path).json
        assert (about["name"], about["version"]) == ("smls-node", "1.2.3")
        assert "binary_tensor_data" in about["extensions"]


def test_health() -> None:
    node = sums()
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/sums/ready"):
        assert node.request("GET", path).status == 200
    node.serving.phase = Phase.DRAINING
    assert node.request("GET", "/v2/health/live").status == 200
    for path in ("/v2/health/ready", "/v2/models/sums/ready"):
        reply = node.request("GET", path)
        refused(reply, 503, "draining")
        assert reply.headers["Retry-After"] == "1"
    refused(ask(node, JSON), 503, "draining")
    assert node.request("GET", "/v2/models/other/ready").status == 503


def test_a_model_says_what_it_takes_and_gives() -> None:
    for path in ("/v2/models/sums", "/v2/models/sums/versions/3"):
        assert sums().request("GET", path).json == {
            "name": "sums",
            "versions": ["3"],
            "platform": "",
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [-1, -1]},
                {"name": "t", "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": "sum", "datatype": "FP32", "shape": [-1]},
                {"name": "text", "datatype": "BYTES", "shape": [-1]},
            ],
        }
    refused(sums().request("GET", "/v2/models/other"), 404, "other")
    refused(sums().request("GET", "/v2/models/sums/versions/4"), 404, "'4'")
    refused(sums().request("GET", "/v2/models/other/ready"), 404, "other")


def test_the_metadata_tell_the_platform_and_each_version_that_may_be_asked_for() -> None:
    versions = ("10", "9", "beta", "11")
    node = MemoryNode(*(model("m", each, Sums(), "onnx_onnxv1") for each in versions))
    told = node.request("GET", "/v2/models/m/versions/9").json
    assert (told["platform"], told["versions"]) == ("onnx_onnxv1", ["beta", "9", "10", "11"])
    for version in told["versions"]:
        assert node.request("GET", f"/v2/models/m/versions/{version}/ready").status == 200


def test_the_metadata_name_the_signatures_of_a_model_that_has_several() -> None:
    node = MemoryNode(model("half", runtime=HalfPlusTwo()))
    told = node.request("GET", "/v2/models/half").json
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]
    names = told["parameters"]["signature_names"]
    assert names[:2] == [DEFAULT, "regress_x_to_y"]
    for name in names:
        other = node.request("GET", f"/v2/models/half?signature_name={name}").json
        signature = node.serving.find(Ask(0.0)).runtime.signatures[name]
        assert [each["name"] for each in other["inputs"]] == [
            spec.name for spec in signature.inputs
        ]
        assert other["parameters"] == told["parameters"]
    refused(node.request("GET", "/v2/models/half?signature_name=x"), 400, "signature: got 'x'")
    assert "parameters" not in sums().request("GET", "/v2/models/sums").json


def test_the_index_lists_what_answers_and_what_does_not() -> None:
    node = sums()
    node.serving.catalogue.stand(
        [Standing("sums", "3", State.AVAILABLE), Standing("bad", "1", State.END, "it is cut short")]
    )
    answers = {"name": "sums", "version": "3", "state": "READY", "reason": ""}
    fails = {"name": "bad", "version": "1", "state": "UNAVAILABLE", "reason": "it is cut short"}
    index = "/v2/repository/index"
    assert node.request("POST", index).json == [fails, answers]
    assert ask(node, {"ready": True}, index).json == [answers]
    refused(ask(node, {"ready": 1}, index), 400, "ready: got 1")
    refused(ask(node, [], index), 400, "wanted an object")


class Control:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def load(self, name: str) -> Deferred[None]:
        if name == "other":
            raise ModelNotFound("model: got 'other'")
        self.calls.append(f"load {name}")
        return succeed(None)

    def unload(self, name: str) -> Deferred[None]:
        self.calls.append(f"unload {name}")
        return succeed(None)


def test_models_are_loaded_and_unloaded_where_the_node_does_that() -> None:
    node = sums()
    for verb in ("load", "unload"):
        refused(node.request("POST", f"/v2/repository/models/sums/{verb}"), 501, "on demand")
    control = node.serving.control = Control()
    for verb in ("load", "unload"):
        assert node.request("POST", f"/v2/repository/models/sums/{verb}").status == 200
    assert control.calls == ["load sums", "unload sums"]
    refused(node.request("POST", "/v2/repository/models/other/load"), 404, "other")
    path = "/v2/repository/models/sums/load"
    refused(ask(node, {"parameters": {"config": "{}"}}, path), 501, "parameters")


def test_more_than_is_parsed_and_written_on_the_reactor() -> None:
    node = sums(max_upload=1_000_000)
    rows = np.ones((5_000, 2), np.float32)
    tensors = {"x": rows, "t": np.full(5_000, b"text", np.object_)}
    reply = binary(node, InferRequest(tensors, binary=True))
    read = read_answer(reply.body, int(reply.headers[LENGTH_HEADER]))
    assert read.outputs["sum"].tolist() == [2] * 5_000

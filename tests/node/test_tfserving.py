# SPDX-License-Identifier: MIT
"""TensorFlow Serving's REST calls over HTTP, both ends in memory."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from smls.errors import BrokenImage
from smls.tensors import Tensors, TensorSpec
from smls_node.batcher import Limits
from smls_node.faces import tfmodels
from smls_node.serving import Phase
from smls_node.signature import DEFAULT, Signature
from smls_node.versions import Standing, State
from tests.memory import Reply, request
from tests.node.memory import (
    Brightness,
    Broken,
    HalfPlusTwo,
    MemoryNode,
    NodeConnection,
    image,
    model,
)


def half(**more: Any) -> MemoryNode:
    return MemoryNode(model("half_plus_two", "123", HalfPlusTwo()), **more)


def post(node: MemoryNode, path: str, body: Any, **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return node.request("POST", f"/v1/models/{path}", data, **headers)


def error(reply: Reply, status: int = 400) -> str:
    """The message of an error, which is all of its body."""
    assert (reply.status, list(reply.json)) == (status, ["error"])
    assert reply.headers["Content-Type"] == "application/json"
    return str(reply.json["error"])


def test_predict_answers_as_it_is_documented() -> None:
    reply = post(half(), "half_plus_two:predict", {"instances": [1.0, 2.0, 5.0]})
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json == {"predictions": [2.5, 3.0, 4.5]}
    assert "infer;dur=" in reply.headers["Server-Timing"]
    assert "JSON" in reply.headers["Endpoint-Load-Metrics"]


def test_rows_keep_their_shape_where_they_are_sent_with_one() -> None:
    node = half()
    rows = post(node, "half_plus_two:predict", {"instances": [[1.0], [2.0]]})
    assert rows.json == {"predictions": [[2.5], [3.0]]}
    named = post(node, "half_plus_two:predict", {"instances": [{"x": [1.0]}, {"x": [2.0]}]})
    assert named.json == rows.json
    flat = post(node, "half_plus_two:predict", {"instances": [{"x": 1.0}, {"x": 2.0}]})
    assert flat.json == {"predictions": [2.5, 3.0]}


def test_columns_answer_outputs() -> None:
    node = half()
    for inputs in ([[1.0], [2.0]], {"x": [[1.0], [2.0]]}):
        reply = post(node, "half_plus_two:predict", {"inputs": inputs})
        assert reply.json == {"outputs": [[2.5], [3.0]]}
    for inputs, outputs in (([1.0, 2.0], [2.5, 3.0]), (2.0, 3.0)):
        reply = post(node, "half_plus_two:predict", {"inputs": inputs})
        assert reply.json == {"outputs": outputs}


MANY = {
    "signature_name": "many",
    "instances": [
        {"tag": "foo", "signal": [1, 2]},
        {"signal": [3, 4], "tag": {"b64": b64encode(b"\xff").decode()}},
    ],
}


def test_several_inputs_and_outputs_are_objects_by_row_or_by_column() -> None:
    rows = post(half(), "half_plus_two:predict", MANY)
    assert rows.json == {
        "predictions": [
            {"tag_bytes": {"b64": "Zm9v"}, "tag": "foo", "sum": 3, "half": [0.5, 1.0]},
            {"tag_bytes": {"b64": "/w=="}, "tag": {"b64": "/w=="}, "sum": 7, "half": [1.5, 2.0]},
        ]
    }
    inputs = {"tag": ["foo", "bar"], "signal": [[1, 2], [3, 4]]}
    columns = post(half(), "half_plus_two:predict", {"signature_name": "many", "inputs": inputs})
    assert columns.json == {
        "outputs": {
            "tag_bytes": [{"b64": "Zm9v"}, {"b64": "YmFy"}],
            "tag": ["foo", "bar"],
            "sum": [3, 7],
            "half": [[0.5, 1.0], [1.5, 2.0]],
        }
    }


def test_nan_and_infinity_go_in_and_out() -> None:
    body = b'{"instances": [NaN, Infinity, -Infinity, 1e3]}'
    reply = post(half(), "half_plus_two:predict", body)
    assert reply.body == b'{"predictions":[NaN,Infinity,-Infinity,502.0]}\n'


def test_a_signature_that_takes_one_at_a_time_is_asked_once_an_instance() -> None:
    body = {"signature_name": "one", "instances": ["a", {"b64": "YmJi"}]}
    assert post(half(), "half_plus_two:predict", body).json == {"predictions": [1, 3]}
    body = {"signature_name": "one", "inputs": "abcd"}
    assert post(half(), "half_plus_two:predict", body).json == {"outputs": 4}
    refused = {"signature_name": "one", "inputs": ["abcd"]}
    assert "text: got BYTES[1], wanted BYTES[]" in error(
        post(half(), "half_plus_two:predict", refused)
    )


def test_pixels_are_predicted_and_classified_by_an_image_model() -> None:
    node = MemoryNode()
    dark, bright = np.full((8, 8, 3), 0.25), np.full((8, 8, 3), 1.0)
    instances = [dark.tolist(), bright.tolist()]
    assert post(node, "light:predict", {"instances": instances}).json == {
        "predictions": [[0.75, 0.25], [0.0, 1.0]]
    }
    examples = [{"image": dark.ravel().tolist()}, {"image": bright.ravel().tolist()}]
    assert post(node, "light:classify", {"examples": examples}).json == {
        "results": [[["dark", 0.75], ["bright", 0.25]], [["bright", 1.0], ["dark", 0.0]]]
    }


def as_b64(data: bytes) -> dict[str, str]:
    return {"b64": b64encode(data).decode()}


def test_images_in_any_format_are_classified() -> None:
    examples = [{"image": as_b64(image(255))}, {"image": as_b64(image(0, "JPEG"))}]
    reply = post(MemoryNode(), "light:classify", {"examples": examples})
    assert reply.json == {
        "results": [[["bright", 1.0], ["dark", 0.0]], [["dark", 1.0], ["bright", 0.0]]]
    }
    assert "infer;dur=" in reply.headers["Server-Timing"]
    examples[1]["image"] = as_b64(b"text")
    assert "example 1: " in error(post(MemoryNode(), "light:classify", {"examples": examples}))


class Jpegs(Brightness):
    """A graph that decodes one JPEG by itself, as Inception's does."""

    def __init__(self) -> None:
        super().__init__()
        signature = Signature(
            (TensorSpec("DecodeJpeg/contents", "BYTES", ()),),
            (TensorSpec("final_result", "FP32", (1, 2)),),
            batches=False,
        )
        self.signatures = {DEFAULT: signature}

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        data = inputs["DecodeJpeg/contents"][()]
        if not data.startswith(b"\xff\xd8"):
            raise BrokenImage("the graph cannot decode the image")
        return {"final_result": np.array([[0.0, 1.0]], np.float32)}


def test_a_graph_of_jpegs_takes_them_as_instances_and_as_examples() -> None:
    node = MemoryNode(model("inception", runtime=Jpegs()))
    jpeg = as_b64(image(255, "JPEG"))
    predicted = post(node, "inception:predict", {"instances": [jpeg, jpeg]})
    assert predicted.json == {"predictions": [[0.0, 1.0], [0.0, 1.0]]}
    classified = post(node, "inception:classify", {"examples": [{"x": jpeg}, {"x": jpeg}]})
    assert classified.json == {"results": [[["bright", 1.0], ["dark", 0.0]]] * 2}
    broken = {"instances": [jpeg, as_b64(b"text")]}
    assert "cannot decode" in error(post(node, "inception:predict", broken))


def test_regress_and_classify_use_the_signatures_own_outputs() -> None:
    body = {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": [2.0]}]}
    assert post(half(), "half_plus_two:regress", body).json == {"results": [2.5, 3.0]}
    body = {"signature_name": "classify_x_to_y", "context": {"x": 5.0}, "examples": [{}]}
    assert post(half(), "half_plus_two:classify", body).json == {"results": [[["", 4.5]]]}
    body = b'{"signature_name": "regress_x_to_y", "examples": [{"x": NaN}]}'
    assert post(half(), "half_plus_two:regress", body).body == b'{"results":[NaN]}\n'


def test_the_model_is_named_by_version_label_or_neither_in_any_case() -> None:
    node = MemoryNode(model("Half", "1", HalfPlusTwo()), model("Half", "2", HalfPlusTwo()))
    node.serving.catalogue.label({"Half": {"stable": "1"}})
    body = {"instances": [1.0]}
    for path in (
        "/v1/models/Half:predict",
        "/v1/models/Half/versions/1:predict",
        "/v1/models/Half/versions/0002:predict",
        "/v1/models/Half/labels/stable:predict",
        "/V1/Models/Half/Versions/1:Predict",
        "/v1/models/H%61lf/LABELS/st%61ble:PREDICT?x=y",
    ):
        assert node.request("POST", path, json.dumps(body).encode()).json == {"predictions": [2.5]}
    assert "Latest(half)" in error(post(node, "half:predict", body), 404)


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("POST", "half:predict", 404, "Servable not found for request: Latest(half)"),
        (
            "POST",
            "half/versions/3:predict",
            404,
            "Servable not found for request: Specific(half, 3)",
        ),
        (
            "POST",
            "half_plus_two/versions/3:regress",
            404,
            "Servable not found for request: Specific(half_plus_two, 3)",
        ),
        ("GET", "half/metadata", 404, "Servable not found for request: Latest(half)"),
        ("GET", "half", 404, "Could not find any versions of model half"),
        (
            "GET",
            "half_plus_two/versions/7",
            404,
            "Could not find version 7 of model half_plus_two",
        ),
        ("POST", "half_plus_two/labels/x:predict", 400, "Unrecognized servable version label: x"),
        ("GET", "half_plus_two/labels/x", 400, "Unrecognized servable version label: x"),
        ("GET", "half_plus_two/labels/x/metadata", 400, "Unrecognized servable version label: x"),
        (
            "POST",
            f"half_plus_two/versions/{2**64}:predict",
            400,
            f"Failed to convert version: {2**64} to numeric.",
        ),
        ("GET", "", 400, "Missing model name in request."),
        ("GET", "half_plus_two:predict", 400, "Malformed request: GET /v1/models/half_plus_two:"),
        ("POST", "half_plus_two", 400, "Malformed request: POST /v1/models/half_plus_two"),
        ("POST", "half_plus_two:fit", 400, "Malformed request"),
        ("POST", "half_plus_two/metadata", 400, "Malformed request"),
        ("GET", "half_plus_two/versions/x", 400, "Malformed request"),
        ("POST", "half_plus_two/versions/1/labels/x:predict", 400, "Malformed request"),
        ("POST", "../v1/foo", 400, "Malformed request"),
        ("DELETE", "half_plus_two", 405, "does not take DELETE"),
    ],
)
def test_a_path_that_names_nothing_is_told(method: str, path: str, status: int, told: str) -> None:
    for body in (b"", b'{"instances": [1.0]}'):
        reply = half().request(method, f"/v1/models/{path}", body)
        assert error(reply, status).startswith(told) or told in error(reply, status)


def test_numbers_of_thousands_of_digits_are_told() -> None:
    reply = half().request("GET", f"/v1/models/half_plus_two/versions/{'9' * 5000}")
    assert "Failed to convert version" in error(reply)
    reply = half().request("GET", f"/v1/models/half_plus_two/versions/{'0' * 5000}1")
    assert error(reply, 404) == "Could not find version 1 of model half_plus_two"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "JSON Parse error: The document is empty."),
        (b"instances = [1]", "JSON Parse error: "),
        (b"\xff\x00", "JSON Parse error: "),
        ([1], "JSON Value: [1] Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [1.0], "inputs": [1.0]}, "only one of 'inputs' or 'instances' keys"),
        ({"instances": 1.0}, "Expecting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"signature_name": 100}, "'signature_name' key must be a string value."),
        (
            {"signature_name": "x", "instances": [1.0]},
            'Serving signature name: "x" not found in signature def',
        ),
        (
            {"instances": ["x", "y"]},
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "x" Type: String is not of expected type: float',
        ),
        (
            {"instances": [[1.0], [2.0, 3.0]]},
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [1] but got: [2]",
        ),
        ({"instances": [{"x": 1.0}, 2.0]}, "Expecting object but got list at item 1 of input"),
        ({"instances": [1.0, {"x": 2.0}]}, "Expecting value/list but got object at item 1 of"),
        (
            {"instances": [{"y": 1.0}]},
            "key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have "
            "named input: y",
        ),
        ({"instances": [{}]}, "JSON object: {} keys must be equal to: x"),
        ({"instances": [[[1.0]]]}, "input x: got FP32[1, 1, 1], wanted FP32[?, 1]"),
        ({"instances": [[1.0, 2.0]]}, "input x: got FP32[1, 2], wanted FP32[?, 1]"),
        ({"inputs": [[1.0, 2.0]]}, "input x: got FP32[1, 2], wanted FP32[?, 1]"),
        ({"inputs": {"y": [[1.0]]}}, "Missing named input: x in 'inputs' object."),
        ({"inputs": {"x": [[1.0]], "y": 1}}, "does not have named input: y"),
        ({"inputs": {"x": [[1.0], [1.0, 2.0]]}}, "list at unexpected size: 2 at level: 1"),
        ({"inputs": []}, "got no row"),
        ({"signature_name": "many", "instances": [1]}, "expecting list of objects as multiple"),
        ({"signature_name": "many", "inputs": [1]}, "expecting an object as multiple"),
        (
            {"signature_name": "many", "inputs": {"tag": ["a"], "signal": [[1, 2], [3, 4]]}},
            "got rows 1 of tag, 2 of signal",
        ),
        (
            {"signature_name": "many", "instances": [{"tag": 1, "signal": [1, 2]}]},
            "Failed to process element: 0 key: tag of 'instances' list.",
        ),
        (b'{"instances": %s}' % (b"[" * 900 + b"]" * 900), "got lists in lists 900 deep"),
        (b'{"instances": [1%s]}' % (b"0" * 400), "JSON Parse error"),
        (b'{"instances": [1%s]}' % (b"0" * 100), "not of expected type: float"),
    ],
)
def test_a_predict_that_is_wrong_is_told(body: Any, told: str) -> None:
    node = half()
    assert told in error(post(node, "half_plus_two:predict", body))
    assert post(node, "half_plus_two:predict", {"instances": [1.0]}).status == 200


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "JSON Parse error: The document is empty."),
        ([1], "Is not object"),
        ({"signature_name": "x", "examples": [{}]}, "No signature was found with the name: x"),
        ({}, "key 'examples' is expected and was not found"),
        ({"examples": {}}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"context": 1, "examples": [{}]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": [[1]]}]}, "Feature: x has element with unexpected JSON type: Array"),
        ({"examples": [{"x": {"y": 1}}]}, "Feature: x has element with unexpected JSON type: Obj"),
        ({"examples": [{"x": [1, 1.5]}]}, "element type in feature: x expecting type: int64"),
        ({"examples": [{"x": ["a", 1.5]}]}, "element type in feature: x expecting type: bytes"),
        ({"examples": [{"x": 2**63}]}, "Feature: x has uint64_t element."),
        ({"examples": [{"x": {"b64": "?"}}]}, "Feature: x: Unable to base64 decode"),
        ({"examples": [{"x": 1.0, "y": 2.0}]}, "got features x, y, wanted inputs"),
        ({"examples": [{"x": [1.0, 2.0]}]}, "input inputs: got values in numbers of 2"),
    ],
)
def test_examples_that_are_wrong_are_told(body: Any, told: str) -> None:
    for verb in ("classify", "regress"):
        named = {"signature_name": f"{verb}_x_to_y", **body} if isinstance(body, dict) else body
        assert told in error(post(half(), f"half_plus_two:{verb}", named))


def test_a_signature_for_something_else_is_told() -> None:
    body = {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}]}
    assert "Expected classification signature outputs" in error(
        post(half(), "half_plus_two:classify", body)
    )
    for body, method in (
        ({"signature_name": "many", "examples": [{"tag": "a", "signal": [1, 2]}]}, "predict"),
        ({"examples": [{"x": 1.0}]}, "predict"),
        ({"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}]}, "classify"),
    ):
        assert error(post(half(), "half_plus_two:regress", body)) == (
            "Expected regression signature method_name to be tensorflow/serving/regress. "
            f"Was: tensorflow/serving/{method}"
        )


def test_outputs_without_rows_are_answered_by_column_alone() -> None:
    class Scalar(HalfPlusTwo):
        def __init__(self) -> None:
            super().__init__()
            x = TensorSpec("x", "FP32", (-1,))
            outputs = (TensorSpec("mean", "FP32", ()), TensorSpec("all", "FP32", (-1,)))
            self.signatures = {DEFAULT: Signature((x,), outputs, batches=False)}

        def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
            return {"mean": inputs["x"].mean(), "all": inputs["x"]}

    node = MemoryNode(model("mean", runtime=Scalar()))
    columns = post(node, "mean:predict", {"inputs": [1.0, 2.0]})
    assert columns.json == {"outputs": {"mean": 1.5, "all": [1.0, 2.0]}}
    rows = error(post(node, "mean:predict", {"instances": [1.0, 2.0]}))
    assert "Tensor name: mean has no shape information" in rows


def test_a_model_that_takes_anything_is_given_it() -> None:
    class Echo(HalfPlusTwo):
        def __init__(self) -> None:
            super().__init__()
            self.signatures = {DEFAULT: Signature(is_open=True)}

        def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
            return inputs

    node = MemoryNode(model("echo", runtime=Echo()))
    inputs = {"a": [[1, 2]], "b": ["x"], "c": [True]}
    assert post(node, "echo:predict", {"inputs": inputs}).json == {"outputs": inputs}
    rows = [{"a": 1.5}, {"a": 2.5}]
    assert post(node, "echo:predict", {"instances": rows}).json == {"predictions": [1.5, 2.5]}
    assert "keys must be equal" in error(
        post(node, "echo:predict", {"instances": [{"a": 1, "b": 2}, {"a": 1}]})
    )
    assert "instances is a plain list" in error(post(node, "echo:predict", {"instances": [1]}))
    assert "inputs is a plain value" in error(post(node, "echo:predict", {"inputs": [1]}))


def test_a_fault_of_the_model_is_told_as_ours() -> None:
    node = MemoryNode(model("light", runtime=Broken()))
    pixels = np.zeros((1, 8, 8, 3)).tolist()
    reply = post(node, "light:predict", {"instances": pixels})
    assert "fault" in error(reply, 500) or "id" in error(reply, 500)


def test_deadlines_and_bounds_are_told() -> None:
    node = half()
    body = {"instances": [1.0, 2.0, 3.0]}
    wrong = post(node, "half_plus_two:predict", body, X_Request_Timeout_Ms="x")
    assert "wanted milliseconds above 0" in error(wrong)
    small = half(queue=Limits(max_batch_size=2, max_queue_size=2))
    assert "got 3 rows, wanted 2 at most" in error(post(small, "half_plus_two:predict", body))
    one_at_a_time = {"signature_name": "one", "instances": ["a", "b", "c"]}
    refused = post(small, "half_plus_two:predict", one_at_a_time)
    assert "queue" in error(refused, 503)
    assert "Retry-After" in refused.headers
    hanging = half()
    connection = NodeConnection(hanging.site)
    connection.send(
        request(
            "POST",
            "/v1/models/half_plus_two:predict",
            json.dumps(body).encode(),
            X_Request_Timeout_Ms="500",
        )
    )
    hanging.clock.advance(1)
    hanging.serving.expire()
    assert "deadline" in error(connection.reply(), 504)


def test_a_node_that_loads_or_drains_refuses_but_tells_what_it_has() -> None:
    node = half()
    node.serving.phase = Phase.LOADING
    assert "loading" in error(post(node, "half_plus_two:predict", {"instances": [1.0]}), 503)
    assert "loading" in error(node.request("GET", "/v1/models/later"), 503)
    assert "loading" in error(node.request("GET", "/v1/models/half_plus_two/metadata"), 503)
    assert node.request("GET", "/v1/models/half_plus_two").status == 200


def test_the_status_tells_each_version_the_latest_first() -> None:
    node = MemoryNode(model("half", "9", HalfPlusTwo()), model("half", "10", HalfPlusTwo()))
    node.serving.catalogue.label({"half": {"stable": "9"}})
    node.serving.catalogue.stand(
        [
            Standing("half", "11", State.LOADING),
            Standing("half", "8", State.END, "its first run failed"),
            Standing("other", "1", State.START),
            Standing("half", "10", State.AVAILABLE),
        ]
    )
    ok = {"error_code": "OK", "error_message": ""}
    assert node.request("GET", "/v1/models/half").json == {
        "model_version_status": [
            {"version": "11", "state": "LOADING", "status": ok},
            {"version": "10", "state": "AVAILABLE", "status": ok},
            {"version": "9", "state": "AVAILABLE", "status": ok},
            {
                "version": "8",
                "state": "END",
                "status": {"error_code": "UNKNOWN", "error_message": "its first run failed"},
            },
        ],
        "ready": True,
    }
    one = {
        "model_version_status": [{"version": "9", "state": "AVAILABLE", "status": ok}],
        "ready": True,
    }
    assert node.request("GET", "/v1/models/half/versions/9").json == one
    assert node.request("GET", "/v1/models/half/labels/stable").json == one
    failed = node.request("GET", "/v1/models/half/versions/8").json
    (status,) = failed["model_version_status"]
    assert status["status"]["error_message"] == "its first run failed"
    assert failed["ready"] is False


def test_the_metadata_are_those_of_its_signatures() -> None:
    reply = half().request("GET", "/v1/models/half_plus_two/versions/123/metadata").json
    assert reply["model_spec"] == {
        "name": "half_plus_two",
        "signature_name": "",
        "version": "123",
    }
    signatures = reply["metadata"]["signature_def"]["signature_def"]
    sides = [{"size": "-1", "name": ""}, {"size": "1", "name": ""}]
    shape = {"dim": sides, "unknown_rank": False}
    assert signatures["serving_default"] == {
        "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "x:0"}},
        "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "y:0"}},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    assert signatures["regress_x_to_y"]["method_name"] == "tensorflow/serving/regress"
    many = signatures["many"]
    assert many["inputs"]["tag"]["dtype"] == "DT_STRING"
    assert many["inputs"]["signal"]["dtype"] == "DT_INT32"
    assert many["outputs"]["half"]["dtype"] == "DT_DOUBLE"


def test_instances_of_several_requests_are_run_together() -> None:
    runtime = HalfPlusTwo()
    node = MemoryNode(model("half", runtime=runtime), queue=evolve(Limits(), max_batch_size=8))
    assert post(node, "half:predict", {"instances": [1.0] * 5}).status == 200
    assert runtime.batches == [5]


@given(st.binary(max_size=60) | st.text('{}[]":,1nainstces ').map(str.encode))
def test_no_body_whatever_is_our_fault(body: bytes) -> None:
    node = half()
    for verb in ("predict", "classify", "regress"):
        assert 400 <= post(node, f"half_plus_two:{verb}", body).status < 500


@given(st.text(max_size=30))
def test_no_path_whatever_is_our_fault(text: str) -> None:
    reply = half().request("GET", f"/v1/{quote(text, safe='/:')}")
    assert reply.status in (200, 400, 404)


def test_a_path_is_read_as_tensorflow_serving_reads_it() -> None:
    found = tfmodels.called("GET", "/v1/models/a%2Fb/labels/c/metadata?d")
    assert (found.model, found.label, found.verb) == ("a/b", "c", "metadata")

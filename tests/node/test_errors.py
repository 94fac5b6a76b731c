# SPDX-License-Identifier: MIT
"""Each way in which a request can be wrong, in each dialect: the status, and what is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from grpc import StatusCode

from smls.inference import LENGTH_HEADER
from smls.tensors import TensorSpec
from smls_node.signature import Signature
from tests.memory import Reply
from tests.node.grpc_memory import OIP, PREDICTION, Doubles, GrpcNode, grpc_node
from tests.node.memory import MemoryNode, model

DEEP = 100_000
"""Lists in lists: no parser may use the stack for each."""


class Counts(Doubles):
    """Doubles, and whole numbers of 8 bits besides."""

    def __init__(self) -> None:
        super().__init__()
        x = TensorSpec("n", "UINT8", (-1,))
        self.signatures["count"] = Signature((x,), (x,))


def http_node() -> MemoryNode:
    return MemoryNode(model("double", runtime=Counts()), max_upload=1_000_000)


def told(reply: Reply) -> str:
    """The error's text, which is all there is in the body."""
    assert set(reply.json) == {"error"}
    assert reply.headers["Content-Type"].startswith("application/json")
    return str(reply.json["error"])


PREDICT = "/v1/models/double:predict"
ROW = b'{"instances": [[1, 2]]}'


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v1/models/roses:predict", ROW, 404, "Servable not found for request: Latest(roses)"),
        (
            "/v1/models/double/versions/9:predict",
            ROW,
            404,
            "Servable not found for request: Specific(double, 9)",
        ),
        ("/v1/models/double/labels/x:predict", ROW, 400, "Unrecognized servable version label"),
        (
            PREDICT,
            b'{"signature_name": "s", "instances": [[1, 2]]}',
            400,
            'Serving signature name: "s" not found in signature def',
        ),
        (PREDICT, b'{"instances": [{"z": [1, 2]}]}', 400, "does not have named input: z"),
        (PREDICT, b'{"inputs": {"z": [[1, 2]]}}', 400, "Missing named input: x"),
        (PREDICT, b'{"instances": [["a", "b"]]}', 400, "is not of expected type: float"),
        (PREDICT, b'{"instances": [[1, 2, 3]]}', 400, "wanted FP32[?, 2]"),
        (PREDICT, b'{"instances": [[1, 2], [1]]}', 400, "Failed to process element: 1"),
        (
            PREDICT,
            b'{"signature_name": "count", "instances": [256]}',
            400,
            "Failed to process element: 0",
        ),
        (PREDICT, b'{"instances": [[1, 1e999]]}', 400, "JSON Parse error"),
        (
            PREDICT,
            b'{"instances": %b1%b}' % (b"[" * DEEP, b"]" * DEEP),
            400,
            "depth limit exceeded",
        ),
        (PREDICT, b"[" * DEEP, 400, "depth limit exceeded"),
        (PREDICT, b'{"instances": [[1, 2]]', 400, "JSON Parse error"),
        (PREDICT, b"", 400, "The document is empty"),
        (PREDICT, b"[]", 400, "Is not object"),
        (
            "/v1/models/double:regress",
            b'{"signature_name": "regress", "examples": [{"x": "a"}]}',
            400,
            "input x: got values of bytes, wanted FP32[?, 2]",
        ),
        ("/v1/models/double:classify", b'{"examples": 1}', 400, "to be an list/array"),
    ],
)
def test_tensorflow_serving_over_http(path: str, body: bytes, status: int, text: str) -> None:
    reply = http_node().request("POST", path, body, "application/json")
    assert (reply.status, text in told(reply)) == (status, True), reply.body[:400]


def item(**more: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2], **more}


def asking(asked: dict[str, Any] | None = None, **more: Any) -> bytes:
    return json.dumps({"inputs": [item(**more)], "parameters": asked or {}}).encode()


INFER = "/v2/models/double/infer"

V2_JSON = [
    ("/v2/models/roses/infer", asking(), 404, "got 'roses', wanted one of double"),
    ("/v2/models/double/versions/9/infer", asking(), 404, "version: got '9', wanted one of 1"),
    (INFER, asking({"signature_name": "s"}), 400, "signature: got 's', wanted serving_default"),
    (INFER, asking(name="z"), 400, "inputs: got no 'x', wanted x"),
    (INFER, asking(parameters={"shared_memory_region": "r"}), 501, "input x: shared memory"),
    (INFER, asking(datatype="FP31"), 400, "input x: datatype: got 'FP31', wanted one of BOOL"),
    (INFER, asking(datatype="FP64"), 400, "input x: got FP64[1, 2], wanted FP32[?, 2]"),
    (INFER, asking(shape=[2]), 400, "input x: got FP32[2], wanted FP32[?, 2]"),
    (INFER, asking(shape=[-1, 2]), 400, "input x: shape: got [-1, 2]"),
    (INFER, asking(shape=[2, 2]), 400, "data: got 2 elements, wanted 4"),
    (INFER, asking(shape=[1 << 62, 2]), 400, "data: got 2 elements, wanted"),
    (INFER, asking(data=[1, 1e39]), 400, "does not fit into float32"),
    (INFER, asking(data=["a", "b"]), 400, "wanted numbers"),
    (
        INFER,
        asking({"signature_name": "count"}, name="n", datatype="UINT8", data=[1, 256]),
        400,
        "does not fit into uint8",
    ),
    (INFER, asking().replace(b"[1, 2]}", b"[1, 1e999]}"), 400, "no JSON that can be read"),
    (INFER, asking().replace(b"[1, 2]}", b"[1, nan]}"), 400, "no JSON that can be read"),
    (INFER, b'{"inputs": %b1%b}' % (b"[" * DEEP, b"]" * DEEP), 400, "no JSON that can be read"),
    (INFER, b'{"parameters": ' + b'{"a":' * DEEP, 400, "no JSON that can be read"),
    (INFER, asking()[:-1], 400, "no JSON that can be read"),
    (INFER, b"", 400, "no JSON that can be read"),
    (INFER, b"[]", 400, "got a list, wanted an object"),
    (INFER, b"\xff\xfe{}", 400, "no JSON that can be read"),
]


@pytest.mark.parametrize(("path", "body", "status", "text"), V2_JSON)
def test_open_inference_in_json(path: str, body: bytes, status: int, text: str) -> None:
    reply = http_node().request("POST", path, body, "application/json")
    assert (reply.status, text in told(reply)) == (status, True), reply.body[:400]


def binary(size: Any = 8, data: bytes = bytes(8), **more: Any) -> tuple[str, bytes]:
    tensor = item(parameters={"binary_data_size": size}, **more)
    del tensor["data"]
    head = json.dumps({"inputs": [tensor]}).encode()
    return str(len(head)), head + data


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (binary(name="z"), "inputs: got no 'x'"),
        (binary(datatype="FP31"), "datatype: got 'FP31'"),
        (binary(datatype="INT32"), "got INT32[1, 2], wanted FP32[?, 2]"),
        (binary(shape=[2]), "got FP32[2], wanted FP32[?, 2]"),
        (binary(shape=[1 << 62, 2]), "got 8 bytes, wanted"),
        (binary(4, bytes(4)), "got 4 bytes, wanted 8"),
        (binary(8, bytes(4)), "binary_data_size: got 8, wanted 0-4"),
        (binary(-1), "binary_data_size: got -1"),
        (binary("8"), "binary_data_size: got '8'"),
        (binary(1 << 60), "binary_data_size: got"),
        (binary(1 << 70), "no JSON that can be read"),
        (binary(8, bytes(9)), "got 1 bytes that belong to no input"),
        (("9999", binary()[1]), f"{LENGTH_HEADER}: got '9999', wanted 0-"),
        (("-1", binary()[1]), f"{LENGTH_HEADER}: got '-1'"),
        (("1" * 30, binary()[1]), f"{LENGTH_HEADER}: got '1111"),
        (("x", binary()[1]), f"{LENGTH_HEADER}: got 'x'"),
        (("7", binary()[1]), "the body's JSON: got no JSON"),
        ((str(DEEP), b"[" * DEEP), "the body's JSON: got no JSON"),
        (binary(8, b"\x01\x02" * 4, datatype="BOOL", shape=[8]), "got bytes above 1"),
        (binary(8, b"\xff\xff\xff\xff" + bytes(4), datatype="BYTES", shape=[1]), "got 8 bytes"),
    ],
)
def test_open_inference_in_bytes(given: tuple[str, bytes], text: str) -> None:
    length, body = given
    headers = {LENGTH_HEADER: length}
    for path, status, what in (
        (INFER, 400, text),
        ("/v2/models/roses/infer", 404, "got 'roses'"),
        ("/v2/models/double/versions/9/infer", 404, "got '9'"),
    ):
        reply = http_node().request("POST", path, body, "application/octet-stream", **headers)
        assert (reply.status, what in told(reply)) == (status, True), reply.body[:400]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v2/models/roses/infer", bytes(8), 404, "got 'roses'"),
        ("/v2/models/double/versions/9/infer", bytes(8), 404, "got '9'"),
        (INFER, bytes(4), 400, "input x: got 4 bytes, wanted 8"),
        (INFER, bytes(16), 400, "input x: got 16 bytes, wanted 8"),
    ],
)
def test_a_raw_body(path: str, body: bytes, status: int, text: str) -> None:
    reply = http_node().request(
        "POST", path, body, "application/octet-stream", **{LENGTH_HEADER: "0"}
    )
    assert (reply.status, text in told(reply)) == (status, True), reply.body


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "x", ""])
def test_the_content_type_is_not_asked_for(kind: str) -> None:
    """As with TensorFlow Serving and Triton: ``curl -d`` sends that of a form."""
    node = http_node()
    assert node.request("POST", PREDICT, ROW, kind).json == {"predictions": [[2, 4]]}
    assert node.request("POST", INFER, asking(), kind).json["outputs"][0]["data"] == [2, 4]


@pytest.mark.parametrize("path", [PREDICT, INFER])
def test_a_form_is_no_json(path: str) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n1\r\n--x--\r\n'
    reply = http_node().request("POST", path, form, "multipart/form-data; boundary=x")
    assert (reply.status, "JSON" in told(reply)) == (400, True)


@pytest.fixture(scope="module")
def grpc() -> Iterator[GrpcNode]:
    with grpc_node(model("double", runtime=Counts())) as node:
        yield node


def raw(
    name: str = "x", datatype: str = "FP32", shape: Any = (1, 2), data: bytes = bytes(8)
) -> Any:
    tensor = {"name": name, "datatype": datatype, "shape": list(shape)}
    return {"inputs": [tensor], "raw_input_contents": [data]}


def numbers(field: str, values: Any, **more: Any) -> Any:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "contents": {field: values}}
    return {"inputs": [{**tensor, **more}]}


INVALID = StatusCode.INVALID_ARGUMENT

IN_SHARED_MEMORY = {"shared_memory_region": {"string_param": "r"}}


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"model_name": "roses", **raw()}, StatusCode.NOT_FOUND, "got 'roses'"),
        ({"model_version": "9", **raw()}, StatusCode.NOT_FOUND, "version: got '9'"),
        (
            {"parameters": {"signature_name": {"string_param": "s"}}, **raw()},
            INVALID,
            "signature: got 's'",
        ),
        (raw("z"), INVALID, "inputs: got no 'x'"),
        (raw(datatype="FP31"), INVALID, "datatype: got 'FP31'"),
        (raw(datatype="INT32"), INVALID, "got INT32[1, 2], wanted FP32[?, 2]"),
        (raw(shape=(2,)), INVALID, "got FP32[2], wanted FP32[?, 2]"),
        (raw(shape=(-1, 2)), INVALID, "shape: got"),
        (raw(shape=(1 << 62, 2)), INVALID, "got 8 bytes, wanted"),
        (raw(data=bytes(4)), INVALID, "got 4 bytes, wanted 8"),
        ({"inputs": raw()["inputs"], "raw_input_contents": [bytes(8)] * 2}, INVALID, "got 2"),
        ({"inputs": raw()["inputs"]}, INVALID, "got 0 values in fp32_contents, wanted 2"),
        (numbers("fp32_contents", [1.0]), INVALID, "got 1 values in fp32_contents, wanted 2"),
        (
            numbers("uint_contents", [1, 256], name="n", datatype="UINT8", shape=[2]),
            INVALID,
            "got 1 to 256 in uint_contents, wanted uint8",
        ),
        (
            {"inputs": [{**raw()["inputs"][0], "parameters": IN_SHARED_MEMORY}]},
            StatusCode.UNIMPLEMENTED,
            "input x: shared memory is not served",
        ),
        (
            {"outputs": [{"name": "z"}], **raw()},
            INVALID,
            "outputs: got 'z', wanted y",
        ),
    ],
)
def test_open_inference_over_grpc(
    grpc: GrpcNode, fields: Any, status: StatusCode, text: str
) -> None:
    got, details = grpc.refused(OIP, "ModelInfer", **{"model_name": "double", **fields})
    assert (got, text in details) == (status, True), details


def predict(name: str = "x", model_spec: Any = None, **more: Any) -> Any:
    proto = {
        "dtype": 1,
        "tensor_shape": {"dim": [{"size": 1}, {"size": 2}]},
        "float_val": [1, 2],
        **more,
    }
    return {"model_spec": {"name": "double", **(model_spec or {})}, "inputs": {name: proto}}


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        (predict(model_spec={"name": "roses"}), StatusCode.NOT_FOUND, "got 'roses'"),
        (predict(model_spec={"version": {"value": 9}}), StatusCode.NOT_FOUND, "version: got '9'"),
        (predict(model_spec={"version_label": "x"}), StatusCode.NOT_FOUND, "label: got 'x'"),
        (predict(model_spec={"signature_name": "s"}), INVALID, "signature: got 's'"),
        (predict("z"), INVALID, "inputs: got no 'x'"),
        (predict(dtype=8), INVALID, "dtype: got DT_COMPLEX64"),
        (predict(dtype=2, float_val=[], double_val=[1, 2]), INVALID, "got FP64[1, 2], wanted FP32"),
        (predict(tensor_shape={"dim": [{"size": 2}] * 3}), INVALID, "wanted FP32[?, 2]"),
        (predict(tensor_shape={"dim": [{"size": -1}]}), INVALID, "shape: got [-1]"),
        (predict(tensor_shape={"dim": [{"size": 1 << 62}]}), INVALID, "bytes at most"),
        (predict(float_val=[], tensor_content=bytes(4)), INVALID, "got 4 bytes, wanted 8"),
        (predict(float_val=[1, 2, 3]), INVALID, "got 3 values in float_val, wanted 2 at most"),
        (
            predict("n", {"signature_name": "count"}, dtype=4, float_val=[], int_val=[256, 1]),
            INVALID,
            "got 1 to 256 in int_val, wanted uint8",
        ),
    ],
)
def test_tensorflow_serving_over_grpc(
    grpc: GrpcNode, fields: Any, status: StatusCode, text: str
) -> None:
    got, details = grpc.refused(PREDICTION, "Predict", **fields)
    assert (got, text in details) == (status, True), details


def test_what_is_no_message_is_told(grpc: GrpcNode) -> None:
    for service, method in ((OIP, "ModelInfer"), (PREDICTION, "Predict")):
        future = grpc.channel.unary_unary(f"/{service}/{method}").future(b"\xff" * 9, timeout=20)
        grpc.pump(future.done)
        assert future.code() is INVALID
        assert "got no " in future.details()


def test_a_wrong_request_leaves_the_node_as_it_was() -> None:
    node = http_node()
    for path, body, *_ in V2_JSON:
        node.request("POST", path, body)
    assert not node.site.in_flight
    assert node.request("POST", PREDICT, ROW).json == {"predictions": [[2.0, 4.0]]}
    assert node.workers.load().queue == 0

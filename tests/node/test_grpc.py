# SPDX-License-Identifier: MIT
"""Both gRPC dialects on real connections, before a node whose worker is stepped by hand."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from twisted.internet.defer import Deferred, succeed

from smls.errors import Overloaded, PortTaken
from smls.wire import LOAD_HEADER, load_from_header
from smls_node.batchtime import BatchTime
from smls_node.faces.grpc.messages import message
from smls_node.serving import Phase
from smls_node.settings import Limits
from smls_node.versions import Standing, State
from tests.node.grpc_memory import (
    HEALTH,
    MODELS,
    OIP,
    PREDICTION,
    REFLECTION,
    REPOSITORY,
    Doubles,
    Echo,
    GrpcNode,
    grpc_node,
    stub,
)
from tests.node.memory import Brightness, Broken, image, model

BRIGHT = np.ones((1, 8, 8, 3), np.float32)


@pytest.fixture
def node() -> Iterator[GrpcNode]:
    with grpc_node(
        model("light"),
        model("echo", runtime=Echo()),
        model("double", "3", runtime=Doubles()),
        model("broken", runtime=Broken()),
    ) as found:
        yield found


def infer_fields(array: Any = BRIGHT, name: str = "light", **fields: Any) -> dict[str, Any]:
    told = {"name": "image", "datatype": "FP32", "shape": array.shape}
    return {
        "model_name": name,
        "inputs": [told],
        "raw_input_contents": [array.tobytes()],
        **fields,
    }


def tensor(array: Any) -> Any:
    return {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": side} for side in array.shape]},
        "tensor_content": array.astype(np.float32).tobytes(),
    }


def spec(name: str, version: int | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, **({"version": {"value": version}} if version else {}), **more}


# The Open Inference Protocol ------------------------------------------------------------------


def test_the_server_tells_what_it_is(node: GrpcNode) -> None:
    assert node.call(OIP, "ServerLive").live
    assert node.call(OIP, "ServerReady").ready
    about = node.call(OIP, "ServerMetadata")
    assert (about.name, about.version) == ("smls-node", "1.2.3")
    assert "model_repository" in about.extensions


def test_models_tell_what_they_are(node: GrpcNode) -> None:
    assert node.call(OIP, "ModelReady", name="light").ready
    assert node.call(OIP, "ModelReady", name="double", version="3").ready
    assert not node.call(OIP, "ModelReady", name="double", version="4").ready
    assert not node.call(OIP, "ModelReady", name="roses").ready
    about = node.call(OIP, "ModelMetadata", name="light")
    assert (about.name, list(about.versions)) == ("light", ["1"])
    assert [(each.name, each.datatype, list(each.shape)) for each in about.inputs] == [
        ("image", "FP32", [-1, 8, 8, 3])
    ]
    assert [each.name for each in about.outputs] == ["scores"]
    assert node.refused(OIP, "ModelMetadata", name="roses")[0] is StatusCode.NOT_FOUND


def test_raw_tensors_are_answered_raw(node: GrpcNode) -> None:
    answer = node.call(OIP, "ModelInfer", **infer_fields(id="seven"))
    assert (answer.model_name, answer.model_version, answer.id) == ("light", "1", "seven")
    (told,) = answer.outputs
    assert (told.name, told.datatype, list(told.shape)) == ("scores", "FP32", [1, 2])
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [0, 1]


def test_contents_are_answered_in_contents(node: GrpcNode) -> None:
    fields = infer_fields(raw_input_contents=[])
    fields["inputs"][0]["contents"] = {"fp32_contents": BRIGHT.ravel().tolist()}
    answer = node.call(OIP, "ModelInfer", **fields)
    assert list(answer.outputs[0].contents.fp32_contents) == [0, 1]
    assert not answer.raw_output_contents


def test_large_tensors_are_parsed_elsewhere_and_come_back() -> None:
    large = np.random.default_rng(1).random((500, 1000), np.float32)
    fields = infer_fields(large, "echo")
    with grpc_node(model("echo", runtime=Echo()), max_upload=3_000_000) as node:
        answer = node.call(OIP, "ModelInfer", **fields)
        assert answer.raw_output_contents[0] == large.tobytes()
        fields["raw_input_contents"] = []
        fields["inputs"][0]["contents"] = {"fp32_contents": large.ravel().tolist()}
        answer = node.call(OIP, "ModelInfer", **fields)
    assert np.array_equal(answer.outputs[0].contents.fp32_contents, large.ravel())


def test_several_rows_and_calls_are_one_run() -> None:
    runtime = Brightness()
    with grpc_node(model("light", runtime=runtime), time=BatchTime([(1, 1.0), (8, 1.07)])) as node:
        calls = [
            node.begin(OIP, "ModelInfer", **infer_fields(np.full_like(BRIGHT, level)))
            for level in (0, 1, 0.5)
        ]
        queued(node, 3)
        scores = [node.end(call).raw_output_contents[0] for call in calls]
        several = node.call(OIP, "ModelInfer", **infer_fields(np.repeat(BRIGHT, 4, 0)))
    assert runtime.batches == [3, 4]
    assert [np.frombuffer(each, np.float32)[1] for each in scores] == [0, 1, 0.5]
    assert list(several.outputs[0].shape) == [4, 2]


def test_outputs_that_are_asked_for_come_in_that_order(node: GrpcNode) -> None:
    given = {"datatype": "UINT8", "shape": [1]}
    fields = {
        "model_name": "echo",
        "inputs": [{"name": name, **given} for name in "abc"],
        "raw_input_contents": [b"1", b"2", b"3"],
    }
    asked = [{"name": "c"}, {"name": "a"}]
    answer = node.call(OIP, "ModelInfer", outputs=asked, **fields)
    assert [each.name for each in answer.outputs] == ["c", "a"]
    assert list(answer.raw_output_contents) == [b"3", b"1"]


def test_parameters_reach_the_model_but_for_those_that_are_ours() -> None:
    runtime = Echo()
    with grpc_node(model("echo", runtime=runtime)) as node:
        node.call(
            OIP,
            "ModelInfer",
            **infer_fields(name="echo"),
            parameters={
                "priority": {"uint64_param": 1},
                "timeout": {"int64_param": 5_000_000},
                "beam": {"int64_param": 3},
                "style": {"string_param": "plain"},
            },
        )
    assert runtime.parameters == [{"beam": 3, "style": "plain"}]


def test_a_priority_goes_first() -> None:
    runtime = Echo()
    order: list[Any] = []
    runtime.infer = lambda inputs, *_: order.append(inputs["image"].item()) or inputs  # type: ignore[method-assign, return-value, func-returns-value]
    with grpc_node(model("echo", runtime=runtime)) as node:
        calls = []
        for number, priority in enumerate((0, 9, 1)):
            calls.append(
                node.begin(
                    OIP,
                    "ModelInfer",
                    **infer_fields(np.full((1, 1), number, np.float32), "echo"),
                    parameters={"priority": {"uint64_param": priority}},
                )
            )
            node.pump(lambda: len(node.node.serving._pending) == len(calls), work=False)
        for call in calls:
            node.end(call)
    assert order == [2, 0, 1]


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"model_name": "roses"}, StatusCode.NOT_FOUND, "model: got 'roses', wanted one of light"),
        ({"model_name": ""}, StatusCode.INVALID_ARGUMENT, "model: got none"),
        ({"model_version": "9"}, StatusCode.NOT_FOUND, "model light: version: got '9', wanted"),
        ({"inputs": []}, StatusCode.INVALID_ARGUMENT, "raw_input_contents: got 1, wanted one for"),
        (
            {"inputs": [], "raw_input_contents": []},
            StatusCode.INVALID_ARGUMENT,
            "inputs: got no 'image'",
        ),
        (
            {"inputs": [{"name": "sound", "datatype": "FP32", "shape": [1, 8, 8, 3]}]},
            StatusCode.INVALID_ARGUMENT,
            "inputs: got no 'image', wanted image",
        ),
        (
            {"inputs": [{"name": "image", "datatype": "INT32", "shape": [1, 8, 8, 3]}]},
            StatusCode.INVALID_ARGUMENT,
            "input image: got INT32[1, 8, 8, 3], wanted FP32[?, 8, 8, 3]",
        ),
        (
            {"inputs": [{"name": "image", "datatype": "FP32", "shape": [8, 8, 3]}]},
            StatusCode.INVALID_ARGUMENT,
            "input image: got FP32[8, 8, 3]",
        ),
        ({"raw_input_contents": [b"abc"]}, StatusCode.INVALID_ARGUMENT, "input image: got 3 bytes"),
        ({"outputs": [{"name": "x"}]}, StatusCode.INVALID_ARGUMENT, "outputs: got 'x', wanted"),
        (
            {"outputs": [{"name": "scores", "parameters": {"classification": {"int64_param": 3}}}]},
            StatusCode.UNIMPLEMENTED,
            "output scores: classification is not served",
        ),
        (
            {"parameters": {"priority": {"string_param": "first"}}},
            StatusCode.INVALID_ARGUMENT,
            "parameters: priority: got 'first', wanted a whole number 0-9",
        ),
        (
            {"parameters": {"signature_name": {"string_param": "x"}}},
            StatusCode.INVALID_ARGUMENT,
            "model light: signature: got 'x', wanted serving_default",
        ),
        (
            {"parameters": {"timeout": {"int64_param": -1}}},
            StatusCode.INVALID_ARGUMENT,
            "parameters: timeout: got -1, wanted",
        ),
        ({"model_name": "broken"}, StatusCode.INTERNAL, "a fault of the server; its log has it"),
    ],
)
def test_errors_of_infer(
    node: GrpcNode, fields: dict[str, Any], status: StatusCode, told: str
) -> None:
    code, details = node.refused(OIP, "ModelInfer", **{**infer_fields(), **fields})
    assert code is status
    assert details.startswith(told)


def test_what_is_no_message_is_told(node: GrpcNode) -> None:
    call = node.channel.unary_unary(f"/{OIP}/ModelInfer").future(b"\xff\xff", timeout=9)
    node.pump(call.done)
    assert call.code() is StatusCode.INVALID_ARGUMENT
    assert call.details().startswith("got no inference.ModelInferRequest: ")


def test_a_message_that_is_too_large_is_refused(node: GrpcNode) -> None:
    code, details = node.refused(OIP, "ModelInfer", **infer_fields(np.zeros((40, 8, 8, 30))))
    assert code is StatusCode.RESOURCE_EXHAUSTED
    assert "100000" in details


def test_a_call_that_is_not_there_is_unimplemented(node: GrpcNode) -> None:
    call = node.channel.unary_unary(f"/{OIP}/ModelConfig").future(b"", timeout=9)
    node.pump(call.done)
    assert call.code() is StatusCode.UNIMPLEMENTED


def test_the_index_tells_of_every_version(node: GrpcNode) -> None:
    node.node.serving.catalogue.stand(
        [Standing("light", "2", State.LOADING), Standing("light", "0", State.END, "broken")]
    )
    rows = [
        (each.name, each.version, each.state, each.reason)
        for each in node.call(OIP, "RepositoryIndex").models
    ]
    assert ("double", "3", "READY", "") in rows
    assert ("light", "2", "LOADING", "") in rows
    assert ("light", "0", "UNAVAILABLE", "broken") in rows
    ready = node.call(OIP, "RepositoryIndex", ready=True).models
    assert {each.state for each in ready} == {"READY"}


@pytest.mark.parametrize("service", [OIP, REPOSITORY])
def test_models_come_and_go_where_there_is_a_repository(node: GrpcNode, service: str) -> None:
    asked: list[str] = []

    class Repository:
        def load(self, name: str) -> Deferred[None]:
            asked.append(f"load {name}")
            return succeed(None)

        def unload(self, name: str) -> Deferred[None]:
            asked.append(f"unload {name}")
            raise Overloaded("busy", retry_after_seconds=1.5)

    for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
        assert node.refused(service, method, model_name="a")[0] is StatusCode.UNIMPLEMENTED
    node.node.serving.control = Repository()
    node.call(service, "RepositoryModelLoad", model_name="a")
    told = {"config": {"string_param": "{}"}}
    refused = node.refused(service, "RepositoryModelLoad", model_name="a", parameters=told)
    assert refused[0] is StatusCode.UNIMPLEMENTED
    late = node.begin(service, "RepositoryModelUnload", model_name="b")
    node.pump(late.done)
    assert asked == ["load a", "unload b"]
    assert (late.code(), late.details()) == (StatusCode.UNAVAILABLE, "busy")
    assert dict(late.trailing_metadata())["grpc-retry-pushback-ms"] == "1500"


# TensorFlow Serving ---------------------------------------------------------------------------


def test_predict_answers_in_typed_fields(node: GrpcNode) -> None:
    array = np.array([[1, 2], [3, 4]])
    answer = node.call(
        PREDICTION, "Predict", model_spec=spec("double", 3), inputs={"x": tensor(array)}
    )
    assert list(answer.outputs["y"].float_val) == [2, 4, 6, 8]
    assert [dim.size for dim in answer.outputs["y"].tensor_shape.dim] == [2, 2]
    told = answer.model_spec
    assert (told.name, told.version.value, told.signature_name) == ("double", 3, "serving_default")


def test_predict_runs_the_signature_that_is_named(node: GrpcNode) -> None:
    answer = node.call(
        PREDICTION,
        "Predict",
        model_spec=spec("double", signature_name="regress"),
        inputs={"x": tensor(np.array([[1, 2]]))},
        output_filter=["outputs"],
    )
    assert list(answer.outputs["outputs"].float_val) == [3]
    assert answer.model_spec.signature_name == "regress"


def test_a_label_names_a_version(node: GrpcNode) -> None:
    node.node.serving.catalogue.label({"double": {"stable": "3"}})
    asked = {"model_spec": {"name": "double", "version_label": "stable"}}
    inputs = {"x": tensor(np.array([[1, 2]]))}
    assert node.call(PREDICTION, "Predict", inputs=inputs, **asked).model_spec.version.value == 3
    (status,) = node.call(MODELS, "GetModelStatus", **asked).model_version_status
    assert status.version == 3
    asked["model_spec"]["version_label"] = "canary"
    for service, method in ((PREDICTION, "Predict"), (MODELS, "GetModelStatus")):
        assert node.refused(service, method, **asked)[0] is StatusCode.NOT_FOUND


def test_regress_and_classify_take_examples(node: GrpcNode) -> None:
    rows = [{"features": {"feature": {"x": {"float_list": {"value": [1, n]}}}}} for n in (2, 3)]
    given = {"example_list": {"examples": rows}}
    answer = node.call(
        PREDICTION,
        "Regress",
        model_spec=spec("double", signature_name="regress"),
        input=given,
    )
    assert [each.value for each in answer.result.regressions] == [3, 4]
    answer = node.call(
        PREDICTION,
        "Classify",
        model_spec=spec("double", signature_name="classify"),
        input=given,
    )
    assert [
        [(each.label, each.score) for each in row.classes] for row in answer.result.classifications
    ] == [[("low", 1), ("high", 2)], [("low", 1), ("high", 3)]]
    assert answer.model_spec.signature_name == "classify"


def test_only_signatures_to_regress_are_regressed_with(node: GrpcNode) -> None:
    rows = [{"features": {"feature": {"x": {"float_list": {"value": [1, 2]}}}}}]
    for name, method in (("", "predict"), ("classify", "classify")):
        assert node.refused(
            PREDICTION,
            "Regress",
            model_spec=spec("double", signature_name=name),
            input={"example_list": {"examples": rows}},
        ) == (
            StatusCode.INVALID_ARGUMENT,
            "Expected regression signature method_name to be tensorflow/serving/regress. "
            f"Was: tensorflow/serving/{method}",
        )


def test_an_image_model_classifies_images(node: GrpcNode) -> None:
    rows = [
        {"features": {"feature": {"image": {"bytes_list": {"value": [image(brightness)]}}}}}
        for brightness in (255, 0)
    ]
    answer = node.call(
        PREDICTION,
        "Classify",
        model_spec=spec("light"),
        input={"example_list": {"examples": rows}},
    )
    assert [row.classes[0].label for row in answer.result.classifications] == ["bright", "dark"]


@pytest.mark.parametrize(
    ("method", "fields", "status", "told"),
    [
        ("Predict", {"model_spec": spec("roses")}, StatusCode.NOT_FOUND, "model: got 'roses'"),
        ("Predict", {"model_spec": spec("double", 9)}, StatusCode.NOT_FOUND, "model double: ver"),
        (
            "Predict",
            {"model_spec": spec("double", signature_name="x")},
            StatusCode.INVALID_ARGUMENT,
            "model double: signature: got 'x', wanted serving_default, regress, classify",
        ),
        ("Predict", {"model_spec": spec("double")}, StatusCode.INVALID_ARGUMENT, "inputs: got no"),
        (
            "Predict",
            {"model_spec": spec("double"), "inputs": {"x": {"dtype": "DT_COMPLEX64"}}},
            StatusCode.INVALID_ARGUMENT,
            "input x: dtype: got DT_COMPLEX64",
        ),
        (
            "Predict",
            {
                "model_spec": spec("double"),
                "inputs": {"x": tensor(np.ones((1, 2)))},
                "output_filter": ["z"],
            },
            StatusCode.INVALID_ARGUMENT,
            "outputs: got 'z', wanted y",
        ),
        ("Classify", {"model_spec": spec("double")}, StatusCode.INVALID_ARGUMENT, ""),
        (
            "Classify",
            {"model_spec": spec("roses"), "input": {"example_list": {}}},
            StatusCode.NOT_FOUND,
            "model: got 'roses'",
        ),
        (
            "Regress",
            {
                "model_spec": spec("double", signature_name="regress"),
                "input": {"example_list": {"examples": [{}]}},
            },
            StatusCode.INVALID_ARGUMENT,
            "example 0: ",
        ),
        ("MultiInference", {}, StatusCode.UNIMPLEMENTED, "MultiInference is not served"),
        (
            "GetModelMetadata",
            {"model_spec": spec("double")},
            StatusCode.INVALID_ARGUMENT,
            "metadata_field: got none, wanted signature_def",
        ),
        (
            "GetModelMetadata",
            {"model_spec": spec("double"), "metadata_field": ["size"]},
            StatusCode.INVALID_ARGUMENT,
            "metadata_field: got 'size'",
        ),
        (
            "GetModelMetadata",
            {"model_spec": spec("roses"), "metadata_field": ["signature_def"]},
            StatusCode.NOT_FOUND,
            "model: got 'roses'",
        ),
    ],
)
def test_errors_of_predictions(
    node: GrpcNode, method: str, fields: dict[str, Any], status: StatusCode, told: str
) -> None:
    code, details = node.refused(PREDICTION, method, **fields)
    assert code is status
    assert details.startswith(told)


def test_metadata_is_a_map_of_signatures(node: GrpcNode) -> None:
    answer = node.call(
        PREDICTION,
        "GetModelMetadata",
        model_spec=spec("double"),
        metadata_field=["signature_def"],
    )
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    found = message("tensorflow.serving.SignatureDefMap").FromString(packed.value).signature_def
    assert {name: each.method_name for name, each in found.items()} == {
        "serving_default": "tensorflow/serving/predict",
        "regress": "tensorflow/serving/regress",
        "classify": "tensorflow/serving/classify",
    }
    x = found["serving_default"].inputs["x"]
    assert (x.name, x.dtype, [dim.size for dim in x.tensor_shape.dim]) == ("x:0", 1, [-1, 2])
    assert answer.model_spec.version.value == 3


def test_the_status_tells_of_every_version(node: GrpcNode) -> None:
    node.node.serving.catalogue.stand(
        [Standing("light", "2", State.LOADING), Standing("light", "4", State.END, "broken")]
    )
    found = node.call(MODELS, "GetModelStatus", model_spec=spec("light")).model_version_status
    assert [
        (each.version, each.state, each.status.error_code, each.status.error_message)
        for each in found
    ] == [(4, 50, 2, "broken"), (2, 20, 0, ""), (1, 30, 0, "")]
    found = node.call(MODELS, "GetModelStatus", model_spec=spec("light", 2)).model_version_status
    assert [each.version for each in found] == [2]
    for asked, status, told in (
        (spec("roses"), StatusCode.NOT_FOUND, "Could not find any versions of model roses"),
        (spec("light", 9), StatusCode.NOT_FOUND, "Could not find version 9 of model light"),
        ({}, StatusCode.INVALID_ARGUMENT, "model_spec: got no name, wanted a model's"),
    ):
        assert node.refused(MODELS, "GetModelStatus", model_spec=asked) == (
            status,
            told,
        )


def test_no_configuration_is_taken(node: GrpcNode) -> None:
    code, details = node.refused(MODELS, "HandleReloadConfigRequest")
    assert code is StatusCode.UNIMPLEMENTED
    assert "--models" in details


# Deadlines, cancellation, load ----------------------------------------------------------------


def queued(node: GrpcNode, count: int) -> None:
    """Lets the reactor run until so many requests wait, the worker being away."""
    node.pump(lambda: len(node.node.serving._pending) == count, work=False)


def test_a_call_that_is_cancelled_leaves_the_queue(node: GrpcNode) -> None:
    call = node.begin(OIP, "ModelInfer", **infer_fields())
    queued(node, 1)
    assert node.node.workers.batcher.waiting == 1
    call.cancel()
    queued(node, 0)
    assert node.node.workers.batcher.waiting == 0
    assert node.call(OIP, "ModelInfer", **infer_fields()).outputs


def test_a_call_whose_client_is_gone_leaves_the_queue(node: GrpcNode) -> None:
    channel = grpc.insecure_channel(f"127.0.0.1:{node.server.port}")
    call = stub(channel, OIP, "ModelInfer")(infer_fields())
    queued(node, 1)
    channel.close()
    assert call.code() is StatusCode.CANCELLED
    queued(node, 0)


def test_the_deadline_of_the_call_is_the_requests(node: GrpcNode) -> None:
    call = node.begin(OIP, "ModelInfer", timeout=7.0, **infer_fields())
    queued(node, 1)
    (pending,) = node.node.serving._pending.values()
    # gRPC rounds up; without a deadline it would be 30.
    assert 0 < pending.deadline < 8.0
    assert node.end(call).outputs


def test_the_earlier_of_deadline_and_timeout_holds(node: GrpcNode) -> None:
    late = node.begin(
        OIP, "ModelInfer", **infer_fields(), parameters={"timeout": {"int64_param": 2_500_000}}
    )
    queued(node, 1)
    (pending,) = node.node.serving._pending.values()
    assert pending.deadline == 2.5
    node.node.clock.advance(3.0)
    node.node.serving.expire()
    node.pump(late.done, work=False)
    assert late.code() is StatusCode.DEADLINE_EXCEEDED
    assert late.details() == "the deadline came before the model had answered"


def test_who_cannot_be_served_in_time_goes_elsewhere() -> None:
    one_by_one = Limits(max_batch_size=1)
    with grpc_node(time=BatchTime([(1, 0.1), (2, 0.2)]), queue=one_by_one) as node:
        waiting = [node.begin(OIP, "ModelInfer", **infer_fields()) for _ in range(5)]
        queued(node, 5)
        node.node.workers.batcher.take(0.0)
        timeout = {"timeout": {"int64_param": 300_000}}
        refused = node.begin(OIP, "ModelInfer", **infer_fields(), parameters=timeout)
        node.pump(refused.done, work=False)
        assert refused.code() is StatusCode.UNAVAILABLE
        told = dict(refused.trailing_metadata())
        assert int(told["grpc-retry-pushback-ms"]) > 0
        assert load_from_header(told[LOAD_HEADER]).queue == 4
        assert not any(call.done() for call in waiting)


def test_answers_say_where_the_time_went_and_how_busy_the_node_is(node: GrpcNode) -> None:
    rows = [{"features": {"feature": {"x": {"float_list": {"value": [1, 2]}}}}}]
    for service, method, fields in (
        (OIP, "ModelInfer", infer_fields()),
        (
            PREDICTION,
            "Predict",
            {"model_spec": spec("double"), "inputs": {"x": tensor(np.ones((1, 2)))}},
        ),
        (
            PREDICTION,
            "Regress",
            {
                "model_spec": spec("double", signature_name="regress"),
                "input": {"example_list": {"examples": rows}},
            },
        ),
    ):
        call = node.begin(service, method, **fields)
        node.end(call)
        told = dict(call.trailing_metadata())
        stages = [stage.split(";")[0] for stage in told["server-timing"].split(", ")]
        assert stages == ["read", "queue", "decode", "infer", "encode", "total"]
        assert load_from_header(told[LOAD_HEADER]).runs == 1


@pytest.mark.parametrize(
    ("service", "method", "fields"),
    [
        (OIP, "ServerLive", {}),
        (OIP, "ModelMetadata", {"name": "light"}),
        (OIP, "ModelInfer", {"model_name": "roses"}),
        (MODELS, "GetModelStatus", {"model_spec": spec("double")}),
        (PREDICTION, "MultiInference", {}),
    ],
)
def test_every_other_answer_says_how_long_it_took(
    node: GrpcNode, service: str, method: str, fields: Any
) -> None:
    call = node.begin(service, method, **fields)
    node.pump(call.done)
    assert re.fullmatch(r"total;dur=\d+\.\d\d", dict(call.trailing_metadata())["server-timing"])


def test_calls_are_counted_by_their_status(node: GrpcNode) -> None:
    traffic = node.server.traffic
    node.call(OIP, "ModelInfer", **infer_fields())
    node.call(OIP, "ServerLive")
    assert node.refused(OIP, "ModelInfer", model_name="roses")[0] is StatusCode.NOT_FOUND
    assert node.refused(PREDICTION, "MultiInference")[0] is StatusCode.UNIMPLEMENTED
    left = node.begin(OIP, "ModelInfer", **infer_fields())
    queued(node, 1)
    assert traffic.in_flight() == 1
    left.cancel()
    queued(node, 0)
    node.pump(lambda: traffic.in_flight() == 0)
    told = {"OK": 2, "NOT_FOUND": 1, "UNIMPLEMENTED": 1, "CANCELLED": 1}
    assert traffic.statuses == told
    assert traffic.seconds.buckets()[-1] == ("+Inf", 5)


def test_the_load_is_told_to_grpcs_own_balancing(node: GrpcNode) -> None:
    # gRPC takes this key out of what it hands to programs, so it is looked for in the bytes.
    port = node.server.port
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answered = bytearray()
        turned = threading.Thread(target=_turned, args=(listener, port, answered))
        turned.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{listener.getsockname()[1]}")
        node.end(stub(channel, OIP, "ModelInfer")(infer_fields()))
        channel.close()
        turned.join()
    assert b"endpoint-load-metrics-bin" in answered


def _turned(listener: socket.socket, port: int, answered: bytearray) -> None:
    """Relays one connection to ``port``, keeping what is answered."""
    client, _ = listener.accept()
    server = socket.create_connection(("127.0.0.1", port))

    def back() -> None:
        while data := server.recv(65536):
            answered.extend(data)
            client.sendall(data)

    answering = threading.Thread(target=back)
    answering.start()
    while data := client.recv(65536):
        server.sendall(data)
    server.shutdown(socket.SHUT_RDWR)
    answering.join()
    client.close()
    server.close()


# Health and reflection ------------------------------------------------------------------------


def test_health_follows_the_nodes_phase(node: GrpcNode) -> None:
    for service in ("", OIP, PREDICTION, MODELS):
        assert node.call(HEALTH, "Check", service=service).status == 1
    node.node.serving.phase = Phase.DRAINING
    assert node.call(HEALTH, "Check").status == 2
    assert node.refused(HEALTH, "Check", service="roses")[0] is StatusCode.NOT_FOUND


def test_who_watches_is_told_of_each_change(node: GrpcNode) -> None:
    watches = [_watch(node, OIP), _watch(node, OIP), _watch(node, "roses")]
    assert [next(each).status for each in watches] == [1, 1, 3]
    watches[1].cancel()
    node.node.serving.phase = Phase.DRAINING
    node.server.tell()
    assert next(watches[0]).status == 2
    node.server.stop()
    assert list(watches[0]) == []


def _watch(node: GrpcNode, service: str) -> Any:
    request = message(f"{HEALTH[:-6]}HealthCheckRequest")
    response = message(f"{HEALTH[:-6]}HealthCheckResponse")
    watch = node.channel.unary_stream(
        f"/{HEALTH}/Watch", request.SerializeToString, response.FromString
    )
    return watch(request(service=service), timeout=20)


@pytest.mark.parametrize("name", [REFLECTION, REFLECTION.replace("v1", "v1alpha")])
def test_reflection_tells_all_that_can_be_called(node: GrpcNode, name: str) -> None:
    request, response = (
        message(f"grpc.reflection.v1.ServerReflection{kind}") for kind in ("Request", "Response")
    )
    ask = node.channel.stream_stream(
        f"/{name}/ServerReflectionInfo", request.SerializeToString, response.FromString
    )
    listed, symbol, file, unknown, empty, numbers = ask(
        iter(
            [
                request(list_services="*"),
                request(file_containing_symbol=f"{PREDICTION}.Predict"),
                request(file_by_filename="inference.proto"),
                request(file_containing_symbol="roses"),
                request(),
                request(all_extension_numbers_of_type="tensorflow.TensorProto"),
            ]
        ),
        timeout=20,
    )
    services = {each.name for each in listed.list_services_response.service}
    assert services == {OIP, REPOSITORY, PREDICTION, MODELS, HEALTH, REFLECTION}
    # With all that it imports.
    assert len(symbol.file_descriptor_response.file_descriptor_proto) == 5
    assert len(file.file_descriptor_response.file_descriptor_proto) == 1
    assert unknown.error_response.error_code == 5
    assert empty.error_response.error_code == 3
    assert numbers.all_extension_numbers_response.base_type_name == "tensorflow.TensorProto"


# Life -----------------------------------------------------------------------------------------


def test_nothing_is_taken_while_the_node_loads_or_drains(node: GrpcNode) -> None:
    for phase, told in ((Phase.LOADING, "loading"), (Phase.DRAINING, "draining")):
        node.node.serving.phase = phase
        for service, method, fields in (
            (OIP, "ModelInfer", infer_fields()),
            (PREDICTION, "Predict", {"model_spec": spec("double")}),
        ):
            code, details = node.refused(service, method, **fields)
            assert code is StatusCode.UNAVAILABLE
            assert told in details
        assert node.call(OIP, "ServerLive").live
        assert not node.call(OIP, "ServerReady").ready
        assert not node.call(OIP, "ModelReady", name="light").ready
    node.node.serving.phase = Phase.LOADING
    asked = {"model_spec": spec("roses")}
    assert node.refused(MODELS, "GetModelStatus", **asked)[0] is StatusCode.UNAVAILABLE


def test_calls_in_flight_are_answered_before_the_server_is_idle(node: GrpcNode) -> None:
    call = node.begin(OIP, "ModelInfer", **infer_fields())
    queued(node, 1)
    node.node.serving.phase = Phase.DRAINING
    idle: list[None] = []
    node.server.when_idle().addCallback(idle.append)
    assert (node.server.in_flight, idle) == (1, [])
    assert node.end(call).outputs
    node.pump(lambda: idle)
    assert node.server.in_flight == 0


def test_a_taken_port_is_an_error(node: GrpcNode) -> None:
    with pytest.raises(PortTaken) as error:
        node.another(node.server.port).start()
    assert error.value.message.startswith(f"cannot listen on port {node.server.port} of 127.0.0.1")
    assert "--grpc-port" in error.value.message


def test_a_port_is_shared_where_that_is_wanted(node: GrpcNode) -> None:
    first = node.another(0, shared=True)
    first.start()
    second = node.another(first.port, shared=True)
    second.start()
    assert second.port == first.port
    stopped: list[None] = []
    for each in (first, second):
        each.stop().addCallback(stopped.append)
    node.pump(lambda: len(stopped) == 2)

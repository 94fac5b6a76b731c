# SPDX-License-Identifier: MIT
"""The stubs of tensorflow-serving-api, which bring TensorFlow's own messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from tests.integration.fleet import THREE
from tests.processes import Running

tf = pytest.importorskip("tensorflow")
apis = pytest.importorskip("tensorflow_serving.apis")

from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

IMAGES = np.random.default_rng(6).random((3, 32, 32, 3), np.float32)


@pytest.fixture
def channel(node: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(node.grpc_address) as found:
        yield found


@pytest.fixture
def prediction(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def predict(name: str = "digits", **more: Any) -> Any:
    request = predict_pb2.PredictRequest(model_spec={"name": name, **more})
    request.inputs["input"].CopyFrom(tf.make_tensor_proto(IMAGES))
    return request


def test_predict_answers_what_tensorflow_reads(prediction: Any) -> None:
    answer = prediction.Predict(predict(signature_name="serving_default"), timeout=20)
    scores = tf.make_ndarray(answer.outputs["final_result"])
    assert (scores.shape, scores.dtype) == ((3, 10), np.float32)
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-4)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("digits", 1)


def test_images_are_classified(prediction: Any) -> None:
    request = classification_pb2.ClassificationRequest(model_spec={"name": "digits"})
    feature = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[THREE.read_bytes()]))}
    request.input.example_list.examples.append(
        tf.train.Example(features=tf.train.Features(feature=feature))
    )
    (found,) = prediction.Classify(request, timeout=20).result.classifications
    assert found.classes[0].label == "3"
    assert len(found.classes) == 10


def test_metadata_holds_tensorflows_signatures(prediction: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "digits"}, metadata_field=["signature_def"]
    )
    answer = prediction.GetModelMetadata(request, timeout=20)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    signature = found.signature_def["serving_default"]
    assert signature.method_name == tf.saved_model.PREDICT_METHOD_NAME
    assert signature.inputs["input"].dtype == tf.float32.as_datatype_enum
    shape = tf.TensorShape(signature.inputs["input"].tensor_shape)
    assert shape.as_list() == [None, 32, 32, 3]


def test_the_status_says_that_it_is_available(channel: grpc.Channel) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "digits"})
    (found,) = stub.GetModelStatus(request, timeout=20).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
    assert (found.version, found.state, found.status.error_code) == (1, available, 0)


@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        (predict("roses"), grpc.StatusCode.NOT_FOUND, "got 'roses'"),
        (predict(version={"value": 9}), grpc.StatusCode.NOT_FOUND, "version: got '9'"),
        (predict(version_label="canary"), grpc.StatusCode.NOT_FOUND, "label: got 'canary'"),
        (predict(signature_name="x"), grpc.StatusCode.INVALID_ARGUMENT, "signature: got 'x'"),
        (
            predict_pb2.PredictRequest(model_spec={"name": "digits"}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "got no 'input'",
        ),
    ],
)
def test_errors_are_told(
    prediction: Any, request_: Any, status: grpc.StatusCode, told: str
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        prediction.Predict(request_, timeout=20)
    assert error.value.code() is status
    assert told in error.value.details()


@pytest.fixture
def half(tensorflow_models: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(tensorflow_models.grpc_address) as found:
        yield found


def examples(request: Any, *values: float) -> Any:
    """``request`` to the model half_plus_two, with an Example of each value."""
    for value in values:
        feature = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=[value]))}
        features = tf.train.Features(feature=feature)
        request.input.example_list.examples.append(tf.train.Example(features=features))
    return request


@pytest.mark.parametrize("values", [[[1.0], [2.0], [5.0]], [1.0, 2.0, 5.0], 2.0])
@pytest.mark.parametrize(("which", "plus"), [({}, 2), ({"version": {"value": 7}}, 3)])
def test_half_plus_two_answers_in_kind(
    half: grpc.Channel, values: Any, which: Any, plus: int
) -> None:
    request = predict_pb2.PredictRequest(model_spec={"name": "half_plus_two", **which})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(values, tf.float32))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(half)
    answer = stub.Predict(request, timeout=20)
    found = tf.make_ndarray(answer.outputs["y"])
    np.testing.assert_array_equal(found, np.array(values, np.float32) / 2 + plus)
    assert answer.model_spec.version.value == (7 if which else 123)


def test_half_plus_two_is_asked_by_its_label(half: grpc.Channel) -> None:
    spec = {"name": "half_plus_two", "version_label": "canary"}
    request = predict_pb2.PredictRequest(model_spec=spec)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(half)
    assert tf.make_ndarray(stub.Predict(request, timeout=20).outputs["y"]) == 3.5


def test_examples_are_regressed_and_classified(half: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(half)
    spec = {"name": "half_plus_two", "signature_name": "regress_x_to_y2"}
    request = examples(regression_pb2.RegressionRequest(model_spec=spec), 1.0, 2.0)
    found = stub.Regress(request, timeout=20)
    assert [each.value for each in found.result.regressions] == [3.5, 4.0]
    spec["signature_name"] = "classify_x_to_y"
    asked = examples(classification_pb2.ClassificationRequest(model_spec=spec), 1.0, 2.0)
    rows = stub.Classify(asked, timeout=20).result.classifications
    assert [[each.score for each in row.classes] for row in rows] == [[2.5], [3.0]]


def test_every_signature_of_a_saved_model_is_told(half: grpc.Channel) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "half_plus_two"}, metadata_field=["signature_def"]
    )
    stub = prediction_service_pb2_grpc.PredictionServiceStub(half)
    found = get_model_metadata_pb2.SignatureDefMap()
    stub.GetModelMetadata(request, timeout=20).metadata["signature_def"].Unpack(found)
    regress = found.signature_def["regress_x_to_y"]
    assert regress.method_name == tf.saved_model.REGRESS_METHOD_NAME
    assert regress.inputs["inputs"].dtype == tf.string.as_datatype_enum
    assert len(found.signature_def) == 5


def test_the_versions_and_their_states(half: grpc.Channel) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(half)
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "half_plus_two"})
    found = stub.GetModelStatus(request, timeout=20).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
    assert [(each.version, each.state) for each in found] == [(123, available), (7, available)]

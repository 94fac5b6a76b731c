# SPDX-License-Identifier: MIT
"""What MLServer's users write: the codecs, the types, and what ``MLModel`` gives them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from smls.errors import BadRequest
from smls_node.pymodel import (
    Base64Codec,
    Datatype,
    DatetimeCodec,
    InferenceRequest,
    InferenceResponse,
    MLModel,
    ModelSettings,
    NumpyCodec,
    NumpyRequestCodec,
    PandasCodec,
    Parameters,
    RequestInput,
    RequestOutput,
    ResponseOutput,
    StringCodec,
    StringRequestCodec,
    TensorData,
    get_model_uri,
)


def test_a_string_input_is_as_the_guide_prints_it() -> None:
    made = StringCodec.encode_input(name="docs", payload=["a", "b"], use_bytes=False).dict()
    assert json.loads(json.dumps(made)) == {
        "name": "docs",
        "shape": [2, 1],
        "datatype": "BYTES",
        "parameters": {"content_type": "str"},
        "data": ["a", "b"],
    }


def test_data_may_be_given_nested_flat_or_as_texts_and_is_looked_at_as_a_list() -> None:
    nested = RequestInput(name="x", shape=[2, 2], datatype="INT32", data=[[1, 2], [3, 4]])
    assert nested.array().tolist() == [[1, 2], [3, 4]]
    flat = RequestInput(name="x", shape=(2, 2), datatype=Datatype.INT32, data=[1, 2, 3, 4])
    assert flat.array().dtype == np.int32
    assert flat.datatype == "INT32" == Datatype.INT32
    whole = ResponseOutput(name="x", shape=[5], datatype="BYTES", data=[b"hello"])
    assert whole.array().tolist() == [b"hello"]
    request = InferenceRequest.of({"x": np.array([b"a", b"\xff"], object), "y": np.ones(2)}, {})
    assert list(request.inputs[0].data) == ["a", b"\xff"]
    assert request.inputs[1].data.root == [1.0, 1.0]
    assert request.inputs[1].data[0] == 1.0
    assert len(request.inputs[1].data) == 2
    assert request.inputs[1].data == TensorData([1.0, 1.0])
    assert request.inputs[1].array().tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"shape": [3]}, r"x: got data that is no FP32 of shape \[3\]"),
        ({"data": ["a", "b"]}, "x: got data that is no FP32"),
        ({"datatype": "BYTES", "data": [1, 2]}, "x: got int in BYTES, wanted str or bytes"),
        ({"datatype": "FLOAT"}, "datatype: got 'FLOAT', wanted one of BOOL, "),
    ],
)
def test_what_does_not_fit_together_is_named(fields: dict[str, Any], told: str) -> None:
    usual: dict[str, Any] = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    with pytest.raises(ValueError, match=told):
        ResponseOutput(**{**usual, **fields}).array()
    output = ResponseOutput(**usual)
    with pytest.raises(ValueError, match="got x, x, wanted names that differ"):
        InferenceResponse(model_name="m", outputs=[output, output]).tensors()


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        (StringCodec, ["a", "ö"]),
        (Base64Codec, [b"\xff\x00", b"abcd"]),
        (NumpyCodec, np.arange(6).reshape(2, 3)),
    ],
)
def test_codecs_give_back_what_they_took(codec: Any, value: Any) -> None:
    assert codec.can_encode(value)
    assert not codec.can_encode({"a": 1})
    for encode, decode in (
        (codec.encode_input, codec.decode_input),
        (codec.encode_output, codec.decode_output),
    ):
        tensor = encode("x", value)
        assert tensor.parameters.content_type == codec.ContentType
        assert np.array_equal(decode(tensor), value)


def test_codecs_of_whole_requests() -> None:
    for codec, value in ((NumpyRequestCodec, np.ones((2, 2))), (StringRequestCodec, ["a"])):
        request: InferenceRequest = codec.encode_request(value)  # type: ignore[attr-defined]
        assert request.inputs[0].name == "input-1"
        assert np.array_equal(codec.decode_request(request), value)  # type: ignore[attr-defined]
        response = codec.encode_response("m", value, "1")  # type: ignore[attr-defined]
        assert np.array_equal(codec.decode_response(response), value)  # type: ignore[attr-defined]
        request.inputs *= 2
        with pytest.raises(BadRequest, match="inputs: got 2, wanted one"):
            codec.decode_request(request)  # type: ignore[attr-defined]
    frame = pandas.DataFrame({"age": [1.5, 2.5], "name": ["a", "b"], "n": [1, 2]})
    request = PandasCodec.encode_request(frame)
    assert [each.datatype for each in request.inputs] == ["FP64", "BYTES", "INT64"]
    pandas.testing.assert_frame_equal(PandasCodec.decode_request(request), frame)
    pandas.testing.assert_frame_equal(
        PandasCodec.decode_response(PandasCodec.encode_response("m", frame)), frame
    )


SETTINGS = ModelSettings(
    name="m",
    inputs=[
        {"name": "told", "datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "str"}}
    ],
    parameters={"version": "v1", "extra": {"k": 1}, "mine": 2},
)


def test_a_model_decodes_by_content_type_then_by_settings_then_by_default() -> None:
    model = MLModel(SETTINGS)
    assert (model.name, model.version, model.ready) == ("m", "v1", False)
    assert model.settings.parameters.extra == {"k": 1}
    assert model.settings.parameters.mine == 2  # type: ignore[attr-defined]

    def tensor(name: str, content_type: str | None = None) -> RequestInput:
        told = Parameters(content_type=content_type)
        return RequestInput(name=name, shape=[1], datatype="BYTES", data=["YQ=="], parameters=told)

    assert model.decode(tensor("x", "base64")) == [b"a"]
    assert model.decode(tensor("x", "np")).tolist() == ["YQ=="]
    assert model.decode(tensor("told")) == ["YQ=="]
    assert model.decode(tensor("x"), default_codec=Base64Codec) == [b"a"]
    assert model.decode(tensor("x")) == ["YQ=="]
    assert model.decode(RequestInput.of("x", np.ones(2))).tolist() == [1.0, 1.0]
    assert DatetimeCodec.ContentType == "datetime"

    request = InferenceRequest(inputs=[RequestInput.of("x", np.ones((1, 2)))])
    assert model.decode_request(request) is request
    assert model.decode_request(request, default_codec=NumpyRequestCodec).shape == (1, 2)
    request.parameters = Parameters(content_type="pd")
    with pytest.raises(BadRequest, match="input x: got shape"):
        model.decode_request(request)


def test_a_model_encodes_what_it_gives() -> None:
    model = MLModel(SETTINGS)
    assert model.encode(np.ones(2), RequestOutput(name="y")).shape == [2, 1]
    assert model.encode_response(["a"]).outputs[0].name == "output-1"
    assert model.encode_response(pandas.DataFrame({"a": [1]})).outputs[0].name == "a"
    with pytest.raises(TypeError, match="got object"):
        model.encode(object(), RequestOutput(name="y"))
    model.outputs = [{"name": "y", "datatype": "FP32", "shape": [1]}]  # type: ignore[list-item]
    assert model.outputs[0].name == "y"


def test_where_a_models_files_are(tmp_path: Path) -> None:
    source = str(tmp_path / "model-settings.json")
    (tmp_path / "model.joblib").touch()

    def found(uri: str | None, *names: str) -> str:
        settings = ModelSettings(parameters={"uri": uri}, _source=source)  # type: ignore[arg-type]
        return asyncio.run(get_model_uri(settings, wellknown_filenames=[*names]))

    assert found("./model.joblib") == str(tmp_path / "model.joblib")
    assert found(None) == str(tmp_path)
    assert found(".", "model.pkl", "model.joblib") == str(tmp_path / "model.joblib")
    assert found("s3://bucket/m") == "s3://bucket/m"
    with pytest.raises(FileNotFoundError, match=r"parameters.uri: got './no', but there is no"):
        found("./no")

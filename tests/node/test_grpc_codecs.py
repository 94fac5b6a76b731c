# SPDX-License-Identifier: MIT
"""Protobuf's encoding, and tensors in the messages of both dialects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from smls.errors import BadRequest
from smls.tensors import DATATYPES
from smls_node.faces.grpc import contents, encoding, tensorproto
from smls_node.faces.grpc.examples import examples_of
from smls_node.faces.grpc.messages import message
from smls_node.faces.grpc.tensorproto import TensorProto

Request = contents.Request
Response = message("inference.ModelInferResponse")
Input = message("tensorflow.serving.Input")

NUMBERS = [kind for kind in DATATYPES.values() if kind != np.object_]

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)

TENSORS = st.one_of(
    st.sampled_from(NUMBERS).flatmap(lambda kind: arrays.arrays(kind, SHAPES)),
    SHAPES.flatmap(
        lambda shape: arrays.arrays(np.object_, shape, elements=st.binary(max_size=9), fill=None)
    ),
)


def same(left: Any, right: Any) -> bool:
    """Whether they have the same type, shape and elements; NaN is itself."""
    if (left.dtype, left.shape) != (right.dtype, right.shape):
        return False
    equal_nan = left.dtype.kind == "f"
    return bool(np.array_equal(left, right, equal_nan=equal_nan))


def request(tensors: dict[str, Any], raw: bool) -> bytes:
    """A request with these inputs, made out of an answer with them."""
    answer = Response.FromString(contents.write(Response(), tensors, raw=raw))
    asked = Request(raw_input_contents=answer.raw_output_contents)
    for each in answer.outputs:
        asked.inputs.add().MergeFromString(each.SerializeToString())
    return bytes(asked.SerializeToString())


def read(data: bytes) -> Any:
    rest, raw = contents.split(data)
    return contents.read(Request.FromString(rest), raw)


# Encoding -------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300)), st.text(), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_what_is_cut_out_is_what_the_library_finds(
    raw: list[bytes], name: str, shape: list[int]
) -> None:
    whole = Request(model_name=name, raw_input_contents=raw)
    whole.inputs.add(name=name, shape=shape)
    whole.parameters["p"].double_param = 1.5
    rest, cuts = encoding.cut(whole.SerializeToString(), 7)
    assert [bytes(each) for each in cuts] == raw
    del whole.raw_input_contents[:]
    assert Request.FromString(rest) == whole


@given(st.binary(max_size=40))
def test_any_bytes_are_cut_as_the_library_reads_them(data: bytes) -> None:
    try:
        whole = Request.FromString(data)
    except DecodeError:
        return
    rest, cuts = encoding.cut(data, 7)
    left = Request.FromString(rest)
    left.raw_input_contents.extend(map(bytes, cuts))
    assert left == whole


def test_a_message_of_many_fields_is_left_to_the_library() -> None:
    data = Request(raw_input_contents=[b"x"] * 5000).SerializeToString()
    assert encoding.cut(data, 7) == (data, [])
    assert len(Request.FromString(data).raw_input_contents) == 5000


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0a", b"\xff" * 12, b"\x0b\x0c", b"\x0d\x01"])
def test_what_is_no_message_comes_back(data: bytes) -> None:
    assert encoding.cut(data, 1) == (data, [])


# ModelInfer -----------------------------------------------------------------------------------


@given(TENSORS, TENSORS)
def test_raw_tensors_come_back(first: Any, second: Any) -> None:
    found = read(request({"a": first, "b": second}, raw=True))
    assert same(found["a"], first)
    assert same(found["b"], second)


@given(TENSORS)
def test_tensors_in_contents_come_back(tensor: Any) -> None:
    assert same(read(request({"a": tensor}, raw=False))["a"], tensor)


def test_raw_tensors_are_not_copied() -> None:
    data = request({"a": np.arange(1000, dtype=np.float32)}, raw=True)
    found = read(data)["a"]
    begin = np.frombuffer(data, np.uint8)
    assert np.shares_memory(found, begin)


def test_raw_tensors_among_many_fields_are_read_too() -> None:
    asked = Request(raw_input_contents=[b"\1\2"])
    asked.inputs.add(name="a", datatype="UINT8", shape=[2])
    for number in range(5000):
        asked.outputs.add(name=str(number))
    assert read(asked.SerializeToString())["a"].tolist() == [1, 2]


def test_half_floats_are_answered_as_bytes() -> None:
    outputs = {"a": np.ones(2, np.float16), "b": np.ones(1, np.int8)}
    answer = Response.FromString(contents.write(Response(), outputs, raw=False))
    assert [len(each) for each in answer.raw_output_contents] == [4, 1]
    assert not answer.outputs[1].HasField("contents")


@pytest.mark.parametrize(
    ("fields", "raw", "told"),
    [
        ({"datatype": "FP31", "shape": [1]}, [b"0123"], "input a: datatype: got 'FP31'"),
        ({"datatype": "FP32", "shape": [-1]}, [b"0123"], "input a: shape: got (-1,)"),
        ({"datatype": "FP32", "shape": [2]}, [b"0123"], "input a: got 4 bytes, wanted 8"),
        ({"datatype": "FP32", "shape": [1 << 40, 1 << 40]}, [b""], "input a: got 0 bytes"),
        ({"datatype": "BYTES", "shape": [2]}, [b"\1\0\0\0a"], "input a: got 1 elements of BYTES"),
        ({"datatype": "BYTES", "shape": [1]}, [b"\2\0\0\0a"], "input a: got 5 bytes, which end"),
        ({"datatype": "BOOL", "shape": [1]}, [b"\2"], "input a: got bytes above 1"),
        ({"datatype": "FP32", "shape": [1]}, [b"0123", b""], "raw_input_contents: got 2"),
        ({"datatype": "FP32", "shape": [1]}, [], "input a: got 0 values in fp32_contents"),
        ({"datatype": "FP16", "shape": [1]}, [], "input a: got FP16 in contents"),
        (
            {"datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1]}},
            [b"0123"],
            "input a: got contents beside raw_input_contents",
        ),
        (
            {"datatype": "INT8", "shape": [2], "contents": {"int_contents": [1, 128]}},
            [],
            "input a: got 1 to 128 in int_contents, wanted int8: -128 to 127",
        ),
        (
            {"datatype": "FP32", "shape": [2], "contents": {"fp64_contents": [1, 2]}},
            [],
            "input a: got 0 values in fp32_contents, wanted 2",
        ),
    ],
)
def test_bad_tensors_are_told(fields: dict[str, Any], raw: list[bytes], told: str) -> None:
    asked = Request(raw_input_contents=raw)
    asked.inputs.add(name="a", **fields)
    with pytest.raises(BadRequest) as error:
        read(asked.SerializeToString())
    assert error.value.message.startswith(told)


def test_contents_that_hold_nothing_may_stand_beside_raw_ones() -> None:
    """MLServer's converters send them."""
    asked = Request(raw_input_contents=[b"\0\0\x80?"])
    asked.inputs.add(name="a", datatype="FP32", shape=[1], contents={})
    assert asked.inputs[0].HasField("contents")
    assert read(asked.SerializeToString())["a"].tolist() == [1.0]


def test_an_input_that_is_there_twice_is_told() -> None:
    asked = Request(inputs=[{"name": "a", "datatype": "FP32", "shape": [0]}] * 2)
    with pytest.raises(BadRequest, match="input a: got it twice"):
        read(asked.SerializeToString())


# TensorProto ----------------------------------------------------------------------------------


@given(TENSORS)
def test_tensor_protos_come_back(tensor: Any) -> None:
    proto = TensorProto.FromString(tensorproto.from_array(tensor).SerializeToString())
    assert same(tensorproto.to_array("a", proto, 10_000), tensor)


@given(st.sampled_from(NUMBERS).flatmap(lambda kind: arrays.arrays(kind, SHAPES)))
def test_tensor_content_is_read(tensor: Any) -> None:
    proto = tensorproto.from_array(tensor)
    bare = TensorProto(dtype=proto.dtype, tensor_shape=proto.tensor_shape)
    bare.tensor_content = tensor.tobytes()
    assert same(tensorproto.to_array("a", bare, 10_000), tensor)


def proto(dtype: str, *sides: int, **fields: Any) -> Any:
    return TensorProto(
        dtype=dtype, tensor_shape={"dim": [{"size": side} for side in sides]}, **fields
    )


def test_the_last_value_fills_the_rest() -> None:
    for given_proto, wanted in (
        (proto("DT_FLOAT", 2, 2, float_val=[1, 2]), [[1, 2], [2, 2]]),
        (proto("DT_HALF", 2, half_val=[0x3C00]), [1, 1]),
        (proto("DT_INT64", 3), [0, 0, 0]),
        (proto("DT_STRING", 2, string_val=[b"a\0"]), [b"a\0", b"a\0"]),
        (proto("DT_STRING", 2), [b"", b""]),
        (proto("DT_BOOL", bool_val=[True]), True),
    ):
        assert tensorproto.to_array("a", given_proto, 100).tolist() == wanted


@pytest.mark.parametrize(
    ("given_proto", "told"),
    [
        (proto("DT_INVALID"), "a: dtype: got DT_INVALID, wanted one of DT_FLOAT, "),
        (proto("DT_COMPLEX64", 1), "a: dtype: got DT_COMPLEX64"),
        (TensorProto(dtype=99), "a: dtype: got 99"),
        (proto("DT_FLOAT", -1), "a: shape: got [-1]"),
        (TensorProto(dtype=1, tensor_shape={"unknown_rank": True}), "a: tensor_shape: got an"),
        (proto("DT_FLOAT", 2, tensor_content=b"abcd"), "a: got 4 bytes, wanted 8"),
        (proto("DT_STRING", 1, tensor_content=b"\1a"), "a: got texts in tensor_content"),
        (proto("DT_FLOAT", 1, float_val=[1, 2]), "a: got 2 values in float_val, wanted 1"),
        (proto("DT_FLOAT", 1 << 30, float_val=[1]), "a: shape: got [1073741824], wanted 100 bytes"),
        (proto("DT_FLOAT", 1 << 62, 1 << 62), "a: shape: got"),
        (proto("DT_UINT8", 1, int_val=[256]), "a: got 256 to 256 in int_val, wanted uint8"),
        (proto("DT_UINT8", 1, int_val=[-1]), "a: got -1 to -1 in int_val, wanted uint8"),
        (proto("DT_HALF", 1, half_val=[65536]), "a: got 65536 to 65536 in half_val"),
    ],
)
def test_bad_tensor_protos_are_told(given_proto: Any, told: str) -> None:
    with pytest.raises(BadRequest) as error:
        tensorproto.to_array("a", given_proto, 100)
    assert error.value.message.startswith(told)


# Examples -------------------------------------------------------------------------------------


def example(**features: Any) -> Any:
    return {"features": {"feature": features}}


def test_an_example_hides_its_context() -> None:
    given_input = Input(
        example_list_with_context={
            "examples": [
                example(a={"int64_list": {"value": [1]}}),
                example(b={"bytes_list": {"value": [b"x"]}}, c={}),
            ],
            "context": example(b={"float_list": {"value": [0.5]}}),
        }
    )
    assert examples_of(given_input) == [{"a": [1], "b": [0.5]}, {"b": [b"x"], "c": []}]


def test_an_input_may_be_empty() -> None:
    assert examples_of(Input()) == []
    assert examples_of(Input(example_list={})) == []

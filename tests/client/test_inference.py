# SPDX-License-Identifier: MIT
"""Requests and answers of the Open Inference Protocol, with each of the readers of JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from smls.errors import BadRequest
from smls.inference import (
    InferAnswer,
    InferRequest,
    WantedOutput,
    json_length,
    read_answer,
    read_request,
    write_answer,
    write_request,
)
from smls.tensors import DATATYPES, Tensors, datatype_of

NUMBERS = [name for name in DATATYPES if name != "BYTES"]

shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def texts(elements: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    return arrays.arrays(np.object_, shapes, elements=elements)


def numbers(**elements: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(NUMBERS).flatmap(
        lambda name: arrays.arrays(
            DATATYPES[name],
            shapes,
            elements=elements if DATATYPES[name].kind == "f" else None,
        )
    )


any_tensors = st.dictionaries(
    st.text(min_size=1, max_size=5), numbers() | texts(st.binary(max_size=9)), max_size=3
)
finite_tensors = st.dictionaries(
    st.text(min_size=1, max_size=5),
    numbers(allow_nan=False, allow_infinity=False)
    | texts(st.text(max_size=5).map(lambda text: text.encode("utf-8", "ignore"))),
    max_size=3,
)


@pytest.fixture(params=["simdjson", "json"])
def reader(request: pytest.FixtureRequest) -> Iterator[str]:
    """The library by which JSON is read; the others are as good as absent."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "json":
            patch.setitem(sys.modules, "simdjson", None)
            patch.setitem(sys.modules, "orjson", None)
        else:
            pytest.importorskip("simdjson")
        yield request.param


def same(got: Tensors, wanted: Tensors) -> None:
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert datatype_of(got[name].dtype) == datatype_of(array.dtype)
        assert got[name].shape == array.shape
        if array.dtype.hasobject:
            assert got[name].tolist() == array.tolist()
        else:
            np.testing.assert_array_equal(got[name], array)


@given(any_tensors, st.booleans(), st.text(max_size=5))
def test_a_request_is_read_as_it_was_written(tensors: Tensors, binary: bool, name: str) -> None:
    wanted = (WantedOutput("a", True), WantedOutput("b", False))
    of_inputs = {each: {"content_type": f"of {each}"} for each in list(tensors)[::2]}
    request = InferRequest(tensors, wanted, binary, name, {"priority": 1}, of_inputs)
    body = write_request(request)
    read = read_request(body.data, body.json_bytes)
    same(read.inputs, tensors)
    assert (read.binary, read.id, read.parameters) == (binary, name, {"priority": 1})
    assert read.input_parameters == of_inputs
    assert [read.is_binary(each) for each in ("a", "b")] == [True, False]


@given(any_tensors)
def test_an_answer_in_bytes_is_read_as_it_was_written(tensors: Tensors) -> None:
    body = write_answer(InferAnswer("m", "3", tensors, "7"), frozenset(tensors))
    read = read_answer(body.data, body.json_bytes)
    same(read.outputs, tensors)
    assert (read.model, read.version, read.id) == ("m", "3", "7")


@pytest.mark.parametrize("library", ["simdjson", "json"])
def test_an_answer_in_json_is_read_as_it_was_written(library: str) -> None:
    @given(finite_tensors)
    def check(tensors: Tensors) -> None:
        body = write_answer(InferAnswer("m", "3", tensors), frozenset())
        assert body.json_bytes is None
        same(read_answer(body.data, None).outputs, tensors)

    with pytest.MonkeyPatch.context() as patch:
        if library == "json":
            patch.setitem(sys.modules, "simdjson", None)
            patch.setitem(sys.modules, "orjson", None)
        else:
            pytest.importorskip("simdjson")
        check()


def asked(**tensor: Any) -> bytes:
    item = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2], **tensor}
    return json.dumps({"inputs": [{k: v for k, v in item.items() if v is not ...}]}).encode()


@pytest.mark.parametrize("data", [[[1, 2, 3], [4, 5, 6]], [1, 2, 3, 4, 5, 6], [1, 2.0, 3, 4, 5, 6]])
def test_data_is_nested_or_flat(reader: str, data: list[Any]) -> None:
    array = read_request(asked(shape=[2, 3], data=data), None).inputs["x"]
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_large_whole_numbers_stay_what_they_are(reader: str) -> None:
    body = asked(datatype="UINT64", data=[2**64 - 1, 2**53 + 1])
    assert read_request(body, None).inputs["x"].tolist() == [2**64 - 1, 2**53 + 1]


def test_texts_may_be_nested_and_are_bytes(reader: str) -> None:
    body = asked(datatype="BYTES", shape=[2, 1], data=[["é"], ["x"]])
    assert read_request(body, None).inputs["x"].tolist() == [["é".encode()], [b"x"]]


def test_numbers_that_strict_json_has_not_may_be_sent(reader: str) -> None:
    body = asked(shape=[2, 2], data=[[1, 2], [3, 4.5]]).replace(b"1, 2", b"NaN, Infinity")
    found = read_request(body.replace(b"3,", b"-Infinity,"), None).inputs["x"]
    np.testing.assert_array_equal(found, np.array([[np.nan, np.inf], [-np.inf, 4.5]], found.dtype))


def test_what_is_no_number_is_null_in_json(reader: str) -> None:
    outputs = {"y": np.array([1, np.nan, -np.inf], np.float32)}
    body = write_answer(InferAnswer("m", "1", outputs), frozenset())
    assert json.loads(body.data)["outputs"][0]["data"] == [1, None, None]


def test_more_numbers_than_are_written_at_once(reader: str) -> None:
    outputs = {"y": np.arange(200_001, dtype=np.int32).reshape(3, -1)}
    body = write_answer(InferAnswer("m", "1", outputs), frozenset())
    same(read_answer(body.data, None).outputs, outputs)


def test_bytes_that_are_no_text_are_asked_for_as_such() -> None:
    outputs = {"y": np.array([b"\xff"], np.object_)}
    with pytest.raises(BadRequest, match="binary"):
        write_answer(InferAnswer("m", "1", outputs), frozenset())


def test_tensors_that_came_as_bytes_lie_in_the_body() -> None:
    written = write_request(InferRequest({"x": np.zeros((2, 2), np.float32)}))
    body = bytearray(written.data)
    array = read_request(memoryview(body), written.json_bytes).inputs["x"]
    body[-4:] = np.float32(7).tobytes()
    assert array[1, 1] == 7


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xd8\xff\xe0", "no JSON"),
        (b"[1]", "an object"),
        (b"{}", "inputs: got None"),
        (b'{"inputs": {}}', "inputs: got {}"),
        (b'{"inputs": [1]}', "inputs: got"),
        (b'{"inputs": [{}]}', "input: name: got None"),
        (b'{"inputs": [], "outputs": 1}', "outputs: got 1"),
        (b'{"inputs": [], "id": 1}', "id: got 1"),
        (b'{"inputs": [], "parameters": []}', "parameters"),
        (b'{"inputs": [], "parameters": {"binary_data_output": 1}}', "binary_data_output: got 1"),
        (b'{"inputs": [], "outputs": [{"name": "y"}, {"name": "y"}]}', "asked for twice"),
        (asked(datatype="FP8"), "'FP8'"),
        (asked(datatype=None), "datatype: got None"),
        (asked(shape=...), "shape: got None"),
        (asked(shape=[-1]), "shape"),
        (asked(shape=[2.0]), "shape"),
        (asked(shape=[True, 2]), "shape"),
        (asked(shape=[1] * 70), "shape"),
        (asked(shape=[3]), "got 2 elements, wanted 3"),
        (asked(shape=[2**63]), "shape"),
        (asked(shape=[2**40, 2**40]), "got 2 elements"),
        (asked(shape=[2**62, 2**62, 0], data=[]), "shape"),
        (asked(data=...), "neither data"),
        (asked(data=1), "wanted a list"),
        (asked(data="ab"), "wanted a list"),
        (asked(data={}), "wanted a list"),
        (asked(data=[[1], [2]]), "lists of shape [2, 1]"),
        (asked(shape=[2, 2], data=[[1, 2], [3]]), ""),
        (asked(data=[1, "2"]), "wanted numbers"),
        (asked(data=[1, None]), "wanted numbers"),
        (asked(data=[True, False]), "wanted numbers"),
        (asked(datatype="INT8", data=[1, 128]), "fit"),
        (asked(datatype="INT8", data=[1.5, 1]), "whole numbers"),
        (asked(datatype="UINT8", data=[-1, 1]), ""),
        (asked(datatype="BOOL", data=[0, 1]), "true or false"),
        (asked(datatype="BYTES", data=[1, "a"]), "wanted texts"),
        (asked(datatype="BYTES", data=["a", ["b"]]), ""),
        (asked(datatype="FP16", data=[1, 1e5]), "fit"),
        (asked(data=[1, 1e39]), "fit"),
        (asked().replace(b"1,", b"1e999,"), ""),
        (asked().replace(b"1,", b"1" * 400 + b","), ""),
        (asked().replace(b"1,", b"nan,"), "no JSON"),
        (asked(shape=[3], data=[1, 2, 3]).replace(b"1, 2, ", b"NaN, 1e999, "), "too large"),
        (asked(datatype="INT8").replace(b"1,", b"NaN,"), "whole numbers"),
        (asked().replace(b"1,", b"NaN,").replace(b"[2]", b"[NaN]"), "shape"),
        (asked().replace(b"1, 2", b"[" * 10**5 + b"NaN" + b"]" * 10**5), ""),
        (asked().replace(b"[1, 2]", b"[" * 10**5 + b"]" * 10**5), ""),
        (asked(parameters=1), "parameters"),
        (asked(parameters={"binary_data_size": 8}), "both"),
        (asked(data=..., parameters={"binary_data_size": 8}), "binary_data_size: got 8"),
        (asked(data=..., parameters={"binary_data_size": -1}), "binary_data_size"),
        (asked(data=..., parameters={"binary_data_size": True}), "binary_data_size"),
        (asked(data=..., parameters={"binary_data_size": "8"}), "binary_data_size"),
    ],
)
def test_what_is_wrong_is_told(reader: str, body: bytes, told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_request(body, None)
    assert told in caught.value.message
    assert len(caught.value.message) < 400


def binary(rest: bytes, **tensor: Any) -> tuple[bytes, int]:
    told = {"parameters": {"binary_data_size": len(rest)}, "data": ...}
    head = asked(**{**told, **tensor})
    return head + rest, len(head)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (binary(b"1234"), "got 4 bytes, wanted 8"),
        (binary(b"123456789"), "got 9 bytes, wanted 8"),
        (binary(b"", shape=[2**40, 2**40]), "got 0 bytes"),
        (binary(b"12345678", parameters={"binary_data_size": 4}, shape=[1]), "belong to no input"),
        (binary(b"\0\2", datatype="BOOL"), "0 or 1"),
        (binary(b"\1\0\0", datatype="BYTES"), "within element 0"),
        (binary(b"\1\0\0\0", datatype="BYTES"), "within element 0"),
        (binary(b"\1\0\0\0a", datatype="BYTES"), "got 1 elements of BYTES, wanted 2"),
        (binary(b"\1\0\0\0a" * 3, datatype="BYTES"), "5 bytes more"),
        (binary(b"\xff\xff\xff\xff", datatype="BYTES"), "within element 0"),
        (binary(b"", datatype="BYTES", shape=[2**40]), "wanted"),
    ],
)
def test_what_is_wrong_with_bytes_is_told(body: tuple[bytes, int], told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        read_request(*body)


@given(st.binary(max_size=60), st.integers(0, 60))
def test_nothing_else_is_raised(body: bytes, length: int) -> None:
    with contextlib.suppress(BadRequest):
        read_request(body, min(length, len(body)))


@pytest.mark.parametrize("text", ["-1", "11", "1.5", "", "x", "9" * 30, "\N{SUPERSCRIPT TWO}"])
def test_a_length_that_cannot_be_is_told(text: str) -> None:
    with pytest.raises(BadRequest, match="0-10"):
        json_length(text, 10)
    assert json_length("10", 10) == 10
    assert json_length(None, 10) is None


def test_what_the_protocol_has_not_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="complex"):
        write_request(InferRequest({"x": np.zeros(2, np.complex64)}))
    with pytest.raises(ValueError, match="texts or bytes"):
        write_request(InferRequest({"x": np.array([1], np.object_)}))

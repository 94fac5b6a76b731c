# SPDX-License-Identifier: MIT
"""JSON with NaN and Infinity, to arrays and back."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from smls.errors import BadRequest
from smls.tensors import DATATYPES, datatype_of
from smls_node.faces import tfvalues

NUMBERS = [name for name in DATATYPES if name != "BYTES"]


@given(st.data(), st.sampled_from(NUMBERS))
def test_numbers_survive_the_way_there_and_back(data: st.DataObject, datatype: str) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=3, max_side=4))
    tensor = data.draw(arrays.arrays(DATATYPES[datatype], shape))
    body = tfvalues.write({"t": tfvalues.plain(tensor)})
    back = tfvalues.array(tfvalues.read(body)["t"], datatype)
    assert back.dtype == tensor.dtype
    np.testing.assert_array_equal(back, tensor)


@given(st.lists(st.lists(st.binary(max_size=5), min_size=2, max_size=2), min_size=1, max_size=3))
def test_bytes_survive_whether_or_not_they_are_texts(values: list[list[bytes]]) -> None:
    tensor = np.array(values, np.object_)
    for as_binary in (False, True):
        body = tfvalues.write(tfvalues.plain(tensor, as_binary=as_binary))
        back = tfvalues.array(tfvalues.read(body), "BYTES")
        assert back.tolist() == values
        assert datatype_of(back.dtype) == "BYTES"


def test_a_float_is_written_as_short_as_it_can_be() -> None:
    assert tfvalues.write(tfvalues.plain(np.array([0.2, 3, 1e-7], np.float32))) == (
        b"[0.2,3.0,1e-7]\n"
    )
    columns = np.arange(4, dtype=np.float32).reshape(2, 2).T
    assert tfvalues.write(tfvalues.plain(columns)) == b"[[0.0,2.0],[1.0,3.0]]\n"


def test_numbers_that_json_does_not_know_are_tokens() -> None:
    tensor = np.array([[np.nan, 1.5], [np.inf, -np.inf]], np.float32)
    assert tfvalues.write({"a": tfvalues.plain(tensor)}) == (
        b'{"a":[[NaN,1.5],[Infinity,-Infinity]]}\n'
    )
    assert tfvalues.write(tfvalues.plain(np.array(np.nan))) == b"NaN\n"
    back = tfvalues.array(tfvalues.read(b"[[NaN, 1.5], [Infinity, -Infinity]]"), "FP32")
    np.testing.assert_array_equal(back, tensor)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab\0é")


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=2)


@given(st.recursive(LEAVES, nested, max_leaves=8), st.sampled_from(list(DATATYPES)))
def test_whatever_is_sent_is_a_tensor_or_told(value: Any, datatype: str) -> None:
    value = tfvalues.read(json.dumps(value).encode())
    with suppress(BadRequest):
        tensor = tfvalues.array(value, datatype)
        assert datatype_of(tensor.dtype) == datatype
        assert tensor.shape == tfvalues.shape_of(value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "JSON Parse error: The document is empty."),
        (b"instances = [1]", "at offset: 0"),
        (b'{"a": [NaN, }', "at offset: 12"),
        (b"[" * 100_000, "JSON Parse error"),
        (b"[" * 100_000 + b"NaN", "JSON Parse error: maximum recursion depth"),
        (b"[1e400]", "JSON Parse error: number is infinity"),
        (b"[NaN, %s]" % (b"9" * 5000), "JSON Parse error: Exceeds the limit"),
        (b'"\xff"', "JSON Parse error"),
        (b'{"a":1} 2', "at offset: 8"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(body: bytes, told: str) -> None:
    with pytest.raises(BadRequest) as refused:
        tfvalues.read(memoryview(body))
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("value", "datatype", "told"),
    [
        (["x"], "FP32", 'JSON Value: "x" Type: String is not of expected type: float'),
        ([["1"]], "FP32", 'JSON Value: "1" Type: String is not of expected type: float'),
        ([None], "FP32", "JSON Value: null Type: Null is not of expected type: float"),
        ([True], "FP64", "JSON Value: true Type: Boolean is not of expected type: double"),
        ([{"b64": "eA=="}], "FP32", "Type: Object is not of expected type: float"),
        ([1.5], "INT32", "JSON Value: 1.5 Type: Number is not of expected type: int32"),
        ([2**31], "INT32", "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        ([-1], "UINT8", "not of expected type: uint8"),
        ([2**64], "UINT64", "not of expected type: uint64"),
        ([1], "BOOL", "not of expected type: bool"),
        ([1], "BYTES", "not of expected type: string"),
        ([1e39], "FP32", "JSON Value: 1e+39 Type: Number is not of expected type: float"),
        ([70000], "FP16", "not of expected type: half"),
        ([[1, 2], [3]], "FP32", "list at unexpected size: 1 at level: 1 expected size: 2"),
        ([[1], 2], "FP32", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Exp"),
        ([1, [2]], "FP32", "Encountered list at unexpected level: 1 expected < 1"),
        ([["a"], ["b", "c"]], "BYTES", "Encountered list at unexpected size: 2 at level: 1"),
        ([{"b64": "?"}], "BYTES", "Unable to base64 decode"),
        ([{"b64": "eA==", "c": 1}], "BYTES", "not formatted correctly for base64 data"),
        ([{"b64": 1}], "BYTES", "not formatted correctly for base64 data"),
    ],
)
def test_a_value_that_does_not_fit_is_told(value: Any, datatype: str, told: str) -> None:
    with pytest.raises(BadRequest) as refused:
        tfvalues.array(value, datatype)
    assert told in refused.value.message


def test_lists_too_deep_for_an_array_are_told() -> None:
    value: Any = 1
    for _ in range(900):
        value = [value]
    with pytest.raises(BadRequest):
        tfvalues.array(value, "FP32")


def test_whole_numbers_keep_all_their_digits() -> None:
    numbers = [2**64 - 1, 1, 0]
    assert tfvalues.array(numbers, "UINT64").tolist() == numbers
    assert tfvalues.array([2**63 - 1, -(2**63)], "INT64").tolist() == [2**63 - 1, -(2**63)]


def test_a_value_of_unknown_type_is_taken_for_what_it_looks_like() -> None:
    for value, datatype in [
        ([[1, 2]], "INT64"),
        ([1.5], "FP64"),
        ([True], "BOOL"),
        (["a"], "BYTES"),
        ({"b64": "eA=="}, "BYTES"),
        ([], "FP64"),
    ]:
        assert datatype_of(tfvalues.array(value, None).dtype) == datatype
    with pytest.raises(BadRequest):
        tfvalues.array([None], None)


def test_base64_needs_no_padding_and_may_have_spaces() -> None:
    assert tfvalues.binary({"b64": "aGFs bG8\n"}) == b"hallo"


def test_what_is_at_fault_is_shown_in_part() -> None:
    assert tfvalues.shown(["x" * 1000]).endswith("x...")
    assert len(tfvalues.shown(["x" * 1000])) < 300

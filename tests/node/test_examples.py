# SPDX-License-Identifier: MIT
"""Examples as inputs, and outputs as classes and values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.example.example_pb2 import Example

from smls.errors import BadRequest
from smls.tensors import TensorSpec
from smls_node import examples
from smls_node.signature import Signature

FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=3)
WHOLE = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)
BYTES = st.lists(st.binary(max_size=200), max_size=3)


@given(st.dictionaries(st.text(max_size=20), FLOATS | WHOLE | BYTES, max_size=4))
def test_a_serialized_example_is_what_tensorflow_reads(
    example: dict[str, list[float] | list[int] | list[bytes]],
) -> None:
    read = Example.FromString(examples.serialized(example)).features.feature
    assert set(read) == set(example)
    for name, values in example.items():
        kind = read[name].WhichOneof("kind")
        assert (kind is None) == (not values)
        if kind is not None:
            assert list(getattr(read[name], kind).value) == values


def test_a_signature_that_parses_examples_gets_them_serialized() -> None:
    signature = Signature((TensorSpec("inputs", "BYTES", (-1,)),))
    inputs = examples.inputs_of([{"x": [1.0]}, {"x": [2.0]}], signature)
    assert inputs["inputs"].tolist() == [
        examples.serialized({"x": [1.0]}),
        examples.serialized({"x": [2.0]}),
    ]


def test_a_signature_with_inputs_of_its_own_gets_the_features_by_name() -> None:
    signature = Signature(
        (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "BYTES", (-1,))),
    )
    inputs = examples.inputs_of(
        [{"a": [1, 2], "b": [b"x"]}, {"b": [b"y"], "a": [3.5, 4]}], signature
    )
    assert inputs["a"].tolist() == [[1, 2], [3.5, 4]]
    assert inputs["b"].tolist() == [b"x", b"y"]
    assert signature.rows(inputs) == 2


def test_the_only_feature_is_the_only_input_whatever_its_name() -> None:
    signature = Signature((TensorSpec("inputs", "FP32", (-1, 2, 2)),))
    inputs = examples.inputs_of([{"x": [1.0, 2, 3, 4]}], signature)
    assert inputs["inputs"].tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "Input is empty."),
        ([{"a": [1.0]}], "example 0: got features a, wanted a, b"),
        ([{"a": [1.0], "b": [1], "c": [1]}], "got features a, b, c, wanted a, b"),
        ([{"a": [1.0, 2.0], "b": [1]}], "input a: got values in numbers of 2, wanted FP32[?]"),
        ([{"a": [b"x"], "b": [1]}], "input a: got values of bytes, wanted FP32[?]"),
        ([{"a": [1.0], "b": [1.5]}], "input b: got values with decimal points, wanted INT8[?]"),
        ([{"a": [1.0], "b": [300]}], "input b: got values"),
    ],
)
def test_features_that_do_not_fit_are_told(rows: list[dict[str, list[float]]], told: str) -> None:
    signature = Signature((TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "INT8", (-1,))))
    with pytest.raises(BadRequest) as refused:
        examples.inputs_of(rows, signature)
    assert told in refused.value.message


def test_classes_and_scores_are_paired_and_either_may_be_missing() -> None:
    scores = np.array([[0.25, 0.5]], np.float32)
    classes = np.array([[b"a", b"b"]], np.object_)
    both = examples.classifications({"classes": classes, "scores": scores}, 1)
    assert both == [[("a", 0.25), ("b", 0.5)]]
    assert examples.classifications({"scores": scores}, 1) == [[("", 0.25), ("", 0.5)]]
    assert examples.classifications({"classes": classes}, 1) == [[("a", 0.0), ("b", 0.0)]]


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.zeros((1, 2))},
        {"scores": np.zeros(2)},
        {"scores": np.zeros((3, 2))},
        {"scores": np.zeros((1, 2)), "classes": np.full((1, 3), b"", np.object_)},
    ],
)
def test_outputs_that_are_no_classes_are_told(outputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(BadRequest, match="Expected"):
        examples.classifications(outputs, 1)


def test_values_are_a_column_or_a_row() -> None:
    column = np.array([[1.5], [2.5]], np.float32)
    assert examples.regressions({"outputs": column}, 2) == [1.5, 2.5]
    assert examples.regressions({"outputs": column.reshape(2), "y": column}, 2) == [1.5, 2.5]
    for outputs in (
        {"y": column},
        {"a": column, "b": column},
        {"outputs": column.T},
        {"outputs": column.astype(np.int32)},
    ):
        with pytest.raises(BadRequest):
            examples.regressions(outputs, 2)

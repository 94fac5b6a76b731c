# SPDX-License-Identifier: MIT
"""Texts and rows as questions, and how their answers are read."""

from __future__ import annotations

import json
from math import inf, isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from smls.errors import BadRequest, NodeFault
from smls.infer import question as infer
from smls.questions import Embed, Predict
from smls.transport import Reply

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
rows = st.dictionaries(
    texts, texts | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)


def reply(value: object) -> Reply:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Reply(200, Headers(), body)


@given(st.lists(texts, min_size=1))
def test_texts_are_told_as_they_are(listed: list[str]) -> None:
    question = Embed.of(iter(listed))
    assert (json.loads(question.body), question.rows) == (listed, len(listed))


@given(st.lists(rows, min_size=1))
def test_rows_are_told_as_they_are(listed: list[dict[str, Any]]) -> None:
    question = Predict.of(iter(listed))
    assert (json.loads(question.body), question.rows) == (listed, len(listed))


def test_one_needs_no_list() -> None:
    assert Embed.of("a b") == Embed.of(["a b"])
    assert Predict.of({"a": 1}) == Predict.of([{"a": 1}])


def test_numbers_of_numpy_are_numbers() -> None:
    row = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)}
    assert json.loads(Predict.of(row).body) == [{"a": 0.5, "b": 3, "c": True}]


@pytest.mark.parametrize(
    ("of", "given", "told"),
    [
        (Embed.of, [], "texts: got none"),
        (Embed.of, 7, "texts: got 7, wanted a list"),
        (Embed.of, b"abc", "texts: got b'abc', wanted a list"),
        (Embed.of, ["a", b"b"], "text 2: got b'b', wanted a text"),
        (Embed.of, ["\udc80"], "no UTF-8"),
        (Predict.of, [], "rows: got none"),
        (Predict.of, None, "rows: got None, wanted a list"),
        (Predict.of, "ab", "row 1: got 'a', wanted features"),
        (Predict.of, [{"a": 1}, [1]], r"row 2: got \[1\], wanted features"),
        (Predict.of, {"a": nan}, "rows: JSON cannot tell them"),
        (Predict.of, {"a": inf}, "rows: JSON cannot tell them"),
        (Predict.of, {"a": object}, "wanted numbers and texts"),
        (Predict.of, {"a": np.zeros(2)}, "rows: JSON cannot tell them"),
    ],
)
def test_what_is_wrong_is_named(of: Any, given: Any, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        of(given)


@pytest.mark.parametrize(
    ("question", "path"), [(Embed.of("a"), "/embed"), (Predict.of({"a": 1}), "/")]
)
def test_the_model_stands_in_the_query(question: Any, path: str) -> None:
    assert question.target(None, None) == path
    assert question.target("a&b", "3") == f"{path}?model=a%26b&version=3"
    assert question.headers["Content-Type"] == "application/json"


def test_answers_are_read() -> None:
    (vector,) = Embed.of("a").read(reply([[1, 2.5, None]]), "a:1")
    assert vector[:2] == [1.0, 2.5]
    assert isnan(vector[2])
    assert Predict.of([{}, {}]).read(reply({"prediction": ["x", [1]]}), "a:1") == ["x", [1]]


@pytest.mark.parametrize("value", [b"<html>", [], [[1], [2]], [1], [["a"]], [[True]], {"a": 1}])
def test_no_vectors_are_a_fault_of_the_node(value: object) -> None:
    with pytest.raises(NodeFault, match="is not 1 vectors"):
        Embed.of("a").read(reply(value), "a:1")


@pytest.mark.parametrize("value", [b"<html>", [1], {}, {"prediction": 1}, {"prediction": [1, 2]}])
def test_no_predictions_are_a_fault_of_the_node(value: object) -> None:
    with pytest.raises(NodeFault, match="is not 1 predictions"):
        Predict.of({"a": 1}).read(reply(value), "a:1")


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [
        ([(32, 4)], 32),
        ([(3,), (3, 2)], 3),
        ([(3,), (2,)], 1),
        ([()], 1),
        ([(3,), ()], 1),
        ([(0,)], 1),
    ],
)
def test_arrays_have_as_many_rows_as_all_of_them_say(shapes: list[Any], rows: int) -> None:
    inputs = {f"x{number}": np.zeros(shape) for number, shape in enumerate(shapes)}
    assert infer(inputs, None, {}).rows == rows
    assert infer({}, None, {}).rows == 1

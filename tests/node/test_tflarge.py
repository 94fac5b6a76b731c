# SPDX-License-Identifier: MIT
"""Large bodies are read as small ones are, whatever they hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from smls.errors import BadRequest
from smls.tensors import TensorSpec
from smls_node.faces import tfjson, tflarge
from smls_node.signature import DEFAULT, Signature

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)
NUMBERS = st.integers(-3, 3) | st.floats(-2, 2, width=32)
NESTED = st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=3), max_leaves=12)


def signatures(datatype: str = "FP32", sides: int = 2) -> dict[str, Signature]:
    takes = TensorSpec("x", datatype, (-1,) * sides)
    return {DEFAULT: Signature((takes,), (takes,)), "other": Signature((takes,), (takes,))}


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflarge, "LARGE", 0)


def plainly(body: bytes, known: dict[str, Signature]) -> Any:
    """What the call is without the short cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflarge, "LARGE", len(body) + 1)
        return told(body, known)


def told(body: bytes, known: dict[str, Signature]) -> Any:
    try:
        asked = tfjson.predict(body, known)
    except BadRequest as error:
        return error.message
    runs = [(run["x"].dtype, run["x"].shape, repr(run["x"].tolist())) for run in asked.runs]
    return asked.signature, asked.by_row, asked.sides, runs


@given(SHAPES, st.sampled_from(["instances", "inputs"]), st.sampled_from(["FP32", "INT16"]))
def test_regular_numbers_take_the_short_cut(
    shape: tuple[int, ...], key: str, datatype: str
) -> None:
    tensor = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    known = signatures(datatype, len(shape))
    body = json.dumps({"signature_name": "other", key: tensor.tolist()}).encode()
    large = tflarge.read(body, known)
    assert large is not None
    assert (large.signature, large.key) == ("other", key)
    np.testing.assert_array_equal(large.array, tensor)
    assert told(body, known) == plainly(body, known)


@given(st.lists(NESTED, max_size=4), st.sampled_from(["instances", "inputs"]), st.booleans())
def test_ragged_lists_are_told_of_as_ever(value: list[Any], key: str, other: bool) -> None:
    document = {key: value, "signature_name": "other"} if other else {key: value}
    body = json.dumps(document).encode()
    assert told(body, signatures()) == plainly(body, signatures())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1, 2]",
        b'{"instances": [[1, 2], [3], [4, 5, 6]]}',
        b'{"instances": [[1, 2], [3, true]]}',
        b'{"instances": [[1, 2], [3, "4"]]}',
        b'{"instances": [[1, 2], [3, null]]}',
        b'{"instances": [[1, NaN]]}',
        b'{"instances": [[1, 1e39]]}',
        b'{"instances": [[1, 2]], "inputs": [[1, 2]]}',
        b'{"instances": [[1, 2]], "instances": [[1, 2]]}',
        b'{"signature_name": "[,]", "instances": [[1, 2]]}',
        b'{"instances": [[1, 2]], "signature_name": "],["}',
        b'{"signature_name": 3, "instances": [[1, 2]]}',
        b'{"instances": [{"x": [1, 2]}]}',
        b'{"instances": {"b64": "AA=="}}',
        b'{"instances": 5}',
        b'{"instances": [[[]]]}',
        b'{"instances": [[1, 2]',
    ],
)
def test_what_is_no_regular_list_of_numbers_is_told_of_as_ever(body: bytes) -> None:
    assert told(body, signatures()) == plainly(body, signatures())


def test_lists_of_other_lengths_are_seen_from_the_text() -> None:
    assert tflarge.is_regular(b'{"a": [[1, 2], [3, 4], [5, 6]]}', (3, 2))
    assert not tflarge.is_regular(b'{"a": [[1, 2], [3], [4, 5, 6]]}', (3, 2))
    assert not tflarge.is_regular(b'{"a": [[1, 2], 3, [4, 5, 6]]}', (3, 2))
    assert tflarge.is_regular(b"[7]", (1,))

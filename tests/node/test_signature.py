# SPDX-License-Identifier: MIT
"""What a signature lets through, and how it tells what it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smls.errors import BadRequest
from smls.tensors import TensorSpec
from smls_node.signature import Signature

PAIR = Signature((TensorSpec("x", "FP32", (-1, 4)), TensorSpec("words", "BYTES", (-1,))))


def given(rows: int = 2, **other: Any) -> dict[str, Any]:
    usual = {"x": np.zeros((rows, 4), np.float32), "words": np.full(rows, b"", object)}
    return {**usual, **other}


def test_it_counts_the_rows_of_what_it_admits() -> None:
    assert PAIR.rows(given(3)) == 3
    assert PAIR.rows(PAIR.zeros()) == 1
    assert Signature(PAIR.inputs[:1], batches=False).rows({"x": np.zeros((3, 4), np.float32)}) == 1
    assert Signature(is_open=True).rows({"any": np.zeros(7)}) == 7


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"x": np.zeros((2, 4), np.float32)}, "inputs: got no 'words', wanted x, words"),
        (given(more=np.zeros(2)), "inputs: got 'more', wanted x, words"),
        (given(x=np.zeros((2, 4))), "input x: got FP64[2, 4], wanted FP32[?, 4]"),
        (given(x=np.zeros((2, 5), np.float32)), "input x: got FP32[2, 5], wanted FP32[?, 4]"),
        (given(x=np.zeros(4, np.float32)), "input x: got FP32[4], wanted FP32[?, 4]"),
        (given(3, words=np.full(2, b"", object)), "got rows 3 of x, 2 of words"),
        (given(0), "inputs: got no row, wanted one at least"),
    ],
)
def test_what_it_does_not_admit_is_named(tensors: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRequest) as raised:
        PAIR.rows(tensors)
    assert told in raised.value.message

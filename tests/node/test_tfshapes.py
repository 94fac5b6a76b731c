# SPDX-License-Identifier: MIT
"""Tensors without their last sides of 1, and answers in kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls.tensors import TensorSpec
from smls_node.faces.tfshapes import fitted, narrowed
from smls_node.signature import Signature

SIDES = st.lists(st.integers(1, 3), max_size=4).map(tuple)


def taking(*shapes: tuple[int, ...]) -> Signature:
    specs = [TensorSpec(f"x{place}", "FP32", shape) for place, shape in enumerate(shapes)]
    return Signature(tuple(specs))


def zeros(*shapes: tuple[int, ...]) -> Any:
    return {f"x{place}": np.zeros(shape, np.float32) for place, shape in enumerate(shapes)}


@pytest.mark.parametrize(
    ("sent", "spec", "shape", "sides"),
    [
        ((3,), (-1, 1), (3, 1), 1),
        ((), (-1, 1), (1, 1), 0),
        ((), (-1,), (1,), 0),
        ((3, 2), (-1, 2, 1, 1), (3, 2, 1, 1), 2),
        ((3, 1), (-1, 1), (3, 1), None),
        ((3,), (-1, 2), (3,), None),
        ((3,), (-1, -1), (3,), None),
        ((3, 4), (-1, 2, 1), (3, 4), None),
        ((3, 1, 1), (-1, 1), (3, 1, 1), None),
        ((), (), (), None),
    ],
)
def test_sides_that_lack_are_added(
    sent: tuple[int, ...], spec: tuple[int, ...], shape: tuple[int, ...], sides: int | None
) -> None:
    whole, found = fitted(zeros(sent), taking(spec))
    assert (whole["x0"].shape, found) == (shape, sides)


def test_the_input_with_the_fewest_sides_says_how_the_answer_is_told() -> None:
    whole, sides = fitted(zeros((3,), (3, 2), (3, 5)), taking((-1, 1), (-1, 2, 1), (-1, 5)))
    assert [each.shape for each in whole.values()] == [(3, 1), (3, 2, 1), (3, 5)]
    assert sides == 1


@given(SIDES, SIDES)
def test_what_a_signature_takes_is_left_alone(
    shape: tuple[int, ...], spec: tuple[int, ...]
) -> None:
    tensors = zeros(shape)
    whole, sides = fitted(tensors, taking(spec))
    if sides is None:
        assert whole["x0"] is tensors["x0"]
    else:
        assert taking(spec).inputs[0].admits(whole["x0"].shape)
        # A model that gives what it takes gives back what was sent.
        assert narrowed(whole, sides)["x0"].shape == shape


def test_outputs_with_other_sides_keep_them() -> None:
    outputs = zeros((3, 1), (3, 10), (3,), ())
    assert [each.shape for each in narrowed(outputs, 1).values()] == [(3,), (3, 10), (3,), ()]
    assert narrowed(outputs, None) is outputs

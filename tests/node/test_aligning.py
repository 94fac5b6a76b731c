# SPDX-License-Identifier: MIT
"""Arrays that begin where runtimes want them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls_node.aligning import ALIGNMENT, LEAST_BYTES, empty


@given(
    st.lists(st.integers(0, 60), max_size=3).map(tuple),
    st.sampled_from([np.float32, np.uint8, np.int64, "S7"]),
)
def test_it_is_an_array_as_any_other(shape: tuple[int, ...], dtype: str) -> None:
    made = empty(shape, dtype)
    assert (made.shape, made.dtype) == (shape, np.dtype(dtype))
    assert made.flags.c_contiguous
    assert made.flags.writeable
    if made.nbytes >= LEAST_BYTES:
        assert made.ctypes.data % ALIGNMENT == 0
    made[...] = 7
    assert (made == np.full(shape, 7, dtype)).all()


def test_python_s_objects_stay_whole() -> None:
    made = empty((LEAST_BYTES,), object)
    made[:] = "text"
    assert set(made) == {"text"}


@pytest.mark.parametrize("side", [128, 129, 224])
def test_a_batch_of_photos_begins_there(side: int) -> None:
    # As many times as it takes for chance not to do it.
    for _ in range(8):
        assert empty((side, side, 3), np.float32).ctypes.data % ALIGNMENT == 0

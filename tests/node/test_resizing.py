# SPDX-License-Identifier: MIT
"""Whoever resizes a picture, it is the same picture."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smls_node.resizing import by_pillow, resized

SIDES = st.integers(1, 120)


@given(SIDES, SIDES, SIDES, SIDES, st.booleans(), st.integers(0, 2**32 - 1))
@example(1, 1, 1, 1, True, 0)
@example(1, 3000, 100, 2, True, 0)
@example(2, 2, 500, 500, False, 0)
def test_it_is_pillows_picture(
    h: int, w: int, height: int, width: int, is_grey: bool, seed: int
) -> None:
    """But for 1 of 255, since the two round differently."""
    shape = (h, w) if is_grey else (h, w, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    got, wanted = resized(pixels, height, width), by_pillow(pixels, height, width)
    assert got.shape == wanted.shape == (height, width, *shape[2:])
    assert np.abs(got.astype(int) - wanted).max() <= 1


def test_one_grey_channel_is_none() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    assert np.array_equal(resized(pixels, 6, 8), resized(pixels[..., 0], 6, 8))


def test_parts_of_a_picture_are_one_too() -> None:
    """Their rows do not follow each other in memory."""
    whole = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    part = whole[5:30:2, 10:50]
    assert np.array_equal(resized(part, 20, 20), resized(part.copy(), 20, 20))


def test_pillow_does_it_where_the_other_is_not_there() -> None:
    pytest.importorskip("cykooz_resizer")
    program = (
        "import sys; sys.modules['cykooz_resizer'] = None\n"
        "from smls_node import resizing\n"
        "assert resizing._resize is resizing.by_pillow\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

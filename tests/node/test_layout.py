# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls_node.layout import CHANNELS, LAYOUTS, NCHW, NHWC, layout_of, sides, sized

SIDE = st.sampled_from([-1, 1, 3, 8, 224])


@pytest.mark.parametrize(
    ("shape", "told", "found"),
    [
        ((-1, 3, 224, 224), "", NCHW),
        ((1, 1, 28, 28), "", NCHW),
        ((-1, 224, 224, 3), "", NHWC),
        ((-1, 3, -1, -1), "", NCHW),
        ((-1, 3, 4, 3), "", NHWC),
        ((-1, 3, 4, 3), NCHW, NCHW),
        ((-1, 3, 224, 224), NHWC, None),
        ((-1, 64, 7, 7), "", None),
        ((-1, -1, -1, -1), "", None),
        ((3, 224, 224), "", None),
    ],
)
def test_channels_tell_the_layout(shape: tuple[int, ...], told: str, found: str | None) -> None:
    assert layout_of(shape, told) == found


@given(st.tuples(SIDE, SIDE, SIDE, SIDE), st.sampled_from(["", *LAYOUTS]))
def test_only_open_sides_are_filled(shape: tuple[int, ...], told: str) -> None:
    layout = layout_of(shape, told)
    if layout is None:
        return
    assert told in ("", layout)
    height, width, channels = sides(shape, layout)
    assert channels in CHANNELS
    filled = sized(shape, layout, 5, 7)
    assert sides(filled, layout) == (
        5 if height < 0 else height,
        7 if width < 0 else width,
        channels,
    )
    assert filled[0] == shape[0]
    assert sized(shape, layout, None, None) == shape

# SPDX-License-Identifier: MIT
"""In which order a tensor of images has its sides: channels last, or channels first. Pure."""

from __future__ import annotations

from collections.abc import Sequence

NHWC, NCHW = "NHWC", "NCHW"
"""Batch, height, width, channels, as TensorFlow's models have it; or with the channels before
height and width, as PyTorch's have it, and the ONNX files that are made of them."""

LAYOUTS = (NHWC, NCHW)

CHANNELS = (1, 3)
"""Grey, and colours."""

_PLACES = {NHWC: (1, 2, 3), NCHW: (2, 3, 1)}


def layout_of(shape: Sequence[int], told: str = "") -> str | None:
    """The layout of a tensor of this shape; ``None`` where it is none of images, or not ``told``.

    >>> layout_of((-1, 3, 224, 224))
    'NCHW'

    Where both would do, channels are last.
    """
    for layout in LAYOUTS if not told else (told,):
        if len(shape) == 4 and shape[_PLACES[layout][2]] in CHANNELS:
            return layout
    return None


def sides(shape: Sequence[int], layout: str) -> tuple[int, int, int]:
    """Height, width and channels, -1 where one is open."""
    height, width, channels = (shape[place] for place in _PLACES[layout])
    return height, width, channels


def sized(
    shape: tuple[int, ...], layout: str, height: int | None, width: int | None
) -> tuple[int, ...]:
    """``shape`` with ``height`` and ``width`` where it leaves them open."""
    found = list(shape)
    for place, told in zip(_PLACES[layout], (height, width), strict=False):
        if found[place] < 0 and told is not None:
            found[place] = told
    return tuple(found)

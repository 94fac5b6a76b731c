# SPDX-License-Identifier: MIT
"""One module a library; what they have in common is here and imports none of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from smls_node.images import PixelSpec

Input = NDArray[np.float32] | bytes
"""One image as a model takes it: float32[H, W, C], or the bytes of a JPEG file."""


@frozen
class Signature:
    """What a model takes and gives.

    ``pixels`` is ``None`` for a model that takes JPEG bytes and decodes them itself.
    ``classes`` is the length of an answer's row. ``batches`` says whether one run may take
    several images.
    """

    pixels: PixelSpec | None
    classes: int
    batches: bool


@frozen
class GraphFiles:
    """A frozen graph and how its input is to be fed.

    Layers left out are looked for in the graph. ``height`` and ``width`` are needed only where
    the graph leaves them open.
    """

    graph: Path
    input_layer: str | None = None
    output_layer: str | None = None
    mean: float = 0.0
    std: float = 255.0
    height: int | None = None
    width: int | None = None


class Runtime(Protocol):
    """A loaded model. ``infer`` blocks and may be called from several threads at once."""

    @property
    def signature(self) -> Signature: ...

    @property
    def example(self) -> Input:
        """A black image, to warm up and to measure with."""
        ...

    @property
    def process(self) -> str:
        """Which process of its own it runs in and why, for people; empty for the node's."""
        ...

    def infer(self, inputs: Sequence[Input]) -> NDArray[np.float32]:
        """float32[N, classes] for N inputs, each float32[H, W, C] or the bytes of a JPEG file.

        The inputs may be lent: they hold until the call returns.
        """
        ...

    def unload(self) -> None: ...

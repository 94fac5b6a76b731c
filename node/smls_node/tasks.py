# SPDX-License-Identifier: MIT
"""What a model is for, as its signature tells: what people may send it without naming tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from smls.tensors import Tensors
from smls_node.images import PixelSpec
from smls_node.signature import Inputs, Signature


@frozen
class ImageTask:
    """An image in, a score for each of ``classes`` out.

    ``input`` and ``output`` are names of tensors. ``pixels`` is ``None`` for a model that takes
    JPEG bytes and decodes them itself.
    """

    signature: str
    input: str
    output: str
    pixels: PixelSpec | None
    classes: int

    def inputs(self, image: NDArray[np.float32] | bytes) -> Inputs:
        """What is asked for one image: float32[H, W, C], or the bytes of a JPEG file."""
        if isinstance(image, bytes):
            return Inputs({self.input: np.array(image, np.object_)}, 1, self.signature)
        return Inputs({self.input: image[None]}, 1, self.signature)

    def scores(self, outputs: Tensors) -> NDArray[np.float32]:
        """float32[classes] for one image."""
        return np.asarray(outputs[self.output], np.float32).reshape(self.classes)


def image_task(
    signatures: Mapping[str, Signature],
    mean: float = 0.0,
    std: float = 255.0,
    height: int | None = None,
    width: int | None = None,
) -> ImageTask | None:
    """The task of a model whose first signature takes images, or JPEG bytes, and gives rows of
    scores; ``None`` for any other. Where it leaves the size of the images open, ``height`` and
    ``width`` are it."""
    name, signature = next(iter(signatures.items()))
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        return None
    (source,), (target,) = signature.inputs, signature.outputs
    classes = target.shape[-1] if target.shape else -1
    if classes < 1 or not target.datatype.startswith("FP"):
        return None
    if source.datatype == "BYTES" and source.shape == () and not signature.batches:
        return ImageTask(name, source.name, target.name, None, classes)
    if source.datatype != "FP32" or len(source.shape) != 4:
        return None
    _, own_height, own_width, channels = source.shape
    rows = own_height if own_height > 0 else height
    columns = own_width if own_width > 0 else width
    if channels not in (1, 3) or rows is None or columns is None:
        return None
    pixels = PixelSpec(rows, columns, channels, mean, std)
    return ImageTask(name, source.name, target.name, pixels, classes)

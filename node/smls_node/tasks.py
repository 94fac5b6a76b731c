# SPDX-License-Identifier: MIT
"""What a model is for, as its signature tells: what people may send it without naming tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from smls.errors import ModelUnusable
from smls.tensors import Tensors
from smls_node.images import PixelSpec
from smls_node.layout import layout_of, sides, sized
from smls_node.signature import Inputs, Signature


@frozen
class ImageTask:
    """An image in, a score for each of ``classes`` out.

    ``input`` and ``output`` are names of tensors. ``pixels`` is ``None`` for a model that takes
    JPEG bytes and decodes them itself. ``is_softmaxed`` makes parts of 1 of what the model gives,
    for models that give logits.
    """

    signature: str
    input: str
    output: str
    pixels: PixelSpec | None
    classes: int
    is_softmaxed: bool = False

    def inputs(self, image: NDArray[np.float32] | bytes) -> Inputs:
        """What is asked for one image: its pixels, or the bytes of a JPEG file."""
        if isinstance(image, bytes):
            return Inputs({self.input: np.array(image, np.object_)}, 1, self.signature)
        return Inputs({self.input: image[None]}, 1, self.signature)

    def scores(self, outputs: Tensors) -> NDArray[np.float32]:
        """float32[classes] for one image."""
        return self.rows(outputs, 1).reshape(self.classes)

    def rows(self, outputs: Tensors, count: int) -> NDArray[np.float32]:
        """float32[count, classes] for so many images."""
        given = np.asarray(outputs[self.output], np.float32).reshape(count, self.classes)
        return _softmax(given) if self.is_softmaxed else given


def image_task(
    signatures: Mapping[str, Signature],
    mean: float | tuple[float, ...] = 0.0,
    std: float | tuple[float, ...] = 255.0,
    height: int | None = None,
    width: int | None = None,
    *,
    layout: str = "",
    is_softmaxed: bool = False,
) -> ImageTask | None:
    """The task of a model whose first signature takes images, or JPEG bytes, and gives rows of
    scores; ``None`` for any other. Where it leaves the size of the images open, ``height`` and
    ``width`` are it; ``layout`` is theirs where it is told.

    :raises ModelUnusable: where ``mean`` or ``std`` has a number for each of other channels.
    """
    name, signature = next(iter(signatures.items()))
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        return None
    (source,), (target,) = signature.inputs, signature.outputs
    classes = target.shape[-1] if target.shape else -1
    if classes < 1 or not target.datatype.startswith("FP"):
        return None
    if source.datatype == "BYTES" and source.shape == () and not signature.batches:
        return ImageTask(name, source.name, target.name, None, classes, is_softmaxed)
    found = layout_of(source.shape, layout)
    if source.datatype != "FP32" or found is None or source.shape[0] not in (-1, 1):
        return None
    rows, columns, channels = sides(sized(source.shape, found, height, width), found)
    if rows < 1 or columns < 1:
        return None
    for key, numbers in {"input_mean": mean, "input_std": std}.items():
        if isinstance(numbers, tuple) and len(numbers) not in (1, channels):
            raise ModelUnusable(
                f"{key}: got {len(numbers)} numbers, wanted one, or one for each channel: "
                f"input {source.name} has {channels}"
            )
    pixels = PixelSpec(rows, columns, channels, mean, std, found)
    return ImageTask(name, source.name, target.name, pixels, classes, is_softmaxed)


def _softmax(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    parts: NDArray[np.float32] = np.exp(rows - rows.max(axis=1, keepdims=True))
    parts /= parts.sum(axis=1, keepdims=True)
    return parts

# SPDX-License-Identifier: MIT
"""Models that turn texts into vectors. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from smls.errors import BadRequest
from smls.tensors import Tensors
from smls_node.signature import Inputs, Signature


@frozen
class TextTask:
    """Texts in, a vector for each out. ``input`` and ``output`` are names of tensors;
    ``is_column`` says that the texts stand in a column, [N, 1]."""

    signature: str
    input: str
    output: str
    is_column: bool = False

    def inputs(self, texts: Sequence[str]) -> Inputs:
        """What is asked for the texts, which are a row each.

        :raises BadRequest: where there is none.
        """
        if not texts:
            raise BadRequest("got no text, wanted a list of texts")
        column = np.array([text.encode() for text in texts], np.object_)
        shaped = column[:, None] if self.is_column else column
        return Inputs({self.input: shaped}, len(texts), self.signature)

    def vectors(self, outputs: Tensors) -> NDArray[Any]:
        """float[N, D], one vector a text."""
        return outputs[self.output]


def text_task(signatures: Mapping[str, Signature]) -> TextTask | None:
    """The task of a model whose first signature takes texts, [N] or [N, 1], and gives vectors."""
    name, signature = next(iter(signatures.items()))
    if len(signature.inputs) != 1 or len(signature.outputs) != 1 or not signature.batches:
        return None
    (source,), (target,) = signature.inputs, signature.outputs
    if source.datatype != "BYTES" or source.shape not in ((-1,), (-1, 1)):
        return None
    if not target.datatype.startswith("FP") or len(target.shape) != 2:
        return None
    return TextTask(name, source.name, target.name, is_column=len(source.shape) == 2)

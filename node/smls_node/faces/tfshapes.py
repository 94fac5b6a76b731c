# SPDX-License-Identifier: MIT
"""Tensors that lack the last sides of a signature, where those are 1. TensorFlow Serving takes
them, since it holds no shape against a signature, and answers in kind. Pure.

Its own half_plus_two takes float[?, 1], and is sent and answers ``[1.0, 2.0, 5.0]``, or ``2.0``.
"""

from __future__ import annotations

from math import prod

from smls.tensors import Tensors
from smls_node.signature import Signature


def fitted(tensors: Tensors, signature: Signature) -> tuple[Tensors, int | None]:
    """``tensors`` with the sides that they lack, and the fewest sides that one of those came
    with; ``None`` where none lacks any."""
    whole = dict(tensors)
    for spec in signature.inputs:
        if spec.name not in tensors:
            continue
        tensor = tensors[spec.name]
        missing = len(spec.shape) - tensor.ndim
        shape = (*tensor.shape, *[1] * missing)
        if missing > 0 and set(spec.shape[1:][-missing:]) <= {1} and spec.admits(shape):
            whole[spec.name] = tensor.reshape(shape)
    lacking = [tensors[name].ndim for name in tensors if whole[name] is not tensors[name]]
    return whole, min(lacking, default=None)


def narrowed(outputs: Tensors, sides: int | None) -> Tensors:
    """``outputs`` without their sides of 1 after the first ``sides``, those that have no other
    there."""
    if sides is None:
        return outputs
    return {
        name: tensor.reshape(tensor.shape[:sides])
        if prod(tensor.shape[:sides]) == tensor.size
        else tensor
        for name, tensor in outputs.items()
    }

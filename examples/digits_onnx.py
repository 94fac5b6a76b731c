#!/usr/bin/env python
# SPDX-License-Identifier: MIT
"""Makes an image model as PyTorch's users have it: ONNX, channels first, logits.

    pip install 'simple-ml-serving[node,onnx]' onnx
    python examples/digits_onnx.py          # writes examples/models/digits-onnx/

Its weights are those of the digits that come with the node, which has them as a frozen graph of
TensorFlow, channels last: both give the same answers.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from smls_node import embedded

SETTINGS = """\
# The model gives logits: their softmax is told.
scores = "softmax"
# [1, 3, H, W] would be found by itself, and so would [1, H, W, 3].
input_layout = "NCHW"
# ImageNet's would be [123.675, 116.28, 103.53] and [58.395, 57.12, 57.375].
input_mean = 0
input_std = 255
"""

SAME: dict[str, Any] = {"auto_pad": "SAME_UPPER"}

HALF: dict[str, Any] = {**SAME, "kernel_shape": [2, 2], "strides": [2, 2]}


def weights(graph: Path) -> Mapping[str, Any]:
    """The constants of a frozen graph by name."""
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
    return {
        each.name: tf.make_ndarray(each.attr["value"].tensor)
        for each in definition.node
        if each.op == "Const"
    }


def converted(name: str, array: Any) -> Any:
    """Kernels with the channels first."""
    first = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    return numpy_helper.from_array(np.ascontiguousarray(first), name)


def network(constants: Mapping[str, Any]) -> Any:
    nodes, last = [], "image"

    def then(op: str, *constant: str, **attributes: Any) -> None:
        nonlocal last
        name = f"{op}-{len(nodes)}"
        nodes.append(helper.make_node(op, [last, *constant], [name], **attributes))
        last = name

    then("Conv", "conv1/kernel", "conv1/bias", strides=[2, 2], **SAME)
    then("Relu")
    for layer in ("conv2", "conv3"):
        then("Conv", f"{layer}/kernel", f"{layer}/bias", **SAME)
        then("Relu")
        then("MaxPool", **HALF)
    then("Transpose", perm=[0, 2, 3, 1])
    then("Flatten")
    then("Gemm", "hidden/kernel", "hidden/bias")
    then("Relu")
    then("Gemm", "logits/kernel", "logits/bias")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "digits",
        [value("image", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [value(last, TensorProto.FLOAT, ["n", 10])],
        [converted(name, array) for name, array in constants.items() if name != "flat/shape"],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main(folder: Path) -> None:
    path = folder / "digits-onnx" / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(network(weights(embedded.GRAPH)), path)
    shutil.copy(embedded.LABELS, path.parents[1] / "labels.txt")
    (path.parents[1] / "smls.toml").write_text(SETTINGS)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "models")

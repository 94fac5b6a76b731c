# SPDX-License-Identifier: MIT
"""ONNX models against onnxruntime itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from smls.errors import BadRequest, ModelUnusable
from smls_node.joining import Runner
from smls_node.settings import Device
from smls_node.signature import DEFAULT, Inputs
from tests.node.formats import asked, check_same, opened, told

FLOAT, TEXT = TensorProto.FLOAT, TensorProto.STRING

node, value = helper.make_node, helper.make_tensor_value_info


def saved(
    path: Path, nodes: Sequence[Any], inputs: Any, outputs: Any, weights: Sequence[Any] = ()
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def linear(path: Path, first: Any = "n") -> Path:
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    nodes = [node("MatMul", ["x", "w"], ["y"]), node("Softmax", ["y"], ["p"])]
    outputs = [value("y", FLOAT, [first, 3]), value("p", FLOAT, None)]
    weights_named = numpy_helper.from_array(weights, "w")
    return saved(path, nodes, [value("x", FLOAT, [first, 4])], outputs, [weights_named])


def direct(path: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_it_answers_as_onnxruntime_does(tmp_path: Path, threads: int) -> None:
    path = linear(tmp_path / "m.onnx")
    model = opened(path, tmp_path, operator_threads=threads, runs=2).runtime
    assert told(model) == ({"x": "FP32[?, 4]"}, {"y": "FP32[?, 3]", "p": "FP32[?, 3]"})
    assert model.signatures[DEFAULT].batches
    x = np.random.default_rng(1).random((5, 4), np.float32)
    check_same(asked(model, {"x": x}), direct(path, {"x": x}), 1e-6)
    answers = Runner(model)([Inputs({"x": x[:2]}, 2), Inputs({"x": x[2:]}, 3)])
    together = np.concatenate([each["y"] for each in answers if not isinstance(each, Exception)])
    check_same({"y": together}, {"y": direct(path, {"x": x})["y"]}, 1e-6)
    model.unload()


def test_a_first_side_that_is_fixed_is_not_batched(tmp_path: Path) -> None:
    model = opened(linear(tmp_path / "m.onnx", 2), tmp_path)
    assert not model.runtime.signatures[DEFAULT].batches
    assert told(model.runtime)[1] == {"y": "FP32[2, 3]", "p": "FP32[2, 3]"}
    with pytest.raises(BadRequest, match=r"input x: got FP32\[1, 4\], wanted FP32\[2, 4\]"):
        asked(model.runtime, {"x": np.zeros((1, 4), np.float32)})


def test_texts_are_texts_on_both_sides(tmp_path: Path) -> None:
    nodes = [node("Identity", ["t"], ["u"])]
    path = saved(
        tmp_path / "m.onnx", nodes, [value("t", TEXT, ["n", 2])], [value("u", TEXT, ["n", 2])]
    )
    model = opened(path, tmp_path).runtime
    texts = np.array([[b"a", "größer".encode()]], np.object_)
    assert asked(model, {"t": texts})["u"].tolist() == texts.tolist()
    with pytest.raises(BadRequest, match="input t: got a text that is not UTF-8"):
        asked(model, {"t": np.array([[b"a", b"\xff"]], np.object_)})


def test_what_is_no_plain_tensor_is_left_out(tmp_path: Path) -> None:
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
    mapping = helper.make_value_info("z", helper.make_sequence_type_proto(kind))
    nodes = [
        node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
        node("Identity", ["x"], ["y"]),
    ]
    inputs = [value("x", FLOAT, ["n", 2])]
    path = saved(tmp_path / "m.onnx", nodes, inputs, [mapping, value("y", FLOAT, ["n", 2])])
    model = opened(path, tmp_path).runtime
    assert told(model)[1] == {"y": "FP32[?, 2]"}
    alone = saved(tmp_path / "n.onnx", nodes[:1], inputs, [mapping])
    with pytest.raises(ModelUnusable, match=r"n\.onnx has no output that is a plain tensor"):
        opened(alone, tmp_path)


def test_weights_in_a_file_beside_it(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx")
    inputs = {"x": np.ones((1, 4), np.float32)}
    wanted = direct(path, inputs)
    beside = tmp_path / "beside" / "m.onnx"
    beside.parent.mkdir()
    onnx.save(
        onnx.load(path), beside, save_as_external_data=True, location="m.onnx.data",
        size_threshold=0,
    )  # fmt: skip
    check_same(asked(opened(beside.parent, tmp_path).runtime, inputs), wanted, 1e-6)
    (beside.parent / "m.onnx.data").unlink()
    with pytest.raises(ModelUnusable, match=r"m\.onnx is no whole ONNX model: .*m\.onnx\.data"):
        opened(beside.parent, tmp_path)


def test_a_broken_one_is_named(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ModelUnusable, match=r"m\.onnx is no whole ONNX model: 7 : INVALID_PROTO"):
        opened(path, tmp_path)
    saved(path, [node("Nothing", ["x"], ["y"])], [value("x", FLOAT, [1])], [value("y", FLOAT, [1])])
    with pytest.raises(ModelUnusable, match=r"is no whole ONNX model: .*Nothing"):
        opened(path, tmp_path)
    inputs, outputs = [value("x", FLOAT, ["n", 4])], [value("y", FLOAT, ["n", 3])]
    reshape = numpy_helper.from_array(np.array([7, 7]), "s")
    saved(path, [node("Reshape", ["x", "s"], ["y"])], inputs, outputs, [reshape])
    with pytest.raises(ModelUnusable, match="its first run, on zeros, failed: "):
        opened(path, tmp_path)


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx")
    with pytest.raises(ModelUnusable, match="its GPU build is onnxruntime-gpu"):
        opened(path, tmp_path, device=Device("cuda:0"))
    with pytest.raises(ModelUnusable, match="onnxruntime takes gpu_memory_bytes instead"):
        opened(path, tmp_path, device=Device(memory_fraction=0.5))
    opened(path, tmp_path, device=Device("cpu")).runtime.unload()

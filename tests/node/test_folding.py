# SPDX-License-Identifier: MIT
"""Graphs with convolutions in one piece, against the graphs as they were, in real sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smls_node.runtimes import GraphFiles
from smls_node.runtimes.folding import DEPTHWISE, folded
from smls_node.runtimes.tensorflow import load
from smls_node.signature import DEFAULT

tf = pytest.importorskip("tensorflow")
v1 = tf.compat.v1

SIDE, CHANNELS = 5, 3
PIXELS = np.random.default_rng(0).normal(size=(3, SIDE, SIDE, CHANNELS)).astype(np.float32)

FOLDED = ("Mul", "AddV2", "Sub", "BiasAdd", "FusedBatchNormV3")
"""What may come after a convolution and goes into it."""

steps = st.sampled_from([*FOLDED, "by one number", "for each pixel", "from a number", "Relu"])


def random_of(seed: int) -> Any:
    return np.random.default_rng(seed)


def convolved(pixels: Any, kind: str, seed: int) -> Any:
    random = random_of(seed)
    if kind == DEPTHWISE:
        weights = random.normal(size=(3, 3, CHANNELS, 2)).astype(np.float32)
        return tf.nn.depthwise_conv2d(pixels, weights, [1, 1, 1, 1], "SAME")
    weights = random.normal(size=(3, 3, CHANNELS, 2 * CHANNELS)).astype(np.float32)
    return tf.nn.conv2d(pixels, weights, 1, "SAME")


def stepped(value: Any, step: str, seed: int) -> Any:
    random, count = random_of(seed), 2 * CHANNELS

    def numbers(*shape: int) -> Any:
        # As a frozen batch norm has it: worked out of constants.
        return tf.sqrt(tf.constant(random.uniform(0.5, 2, shape).astype(np.float32)))

    match step:
        case "Mul":
            return numbers(count) * value
        case "AddV2":
            return tf.raw_ops.AddV2(x=value, y=numbers(1, 1, 1, count))
        case "Sub":
            return value - numbers(count)
        case "BiasAdd":
            return tf.nn.bias_add(value, numbers(count))
        case "FusedBatchNormV3":
            return v1.nn.fused_batch_norm(
                value, *(numbers(count) for _ in range(4)), epsilon=0.01, is_training=False
            )[0]
        case "by one number":
            return value * numbers()
        case "for each pixel":
            return value + numbers(SIDE, SIDE, count)
        case "from a number":
            return 1 - value
    return tf.nn.relu(value)


def surrounded(pixels: Any, kind: str, kernel: int, stride: int, zeros: Sequence[Any]) -> Any:
    """A convolution of a picture with ``zeros`` above, below, left and right of it."""
    top, bottom, left, right = zeros
    padded = tf.pad(pixels, [(0, 0), (top, bottom), (left, right), (0, 0)])
    random = random_of(kernel)
    if kind == DEPTHWISE:
        weights = random.normal(size=(kernel, kernel, CHANNELS, 2)).astype(np.float32)
        return tf.nn.depthwise_conv2d(padded, weights, [1, stride, stride, 1], "VALID")
    weights = random.normal(size=(kernel, kernel, CHANNELS, 2 * CHANNELS)).astype(np.float32)
    return tf.nn.conv2d(padded, weights, stride, "VALID")


def graph_of(build: Any) -> Any:
    graph = tf.Graph()
    with graph.as_default():
        pixels = v1.placeholder(tf.float32, [None, SIDE, SIDE, CHANNELS], name="input")
        tf.identity(build(pixels), name="output")
    return graph


def imported(definition: Any) -> Any:
    graph = tf.Graph()
    with graph.as_default():
        v1.import_graph_def(definition, name="")
    return graph


def run(graph: Any, *names: str, is_optimized: bool = True) -> list[Any]:
    """What a session gives. TensorFlow's optimizer kills the process where a ``Conv2D`` is scaled
    by one number among several products."""
    config = v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = not is_optimized
    with v1.Session(graph=graph, config=config) as session:
        found: list[Any] = session.run([f"{name}:0" for name in names], {"input:0": PIXELS})
    return found


def values(graph: Any) -> Any:
    def of(tensors: list[Any]) -> list[Any]:
        with v1.Session(graph=graph) as session:
            found: list[Any] = session.run(tensors)
        return found

    return of


def fold(graph: Any, *keep: str) -> Any:
    return folded(graph, {"input", "output", *keep}, values(graph))


def kinds(definition: Any) -> Counter[str]:
    return Counter(node.op for node in definition.node)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([DEPTHWISE, "Conv2D"]), st.lists(steps, max_size=4), st.integers(0, 99))
def test_the_answers_stay_what_they_were(kind: str, steps: Sequence[str], seed: int) -> None:
    def build(pixels: Any) -> Any:
        value = convolved(pixels, kind, seed)
        for number, step in enumerate(steps):
            value = stepped(value, step, seed + number)
        return value + tf.concat([pixels, pixels], 3)

    graph = graph_of(build)
    before = run(graph, "output", is_optimized=False)
    definition = fold(graph)
    is_folded = steps[:1] and steps[0] in (*FOLDED, "by one number")
    if definition is None:
        assert not is_folded or kind == "Conv2D"
        return
    np.testing.assert_allclose(run(imported(definition), "output"), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [DEPTHWISE, "Conv2D"])
@pytest.mark.parametrize("step", FOLDED)
def test_a_step_goes_into_its_convolution(kind: str, step: str) -> None:
    def build(pixels: Any) -> Any:
        value = stepped(stepped(convolved(pixels, kind, 1), step, 2), "Mul", 3)
        return value + tf.concat([pixels, pixels], 3)

    graph = graph_of(build)
    found = kinds(fold(graph))
    assert (found[kind], found["BiasAdd"]) == (1, 1)
    assert found["Mul"] == found["Sub"] == found["FusedBatchNormV3"] == 0
    # The sum with the input is what is left.
    assert found["AddV2"] == 1


def test_what_tensorflow_folds_by_itself_is_left_to_it() -> None:
    def build(pixels: Any) -> Any:
        return tf.nn.relu(stepped(convolved(pixels, "Conv2D", 1), "FusedBatchNormV3", 2))

    assert fold(graph_of(build)) is None


def test_what_others_use_or_ask_for_stays() -> None:
    def build(pixels: Any) -> Any:
        first = tf.identity(convolved(pixels, DEPTHWISE, 1), name="used")
        one = tf.raw_ops.Mul(x=convolved(pixels, DEPTHWISE, 2), y=tf.constant(2.0), name="asked")
        other = convolved(pixels, DEPTHWISE, 3)
        return first + stepped(one, "BiasAdd", 4) + other + stepped(other, "Mul", 5)

    graph = graph_of(build)
    names = "output", "asked", "used"
    before = run(graph, *names)
    definition = fold(graph, "asked")
    # The end of a chain keeps its name, and what it gives.
    assert kinds(definition)[DEPTHWISE] == 3
    for got, wanted in zip(run(imported(definition), *names), before, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_numbers_that_change_are_not_folded() -> None:
    def build(pixels: Any) -> Any:
        value = convolved(pixels, DEPTHWISE, 1)
        return value * tf.random.uniform([2 * CHANNELS])

    assert fold(graph_of(build)) is None


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([DEPTHWISE, "Conv2D"]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.none() | st.lists(st.integers(0, 2), min_size=4, max_size=4),
    st.booleans(),
)
def test_zeros_about_a_picture_change_no_answer(
    kind: str, kernel: int, stride: int, drawn: Sequence[int] | None, is_scaled: bool
) -> None:
    # What the standard says of SAME: as few zeros as give a result for each stride that begins,
    # and where they are odd the last one at the end.
    least = max(0, -(-SIDE // stride) * stride - stride + kernel - SIDE)
    same = [least // 2, least - least // 2] * 2
    zeros = same if drawn is None else drawn

    def build(pixels: Any) -> Any:
        value = surrounded(pixels, kind, kernel, stride, zeros)
        return stepped(value, "Mul", 1) if is_scaled else value

    graph = graph_of(build)
    (before,) = run(graph, "output", is_optimized=False)
    definition = fold(graph)
    assert (zeros == same) == (definition is not None and kinds(definition)["Pad"] == 0)
    if definition is not None:
        (got,) = run(imported(definition), "output")
        np.testing.assert_allclose(got, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reason", ["used", "asked", "no zeros that are known", "no known size"])
def test_a_pad_that_something_else_needs_stays(reason: str) -> None:
    def build(pixels: Any) -> Any:
        if reason == "no known size":
            pixels = v1.placeholder_with_default(pixels, [None, None, None, CHANNELS])
        zeros: Any = [0, 1, 0, 1]
        if reason == "no zeros that are known":
            zeros = [0, tf.size(pixels) // tf.size(pixels), 0, 1]
        value = surrounded(pixels, DEPTHWISE, 2, 1, zeros)
        if reason == "used":
            value += tf.reduce_sum(value.graph.get_tensor_by_name("Pad:0"))
        return value

    graph = graph_of(build)
    assert fold(graph, *(["Pad"] if reason == "asked" else [])) is None


def test_weights_that_would_be_no_numbers_stay_as_they_are() -> None:
    def build(pixels: Any) -> Any:
        return convolved(pixels, DEPTHWISE, 1) * tf.constant(3e38)

    assert fold(graph_of(build)) is None


def test_a_node_runs_such_graphs_in_one_piece(tmp_path: Path) -> None:
    def build(pixels: Any) -> Any:
        value = tf.nn.relu6(stepped(convolved(pixels, DEPTHWISE, 1), "FusedBatchNormV3", 2))
        return tf.nn.softmax(tf.reduce_mean(value, [1, 2]))

    graph = graph_of(build)
    (before,) = run(graph, "output")
    path = tmp_path / "net.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    model = load(GraphFiles(path, "input", "output"), operator_threads=1, runs=1)
    assert kinds(model._session.graph.as_graph_def())["BiasAdd"] == 1
    got = model.infer({"input": PIXELS}, DEFAULT, {})["output"]
    np.testing.assert_allclose(got, before, rtol=1e-5, atol=1e-6)
    model.unload()

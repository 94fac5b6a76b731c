# SPDX-License-Identifier: MIT
"""Frozen graphs to serve, as small or as slow as a test needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf


def write_constant(
    folder: Path, name: str, scores: Sequence[float], ballast: int = 0
) -> tuple[str, ...]:
    """A graph of 4x4 pixels that gives every image these scores; the options that name it.

    ``ballast`` weights make it as large as real ones are, and change nothing.
    """

    def build(pixels: tf.Tensor) -> tf.Tensor:
        # Adds nothing, and makes each row depend on its image.
        none = tf.reduce_sum(pixels, [1, 2, 3])[:, None] * 0
        if ballast:
            weights = np.random.default_rng(0).random(ballast, np.float32)
            none = none * tf.reduce_sum(none[0] * tf.constant(weights))
        return tf.constant(scores, tf.float32) + none

    return _write(folder, name, 4, len(scores), build)


def write_slow(folder: Path, name: str, layers: int) -> tuple[str, ...]:
    """A graph of 112x112 pixels whose convolutions take some 0.9 GFLOP each."""
    kernel = np.random.default_rng(0).normal(0, 0.05, (3, 3, 64, 64)).astype(np.float32)

    def build(pixels: tf.Tensor) -> tf.Tensor:
        weights = tf.constant(kernel)
        wide = tf.tile(pixels, [1, 1, 1, 22])[..., :64]
        for _ in range(layers):
            wide = tf.nn.relu(tf.nn.conv2d(wide, weights, 1, "SAME"))
        return tf.reduce_mean(wide, [1, 2])[:, :3]

    return _write(folder, name, 112, 3, build)


def write_lazy(folder: Path, name: str, rounds: int) -> tuple[str, ...]:
    """A graph of 4x4 pixels that takes some 10 ms for each of the rounds with a bright image, and
    next to nothing with a dark one."""
    start = np.random.default_rng(0).normal(0, 0.04, (512, 512)).astype(np.float32)

    def build(pixels: tf.Tensor) -> tf.Tensor:
        is_bright = tf.reduce_max(tf.reduce_mean(pixels, [1, 2, 3])) > 0.5
        many = tf.where(is_bright, rounds, 0)
        _, product = tf.while_loop(
            lambda done, _: done < many,
            lambda done, matrix: (done + 1, tf.tanh(matrix @ matrix)),
            (tf.constant(0), tf.constant(start)),
        )
        return tf.reduce_mean(pixels, [1, 2]) + 0 * tf.reduce_mean(product)

    return _write(folder, name, 4, 3, build)


def write_hanging(folder: Path, name: str) -> tuple[str, ...]:
    """A graph of 4x4 pixels that never answers a bright image, and costs nothing meanwhile."""

    def build(pixels: tf.Tensor) -> tf.Tensor:
        def never() -> tf.Tensor:
            # Takes what nobody puts there, and holds its thread until somebody does.
            (taken,) = tf.raw_ops.Unstage(dtypes=[tf.float32], shared_name="nothing")
            return tf.reshape(taken, [])

        is_bright = tf.reduce_mean(pixels) > 0.5
        waited = tf.compat.v1.cond(is_bright, never, lambda: tf.constant(0.0))
        return tf.reduce_mean(pixels, [1, 2]) + waited

    return _write(folder, name, 4, 3, build)


def write_greedy(folder: Path, name: str, megabytes: int) -> tuple[str, ...]:
    """A graph of 4x4 pixels that needs so much memory for a bright image, and none for others."""

    def build(pixels: tf.Tensor) -> tf.Tensor:
        def much() -> tf.Tensor:
            return tf.reduce_mean(tf.random.uniform([megabytes * 250_000]))

        is_bright = tf.reduce_mean(pixels) > 0.5
        taken = tf.compat.v1.cond(is_bright, much, lambda: tf.constant(0.0))
        return tf.reduce_mean(pixels, [1, 2]) + 0 * taken

    return _write(folder, name, 4, 3, build)


def _write(
    folder: Path, name: str, side: int, classes: int, build: Callable[[tf.Tensor], tf.Tensor]
) -> tuple[str, ...]:
    with tf.Graph().as_default() as graph:
        pixels = tf.compat.v1.placeholder(tf.float32, [None, side, side, 3], name="input")
        tf.nn.softmax(build(pixels), name="final_result")
    path, labels = folder / f"{name}.pb", folder / f"{name}.txt"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    labels.write_text("".join(f"{name}-{number}\n" for number in range(classes)))
    return "--graph", str(path), "--labels", str(labels)

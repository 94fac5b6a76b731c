#!/usr/bin/env python
# SPDX-License-Identifier: MIT
"""Makes a model of texts: a small sentence encoder, a TensorFlow SavedModel that takes strings.

    pip install 'simple-ml-serving[node]'
    python examples/encoder.py              # writes examples/models/encoder/1, in about a minute

What it is: each word, and each word's first four letters, is hashed to one of 8,192 learnt
vectors of 64 numbers; a text is their mean, of length 1. It is trained on this project's own
documentation, so that sentences which follow each other lie closer together than others
(softmax over the batch; Henderson et al., "Efficient Natural Language Response Suggestion for
Smart Reply", 2017). What it is not: it has read this project alone, a thousand pairs of
sentences, and knows no other words. For real use take a module of TensorFlow Hub, which is served
the same way.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

ROOT = Path(__file__).resolve().parent.parent

BUCKETS, SIZE = 8192, 64

STEPS, BATCH, LEARNING_RATE = 600, 128, 0.01

SHARPNESS = 10.0
"""Times the cosine, so that the softmax can tell a good pair from the others."""


class Encoder(tf.Module):
    """Texts, string[N], to vectors, float32[N, 64], each of length 1."""

    def __init__(self) -> None:
        super().__init__()
        start = np.random.default_rng(0).normal(0, 1 / SIZE**0.5, (BUCKETS, SIZE))
        self.vectors = tf.Variable(start.astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
    def embed(self, texts: Any) -> dict[str, Any]:
        plain = tf.strings.regex_replace(tf.strings.lower(texts, "utf-8"), r"[^\pL\pN]+", " ")
        # A text without a word is one empty word.
        words = tf.strings.split(tf.strings.join([plain, ""])).with_row_splits_dtype(tf.int64)
        words = tf.concat([words, tf.fill([tf.size(texts), 1], "")], 1)
        stems = tf.strings.join([tf.strings.substr(words.flat_values, 0, 4, "UTF8_CHAR"), "~"])
        both = tf.concat([words, words.with_flat_values(stems)], 1)
        buckets = tf.strings.to_hash_bucket_fast(both.flat_values, BUCKETS)
        rows = tf.math.segment_mean(tf.gather(self.vectors, buckets), both.value_rowids())
        return {"vectors": tf.math.l2_normalize(rows, 1)}


def sentences() -> list[list[str]]:
    """The project's documentation in paragraphs, each a list of its sentences."""
    texts = [path.read_text("utf-8") for path in sorted(ROOT.glob("*.md"))]
    texts += [path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    for folder in ("client", "node", "registry", "tests", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            texts += _docstrings(path)
    paragraphs = [block for text in texts for block in re.split(r"\n\s*\n", text)]
    cut = [re.split(r"(?<=[.:;])\s+", " ".join(block.split())) for block in paragraphs]
    return [[each for each in block if each.count(" ") >= 3] for block in cut]


def _docstrings(path: Path) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds)
    ]
    return [text for node in nodes if (text := ast.get_docstring(node))]


def nearest(encoder: Encoder, pairs: Any) -> float:
    """How often a sentence's own neighbour is among the ten nearest of all."""
    left, right = (encoder.embed(tf.constant(side))["vectors"].numpy() for side in pairs.T)
    ranks = ((left @ right.T) > np.sum(left * right, 1, keepdims=True)).sum(1)
    return float((ranks < 10).mean())


def train(encoder: Encoder, pairs: Any) -> None:
    optimizer = tf.keras.optimizers.Adam(LEARNING_RATE)
    rng = np.random.default_rng(1)

    @tf.function
    def step(left: Any, right: Any) -> Any:
        with tf.GradientTape() as tape:
            cosines = tf.matmul(
                encoder.embed(left)["vectors"], encoder.embed(right)["vectors"], transpose_b=True
            )
            own = tf.range(tf.shape(cosines)[0])
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(own, cosines * SHARPNESS)
            )
        gradient = tf.convert_to_tensor(tape.gradient(loss, encoder.vectors))
        optimizer.apply_gradients([(gradient, encoder.vectors)])
        return loss

    for number in range(STEPS):
        chosen = pairs[rng.choice(len(pairs), BATCH, replace=False)]
        loss = step(tf.constant(chosen[:, 0]), tf.constant(chosen[:, 1]))
        if number % 100 == 0:
            print(f"step {number}: loss {float(loss):.3f}", flush=True)


def main(folder: Path) -> None:
    tf.keras.utils.set_random_seed(0)
    pairs = np.array([pair for block in sentences() for pair in pairwise(block)])
    np.random.default_rng(2).shuffle(pairs)
    held_out, pairs = pairs[:200], pairs[200:]
    encoder = Encoder()
    before = nearest(encoder, held_out)
    print(f"{len(pairs)} pairs of sentences that follow each other, {len(held_out)} held out")
    train(encoder, pairs)
    path = folder / "encoder" / "1"
    tf.saved_model.save(encoder, str(path), signatures={"serving_default": encoder.embed})
    after = nearest(encoder, held_out)
    print(f"{path}: finds the neighbour of a held-out sentence among the 10 nearest of 200 "
          f"for {after:.0%} of them ({before:.0%} before training)")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "models")

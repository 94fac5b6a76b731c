# SPDX-License-Identifier: MIT
"""label_image in a long-lived session, for all peers alike: they differ only in how they serve.

Decoding is Pillow's, of every pixel, as the peers' own examples do it; the session is on the same
frozen graph that our node gets, with a callable made once, which is faster than ``Session.run``.
"""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image


class LabelImage:
    """The graph that the benchmark names in BENCH_* variables. Safe to call from many threads."""

    def __init__(self) -> None:
        self._side = int(os.environ["BENCH_SIDE"])
        self._labels = Path(os.environ["BENCH_LABELS"]).read_text().splitlines()
        graph = tf.Graph()
        with graph.as_default():
            definition = tf.compat.v1.GraphDef.FromString(
                Path(os.environ["BENCH_GRAPH"]).read_bytes()
            )
            tf.compat.v1.import_graph_def(definition, name="")
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=int(os.environ["BENCH_INTRA_OP"]),
            inter_op_parallelism_threads=int(os.environ["BENCH_INTER_OP"]),
        )
        session = tf.compat.v1.Session(graph=graph, config=config)
        self._run = session.make_callable(
            f"{os.environ['BENCH_OUTPUT']}:0", [f"{os.environ['BENCH_INPUT']}:0"]
        )
        self.infer(np.zeros((1, self._side, self._side, 3), np.float32))

    def decode(self, data: bytes) -> NDArray[np.float32]:
        """float32[side, side, 3] in 0-1 from an image file."""
        return self.pixels(Image.open(io.BytesIO(data)))

    def pixels(self, image: Image.Image) -> NDArray[np.float32]:
        """float32[side, side, 3] in 0-1 from an opened image."""
        size = (self._side, self._side)
        sized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        return np.asarray(sized, np.float32) * np.float32(1 / 255)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[N, labels] from float32[N, side, side, 3]."""
        return self._run(batch)

    def answer(self, scores: NDArray[np.float32]) -> dict[str, Any]:
        """The five best labels, best first, as JSON has it."""
        best = np.argpartition(scores, -5)[-5:]
        best = best[np.argsort(-scores[best])]
        return {
            "predictions": [
                {"label": self._labels[index], "score": float(scores[index])} for index in best
            ]
        }

    def classify(self, data: bytes) -> dict[str, Any]:
        """The answer to one image file."""
        return self.answer(self.infer(self.decode(data)[None])[0])

    def classify_many(self, images: list[bytes]) -> list[dict[str, Any]]:
        """The answers to several image files, from one run."""
        batch = np.stack([self.decode(image) for image in images])
        return [self.answer(row) for row in self.infer(batch)]

# SPDX-License-Identifier: MIT
"""``python -m bench.apart``: what a batch costs more where its model is in a process apart.

A model that only puts its batch together, in this process and in one apart, which take turns; and
the built-in digits in TensorFlow, for the time of a real run and the memory of its process.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from bench import processes
from smls.tensors import Tensors, TensorSpec
from smls_node import embedded
from smls_node.runtimes import GraphFiles, Runtime, tensorflow
from smls_node.runtimes.apart import Apart
from smls_node.signature import DEFAULT, Signature

ROUNDS = 15
SECONDS = 0.2


class Scores:
    """Gives 1000 scores an image at no cost."""

    process = problem = ""

    def __init__(self, side: int) -> None:
        takes = TensorSpec("image", "FP32", (-1, side, side, 3))
        gives = TensorSpec("scores", "FP32", (-1, 1000))
        self.signatures = {DEFAULT: Signature((takes,), (gives,))}
        self.example = {"image": np.random.default_rng(0).random((1, side, side, 3), np.float32)}

    def infer(self, inputs: Tensors, signature: str, parameters: Mapping[str, Any]) -> Tensors:
        batch = inputs["image"]
        return {"scores": np.full((len(batch), 1000), batch[0, 0, 0, 0], np.float32)}

    def unload(self) -> None: ...


def load(side: int) -> Scores:
    """Found by its name in the process apart."""
    return Scores(side)


def main() -> int:
    """Prints a table in Markdown."""
    apart = Apart("a benchmark")
    found = import_module("bench.apart").load
    digits = GraphFiles(embedded.GRAPH)
    pairs: list[tuple[str, Runtime, Runtime, int]] = [
        (f"{size} x float32[{side}, {side}, 3]", load(side), apart.load(found, side), size)
        for size, side in ((1, 32), (1, 224), (8, 224), (32, 224))
    ]
    pairs += [
        (
            f"digits in TensorFlow, batch of {size}",
            tensorflow.load(digits, operator_threads=1),
            apart.load(tensorflow.load, digits, operator_threads=1),
            size,
        )
        for size in (1, 8)
    ]
    print("| batch | in the node's process, µs | apart, µs | more, µs |\n| --- | --- | --- | --- |")
    for name, here, there, size in pairs:
        figures: dict[Runtime, list[float]] = {here: [], there: []}
        for _ in range(ROUNDS):
            for model in (here, there):
                batch = {
                    name: np.concatenate([array] * size) for name, array in model.example.items()
                }
                figures[model].append(_microseconds(model, batch))
        usual, other = (statistics.median(each) for each in figures.values())
        print(f"| {name} | {usual:.0f} | {other:.0f} | {other - usual:+.0f} |")
    process = int(apart.told().split()[1])
    print(f"\nThe process with its models: {processes.memory_mb(process):.0f} MB")
    apart.close()
    return 0


def _microseconds(model: Runtime, batch: Tensors) -> float:
    """The median time of a run."""
    model.infer(batch, DEFAULT, {})
    taken = []
    end = time.perf_counter() + SECONDS
    while (begun := time.perf_counter()) < end:
        model.infer(batch, DEFAULT, {})
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1e6


if __name__ == "__main__":
    sys.exit(main())

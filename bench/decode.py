# SPDX-License-Identifier: MIT
"""``python -m bench.decode``: does decoding only as large as needed change an answer?

The held-out digits, rendered at photo sizes and written as JPEG files, are decoded in both ways
(``--decode scaled`` and ``--decode exact``) and classified by the embedded network: how many have
the same best label, how far scores move, and what each way costs.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from smls_node import embedded, images
from smls_node.runtimes import GraphFiles, tensorflow
from smls_node.tasks import image_task

ROOT = Path(__file__).resolve().parent.parent
SIZES = (640, 1000, 1600)
MOST_PIXELS = 10**8


def main() -> int:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.decode", description=__doc__)
    parser.add_argument("--images", type=int, default=150, help="held-out digits of each size")
    options = parser.parse_args()
    training = _training_program()
    model = tensorflow.load(GraphFiles(embedded.GRAPH))
    task = image_task(model.signatures)
    assert task is not None
    assert task.pixels is not None
    print("| px | images | same best label | score moves, mean | at most | scaled ms | exact ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for size in SIZES:
        files = training.held_out_files(size, options.images)
        rows: dict[bool, Any] = {}
        cost: dict[bool, list[float]] = {True: [], False: []}
        for exact in (False, True):
            decoded = []
            for data in files:
                begun = time.perf_counter()
                decoded.append(images.decode(data, task.pixels, MOST_PIXELS, exact=exact))
                cost[exact].append((time.perf_counter() - begun) * 1000)
            rows[exact] = model.infer({task.input: np.stack(decoded)})[task.output]
        same = np.mean(rows[True].argmax(axis=1) == rows[False].argmax(axis=1))
        moved = np.abs(rows[True] - rows[False])
        print(
            f"| {size} | {len(files)} | {same:.2%} | {moved.mean():.5f} | {moved.max():.3f} "
            f"| {statistics.median(cost[False]):.2f} | {statistics.median(cost[True]):.2f} |"
        )
    return 0


def _training_program() -> Any:
    """``script/train_digits.py``, which knows the held-out digits and how they are rendered."""
    path = ROOT / "script" / "train_digits.py"
    spec = importlib.util.spec_from_file_location("train_digits", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_digits"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())

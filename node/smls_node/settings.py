# SPDX-License-Identifier: MIT
"""What a node is told of a model that it is to serve."""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

from smls_node.batcher import Limits


@frozen
class ModelSettings:
    """One model of the command line: a frozen graph, its labels and how to feed it.

    What is ``None`` is looked for in the graph, measured, or has a default that depends on the
    others. ``limits`` are those of its batches and their queue.
    """

    graph: Path
    labels: Path | None = None
    name: str | None = None
    version: str = "1"
    input_layer: str | None = None
    output_layer: str | None = None
    mean: float = 0.0
    std: float = 255.0
    height: int | None = None
    width: int | None = None
    operator_threads: int | None = None
    runs: int | None = None
    limits: Limits = field(factory=Limits)

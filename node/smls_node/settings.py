# SPDX-License-Identifier: MIT
"""What a node is told of a model that it is to serve."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen


@frozen
class ModelSettings:
    """One model of the command line: a frozen graph, its labels and how to feed it.

    What is ``None`` is looked for in the graph, or has a default that depends on the others.
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

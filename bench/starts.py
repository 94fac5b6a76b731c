# SPDX-License-Identifier: MIT
"""``python -m bench.starts``: seconds from the start of an accelerated node to its first answer.

Taking turns for each network: with the compiled network kept beside the graph, and where there is
none yet, so that the graph is read and compiled, and the network kept. The proof is made before, as
``bench.run`` does, where there is none. Memory is that of the node after its first answer.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from bench import models, readiness, servers
from bench.models import Model


def main() -> int:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.starts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="starts of each kind; 7")
    parser.add_argument("--models", default=",".join(models.NAMES), help="of these, by commas")
    options = parser.parse_args()
    readiness.prepare_images()
    (server,) = (each for each in servers.nodes() if each.name == "smls accelerated")
    print("| start to first answer, accelerated | s, median | s, all | MB |")
    print("| --- | --- | --- | --- |")
    for name in options.models.split(","):
        model = models.model(name)
        if not Path(f"{model.graph}.proof.json").exists():
            servers.prepare(server, model)
        for title, runs in _starts(server, model, options.rounds).items():
            seconds, memory = zip(*runs, strict=True)
            each = " ".join(f"{value:.2f}" for value in seconds)
            print(
                f"| {model.title}, {title} | {statistics.median(seconds):.2f} | {each} | "
                f"{statistics.median(memory):.0f} |",
                flush=True,
            )
    return 0


def _starts(
    server: servers.Server, model: Model, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds and memory of the starts of each kind, after one that is not counted."""
    kept = Path(f"{model.graph}.openvino")
    taken: dict[str, list[tuple[float, float]]] = {"the graph is read": [], "as it was kept": []}
    _start(server, model)
    for _ in range(rounds):
        for title, values in taken.items():
            if title == "the graph is read":
                kept.unlink(missing_ok=True)
            values.append(_start(server, model))
    return taken


def _start(server: servers.Server, model: Model) -> tuple[float, float]:
    node = servers.Running(server, model, server.variants[0])
    try:
        return node.start_seconds, node.memory_mb()
    finally:
        node.stop()


if __name__ == "__main__":
    sys.exit(main())

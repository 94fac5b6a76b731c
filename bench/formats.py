# SPDX-License-Identifier: MIT
"""``python -m bench.formats``: one network as a frozen graph and as a SavedModel.

The SavedModel is served as it is, where its variables become constants, and with that kept from
it. The nodes take turns on one connection and on 32.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace

from bench import load, models, readiness, servers

CONNECTIONS = (1, 32)

VARIABLES = "from smls_node.runtimes import freezing; freezing.MOST_BYTES = -1"
"""Before a node starts, where variables are to stay."""


def main() -> int:
    """Prints a table in Markdown; 2 where wrk is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.formats", description=__doc__)
    parser.add_argument("--model", default="mobilenet_v2", choices=("mobilenet_v2", "inception_v3"))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    if not readiness.ready():
        return 2
    model = models.model(options.model)
    graph = servers.nodes()[0]
    saved = replace(graph, command=tuple(_saved(part, model) for part in graph.command))
    nodes: dict[str, servers.Running] = {}
    figures: dict[tuple[str, int], list[load.Measured]] = {}
    try:
        for name, server in {
            "graph": graph,
            "SavedModel": saved,
            "SavedModel with variables": servers.started_so(saved, "variables", VARIABLES),
        }.items():
            nodes[name] = servers.Running(server, model, server.variants[0])
        bodies = load.bodies(model, graph.body)
        for node in nodes.values():
            load.drive(node.url, bodies, CONNECTIONS[-1], 2)
        for _ in range(options.rounds):
            for name, node in nodes.items():
                for connections in CONNECTIONS:
                    got = load.drive(node.url, bodies, connections, options.seconds)
                    figures.setdefault((name, connections), []).append(got)
        memory = {name: node.memory_mb() for name, node in nodes.items()}
    finally:
        for node in nodes.values():
            node.stop()
    print(f"\n| {model.title} | p50 ms, alone | images/s at 32 | MB | start s |")
    print("| --- | --- | --- | --- | --- |")
    for name, node in nodes.items():
        alone, busy = (figures[name, connections] for connections in CONNECTIONS)
        print(
            f"| {name} | {statistics.median(each.p50 for each in alone):.1f} "
            f"| {statistics.median(each.per_second for each in busy):.0f} "
            f"| {memory[name]:,.0f} | {node.start_seconds:.1f} |"
        )
    return 0


def _saved(part: str, model: models.Model) -> str:
    """A part of the command of a node, with the SavedModel in place of the graph."""
    return {"--graph": "--model", "{graph}": str(model.saved)}.get(part, part)


if __name__ == "__main__":
    sys.exit(main())

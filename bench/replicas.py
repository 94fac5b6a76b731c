# SPDX-License-Identifier: MIT
"""``python -m bench.replicas``: one process beside several behind their shared port.

All serve the digits, with no knob, and take turns under 64 connections. Each number of replicas
measures its arrangement once, for its share of the cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from dataclasses import replace

from bench import load, models, readiness, servers

CONNECTIONS = 64


def main() -> int:
    """Prints a table in Markdown; 2 where wrk is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.replicas", description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    options = parser.parse_args()
    if not readiness.ready():
        return 2
    model = models.model("digits")
    usual = servers.nodes()[0]
    with ExitStack() as stack:
        nodes: dict[int, servers.Running] = {}
        for count in options.replicas:
            variant = replace(usual.variants[0], options=("--replicas", str(count)))
            server = replace(usual, name=f"smls {count} replicas")
            nodes[count] = servers.Running(server, model, variant)
            stack.callback(nodes[count].stop)
        figures: dict[int, list[load.Measured]] = {count: [] for count in nodes}
        bodies = load.bodies(model, usual.body)
        for _ in range(options.rounds):
            for count, node in nodes.items():
                load.drive(node.url, bodies, CONNECTIONS, 1)
                got = load.drive(node.url, bodies, CONNECTIONS, options.seconds)
                figures[count].append(got)
        memory = {count: node.memory_mb() for count, node in nodes.items()}
    print("| replicas | requests/s | p50 ms | p99 ms | slowest ms | errors | MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for count, each in figures.items():
        rate, middle, tail, worst = (
            statistics.median(getattr(one, figure) for one in each)
            for figure in ("per_second", "p50", "p99", "slowest")
        )
        errors = sum(one.errors for one in each)
        print(
            f"| {count} | {rate:,.0f} | {middle:.1f} | {tail:.1f} | {worst:.1f} | {errors} "
            f"| {memory[count]:,.0f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

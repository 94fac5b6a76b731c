# SPDX-License-Identifier: MIT
"""``python -m bench.uplink``: what an upload over a slow network costs a node's reactor.

One node awaits bodies in large parts, as nodes do, and one is woken by each packet, as it would be
without that. They take turns at photos from a client behind a link of so many megabits a second, in
a network namespace of its own (``town``).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path

from bench import load, models, readiness, servers
from bench.town import NoTown, Town

WAYS = {
    "in large parts": "",
    "by packets": "from smls import channel; channel.FEW_BYTES = 1 << 62",
}
"""What a node's process does before it starts, by how it awaits bodies."""


def main() -> int:
    """Prints a table in Markdown; 2 where wrk or namespaces are missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.uplink", description=__doc__)
    parser.add_argument("--model", default="mobilenet_v2", choices=models.NAMES)
    parser.add_argument("--megabits", type=int, default=200)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    if not readiness.ready():
        return 2
    try:
        with Town() as town:
            town.host("client", options.megabits, sends_packets=True)
            figures = _figures(town, options)
    except NoTown as problem:
        print(problem, file=sys.stderr)
        return 2
    print(f"| bodies, {options.megabits} Mbit/s | requests/s | p50 ms | reactor, ms a request |")
    print("| --- | --- | --- | --- |")
    for name, each in figures.items():
        rate, middle, reactor = (statistics.median(column) for column in zip(*each, strict=True))
        print(f"| {name} | {rate:.0f} | {middle:.1f} | {reactor:.2f} |")
    return 0


def _figures(
    town: Town, options: argparse.Namespace
) -> dict[str, list[tuple[float, float, float]]]:
    """Requests a second, the median in ms, and ms of the reactor's thread, round by round."""
    model = models.model(options.model)
    here = town.here()
    usual = servers.nodes()[0]
    usual = replace(usual, command=(*usual.command, "--host", here))
    bodies = load.bodies(model, usual.body)
    nodes: dict[str, servers.Running] = {}
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in WAYS}
    try:
        for name, before in WAYS.items():
            server = servers.started_so(usual, name, before)
            nodes[name] = servers.Running(server, model, server.variants[0])
        for number in range(options.rounds):
            for name in list(nodes)[:: 1 if number % 2 else -1]:
                node = nodes[name]
                begun = _reactor_seconds(node.process.pid)
                got = load.drive(
                    node.url, bodies, options.connections, options.seconds, town.within("client")
                )
                reactor = _reactor_seconds(node.process.pid) - begun
                figures[name].append((got.per_second, got.p50, reactor / got.requests * 1000))
    finally:
        for node in nodes.values():
            node.stop()
    return figures


def _reactor_seconds(pid: int) -> float:
    """What the main thread has run until now; a thread's number is its process' there."""
    told = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    return int(told[0]) / 1e9


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""``python -m bench.variants garbage`` and ``… reactors``: one node, started in several ways.

``garbage`` keeps a node from freezing what loading left; ``reactors`` runs it on Twisted's other
reactors, on uvloop where that is installed. All serve the digits and take turns under 64
connections.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from importlib.util import find_spec

from bench import load, models, readiness, servers

CONNECTIONS = 64

_ASYNCIO = "from twisted.internet import asyncioreactor; asyncioreactor.install(%s)"
WAYS = {
    "garbage": {
        "frozen": "",
        "not frozen": "import gc; gc.freeze = lambda: None",
    },
    "reactors": {
        "epoll": "",
        "asyncio": _ASYNCIO % "",
        "asyncio on uvloop": "import uvloop; " + _ASYNCIO % "uvloop.new_event_loop()",
    },
}
"""What a node's process does before it starts, for each question and way."""


def main() -> int:
    """Prints a table in Markdown; 2 where wrk is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.variants", description=__doc__)
    parser.add_argument("question", choices=tuple(WAYS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    options = parser.parse_args()
    if not readiness.ready():
        return 2
    model = models.model("digits")
    usual = servers.nodes()[0]
    figures: dict[str, list[load.Measured]] = {}
    nodes: dict[str, servers.Running] = {}
    try:
        for name, before in WAYS[options.question].items():
            if "uvloop" in before and find_spec("uvloop") is None:
                print("uvloop is not installed; left out", file=sys.stderr)
                continue
            server = servers.started_so(usual, name, before)
            nodes[name] = servers.Running(server, model, server.variants[0])
            figures[name] = []
        bodies = load.bodies(model, usual.body)
        for _ in range(options.rounds):
            for name, node in nodes.items():
                load.drive(node.url, bodies, CONNECTIONS, 1)
                got = load.drive(node.url, bodies, CONNECTIONS, options.seconds)
                figures[name].append(got)
    finally:
        for node in nodes.values():
            node.stop()
    print(f"| {options.question} | requests/s | p50 ms | p99 ms | slowest ms |")
    print("| --- | --- | --- | --- | --- |")
    for name, each in figures.items():
        rate, middle, tail, worst = (
            statistics.median(getattr(one, figure) for one in each)
            for figure in ("per_second", "p50", "p99", "slowest")
        )
        print(f"| {name} | {rate:,.0f} | {middle:.1f} | {tail:.1f} | {worst:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

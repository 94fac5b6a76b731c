# SPDX-License-Identifier: MIT
"""``python -m bench.garbage``: what freezing the garbage after loading does to the tail.

Two nodes serve the digits, one as it is and one that is kept from freezing what loading left;
they take turns under 64 connections.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace

from bench import load, models, run, servers

WITHOUT = (
    sys.executable,
    "-c",
    "import gc; gc.freeze = lambda: None; from smls_node.tap import main; main()",
)


def main() -> int:
    """Prints a table in Markdown; 2 where wrk is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.garbage", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    options = parser.parse_args()
    if not run.ready():
        return 2
    model = models.model("digits")
    usual = servers.nodes()[0]
    kept = _not_frozen(usual)
    nodes = {
        "frozen": servers.Running(usual, model, usual.variants[0]),
        "not frozen": servers.Running(kept, model, kept.variants[0]),
    }
    figures: dict[str, list[load.Measured]] = {name: [] for name in nodes}
    try:
        bodies = load.bodies(model, usual.body)
        for _ in range(options.rounds):
            for name, node in nodes.items():
                figures[name].append(load.drive(node.url, bodies, 64, options.seconds))
    finally:
        for node in nodes.values():
            node.stop()
    print(
        "| garbage | requests/s | p50 ms | p99 ms | slowest ms |\n| --- | --- | --- | --- | --- |"
    )
    for name, each in figures.items():
        rate, middle, tail, worst = (
            statistics.median(getattr(one, figure) for one in each)
            for figure in ("per_second", "p50", "p99", "slowest")
        )
        print(f"| {name} | {rate:.0f} | {middle:.1f} | {tail:.1f} | {worst:.1f} |")
    return 0


def _not_frozen(server: servers.Server) -> servers.Server:
    """The same server, started by a program that freezes nothing."""
    return replace(server, command=(*WITHOUT, *server.command[1:]), name="smls not frozen")


if __name__ == "__main__":
    sys.exit(main())

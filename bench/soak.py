# SPDX-License-Identifier: MIT
"""``python -m bench.soak``: whether a node's memory stays flat over 200,000 requests of digits."""

from __future__ import annotations

import argparse
import sys

from bench import load, models, readiness, servers

CONNECTIONS = 64
PIECE_SECONDS = 5


def main() -> int:
    """Prints the memory as the requests add up; 2 where wrk is missing, 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000, help="200000")
    parser.add_argument("--server", default="smls", help="name of the variant; smls")
    options = parser.parse_args()
    if not readiness.ready():
        return 2
    model = models.model("digits")
    server = next(each for each in servers.nodes() if each.name == options.server)
    node = servers.Running(server, model, server.variants[0])
    try:
        requests = load.bodies(model, server.body)
        answered = errors = 0
        print("| requests | MB | requests/s | p99 ms |\n| --- | --- | --- | --- |")
        print(f"| 0 | {node.memory_mb():.1f} | | |", flush=True)
        while answered < options.requests:
            piece = load.drive(node.url, requests, CONNECTIONS, PIECE_SECONDS)
            answered += piece.requests
            errors += piece.errors
            print(
                f"| {answered:,} | {node.memory_mb():.1f} | {piece.per_second:,.0f} | "
                f"{piece.p99:.1f} |",
                flush=True,
            )
        print(f"\n{errors} errors")
    finally:
        node.stop()
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())

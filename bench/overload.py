# SPDX-License-Identifier: MIT
"""``python -m bench.overload``: three times the load that a node can carry.

First the peak with 32 connections; then, for ``--seconds``, three times as many requests as that,
each with a deadline. Goodput counts the answers of 200, and their times are the node's own
(``Server-Timing``), from the request's headers on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass

from bench import load, models, readiness, servers
from bench.places import BENCH

OVER = 3
DEADLINE_MS = 1000
PAUSE_MS = 1000


@dataclass(frozen=True)
class Overloaded:
    """Answers a second by kind, and the times of the good ones in milliseconds."""

    good: float
    refused: float
    late: float
    other: float
    p50: float
    p99: float


def main() -> int:
    """Prints a table in Markdown; 2 where wrk is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--model", default="mobilenet_v2", choices=models.NAMES)
    parser.add_argument("--seconds", type=int, default=60)
    told = "milliseconds that a connection rests between requests: with fewer, fewer offer as much"
    parser.add_argument("--pause", type=int, default=PAUSE_MS, help=f"{told}; {PAUSE_MS}")
    options = parser.parse_args()
    if not readiness.ready():
        return 2
    model = models.model(options.model)
    server = servers.nodes()[0]
    node = servers.Running(server, model, server.variants[0])
    try:
        bodies = load.bodies(model, server.body)
        load.drive(node.url, bodies, 32, 3)
        before = load.drive(node.url, bodies, 32, 8).per_second
        memory = node.memory_mb()
        got = offer(node.url, bodies, before * OVER, options.seconds, options.pause)
        grown = node.memory_mb() - memory
        # All those connections are closed first.
        node.settle()
        after = load.drive(node.url, bodies, 32, 8).per_second
    finally:
        node.stop()
    peak = max(before, after)
    print(f"\n| {model.title}, {OVER} times the peak for {options.seconds} s | |\n| --- | --- |")
    print(f"| connections | {round(before * OVER * options.pause / 1000):,} |")
    print(f"| peak, before and after, answers/s | {before:.1f}, {after:.1f} |")
    print(f"| answers within the deadline of {DEADLINE_MS} ms, a second | {got.good:.1f} |")
    print(f"| of the peak (target: 0.90) | {got.good / peak:.2f} |")
    print(f"| refused with 503, a second | {got.refused:.1f} |")
    print(f"| expired with 504, other errors, a second | {got.late:.1f}, {got.other:.1f} |")
    print(f"| p50 and p99 of what was admitted, ms | {got.p50:.0f}, {got.p99:.0f} |")
    print(f"| memory grew by, MB | {grown:.0f} |")
    return 0


def offer(
    url: str, bodies: load.Bodies, rate: float, seconds: int, pause: int = PAUSE_MS
) -> Overloaded:
    """Offers ``rate`` requests a second, each with a deadline of ``DEADLINE_MS``, by connections
    that rest for ``pause`` milliseconds between them."""
    # Each offers about one in that time, as long as the answers come soon.
    connections = max(1, round(rate * pause / 1000))
    done = subprocess.run(
        [
            *(load.find_wrk(), "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{seconds}s", "--timeout", "30s"),
            *("--script", str(BENCH / "overload.lua"), url, "--"),
            *(bodies.content_type, str(pause), str(DEADLINE_MS), *map(str, bodies.files)),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 120,
        check=True,
    )
    (line,) = (each for each in done.stdout.splitlines() if each.startswith("RESULT "))
    told = json.loads(line.removeprefix("RESULT "))
    times = sorted(float(each) for each in told["times"].split()) or [0.0]
    took = told["seconds"]
    return Overloaded(
        good=sum(each <= DEADLINE_MS for each in times) / took,
        refused=told["refused"] / took,
        late=told["late"] / took,
        other=told["other"] / took,
        p50=times[len(times) // 2],
        p99=times[int(len(times) * 0.99)],
    )


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""What metrics cost a request: ``python -m bench.counting``.

The node's throughput swings by more than this costs, so the work that was added is timed by
itself: a request's outcome, its answer's status and time, and its share of a batch of ``ROWS``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from smls_node.counts import OK, Counts, Traffic

ROWS = 4
"""Rows a batch at 64 connections, as ``smls_batch_rows`` tells it for the digits."""

REPEATS = 100_000

ROUNDS = 9


def main() -> None:
    """Prints the microseconds a request, the best of several rounds."""
    counts, traffic = Counts(), Traffic()
    times = [(0.012, 0.009)] * ROWS

    def request() -> None:
        counts.outcomes[OK] += 1
        traffic.answered(200, 0.012)

    def batch() -> None:
        counts.batch(ROWS, 0.0008, 0.0011, times)

    each = _microseconds(request) + _microseconds(batch) / ROWS
    print(f"{each:.2f} microseconds a request, {each / 330:.2%} of the 330 that one takes in all")


def _microseconds(call: Callable[[], None]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(REPEATS):
            call()
        best = min(best, time.perf_counter() - begun)
    return best / REPEATS * 1e6


if __name__ == "__main__":
    main()

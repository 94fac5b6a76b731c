# SPDX-License-Identifier: MIT
"""``python -m bench.pick``: what one pick costs, with its sending and its answer, by policy."""

from __future__ import annotations

import argparse
import sys
import time
from random import Random
from statistics import median

from smls.balancer import Outcome, Want
from smls.routing import POLICIES, Router
from smls.wire import LoadReport, ModelRecord, NodeRecord

WANT = Want("flowers")


def main() -> int:
    """Prints microseconds a pick, the median of several rounds."""
    parser = argparse.ArgumentParser(prog="python -m bench.pick", description=__doc__)
    parser.add_argument("--picks", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| policy | nodes | µs, the policy's pick | µs, all of the routing |")
    print("| --- | --- | --- | --- |")
    for name in POLICIES:
        for count in (4, 32, 1000):
            rounds = [measure(name, count, options.picks) for _ in range(options.rounds)]
            alone, whole = (median(each) for each in zip(*rounds, strict=True))
            print(f"| {name} | {count} | {alone:.1f} | {whole:.1f} |", flush=True)
    return 0


def measure(name: str, count: int, picks: int) -> tuple[float, float]:
    """Microseconds of ``pick`` alone, and of start and end of an attempt, reports included."""
    random = Random(1)
    nodes = tuple(
        NodeRecord(
            id=f"node-{n}", address=f"node-{n}:1", models=(ModelRecord("flowers", capacity=100.0),)
        )
        for n in range(count)
    )
    balancer = POLICIES[name]()
    router = Router(balancer, random=random)
    now, open_ = 0.0, []
    whole = alone = 0.0
    for turn in range(picks + 2 * count):
        now += 0.001
        report = LoadReport(30, random.randrange(20), random.random() * 90, 30.0, 2.0, 32, 1)
        begun = time.perf_counter()
        attempt = router.start(nodes, WANT, (), now)
        assert attempt is not None
        open_.append(attempt)
        if len(open_) > 50:
            router.end(open_.pop(0), Outcome.ANSWERED, now, report)
        ended = time.perf_counter()
        near = router._look(nodes, WANT).near
        again = time.perf_counter()
        balancer.pick(near, WANT, now)
        if turn >= 2 * count:
            whole += ended - begun
            alone += time.perf_counter() - again
    return alone / picks * 1e6, whole / picks * 1e6


if __name__ == "__main__":
    sys.exit(main())

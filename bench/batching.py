# SPDX-License-Identifier: MIT
"""``python -m bench.batching``: the node that is told nothing, beside the best static setting.

Each static setting says how many operator threads and runs, how large a batch is where as many
requests wait, and how long a batch that is not full is held back. A short trial of each under the
highest concurrency finds the best one; that one and the node without a knob then take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass

from bench import load, models, processes, readiness, servers

TRIAL_SECONDS = 3

SIZES = (1, 4, 16, 64)
DELAYS = (0.0, 0.005)


@dataclass(frozen=True)
class Setting:
    """What an operator could have set by hand."""

    threads: int
    runs: int
    size: int
    delay: float

    @property
    def name(self) -> str:
        """The setting in a few words."""
        held = f", held back {self.delay * 1000:g} ms" if self.delay else ""
        return f"{self.runs} runs of {self.threads} threads, batches of {self.size}{held}"

    @property
    def before(self) -> str:
        """What the node's process does before it starts: batches have that size, and no other that
        was learnt to be worth it, as far as requests wait."""
        from_batcher = "from smls_node.batcher import Batcher"
        return f"{from_batcher}; Batcher.largest = lambda self: {self.size}"

    @property
    def options(self) -> tuple[str, ...]:
        """The node's options for it."""
        told = ("--operator-threads", self.threads, "--runs", self.runs)
        batches = ("--max-batch-size", self.size)
        held = ("--max-queue-delay", self.delay) if self.delay else ()
        return tuple(map(str, (*told, *batches, *held)))


def settings(cores: int) -> list[Setting]:
    """All that are tried; to hold back a batch of one would only cost time."""
    return [
        Setting(threads, runs, size, delay)
        for threads, runs in dict.fromkeys([(1, cores), (cores, 1)])
        for size in SIZES
        for delay in DELAYS
        if size > 1 or not delay
    ]


def main() -> int:
    """Prints a table in Markdown; 2 where wrk is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.batching", description=__doc__)
    parser.add_argument("--models", default=",".join(models.NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    if not readiness.ready():
        return 2
    rows = [_compared(models.model(name), options) for name in options.models.split(",")]
    print("\n| network | best static setting | it | no knob | no knob / it |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print(row)
    return 0


def _compared(model: models.Model, options: argparse.Namespace) -> str:
    usual = servers.nodes()[0]
    bodies = load.bodies(model, usual.body)
    trials: dict[Setting, float] = {}
    for setting in settings(processes.cores()):
        node = _started(usual, model, setting)
        try:
            load.drive(node.url, bodies, model.busiest, 1)
            got = load.drive(node.url, bodies, model.busiest, TRIAL_SECONDS)
        finally:
            node.stop()
        trials[setting] = got.per_second
        print(f"{model.title}: {setting.name}: {got.per_second:.0f}/s", flush=True)
    best = max(trials, key=lambda setting: trials[setting])
    nodes = [_started(usual, model, best), servers.Running(usual, model, usual.variants[0])]
    figures: list[list[float]] = [[], []]
    try:
        for number in range(options.rounds):
            for index in (0, 1) if number % 2 else (1, 0):
                load.drive(nodes[index].url, bodies, model.busiest, 1)
                got = load.drive(nodes[index].url, bodies, model.busiest, options.seconds)
                figures[index].append(got.per_second)
    finally:
        for node in nodes:
            node.stop()
    told, free = (statistics.median(each) for each in figures)
    ratio = statistics.median(b / a for a, b in zip(*figures, strict=True))
    return f"| {model.title} | {best.name} | {told:.0f} | {free:.0f} | {ratio:.2f} |"


def _started(usual: servers.Server, model: models.Model, setting: Setting) -> servers.Running:
    static = servers.started_so(usual, "static", setting.before, setting.options)
    return servers.Running(static, model, static.variants[0])


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""``python -m bench.first_look``: what one feels first of a node and of the client.

The seconds from start to ready; p50 and p99 of a classify with 1 and 32 connections, beside
``run_graph`` (decode, session run, five best) called in process; and the wall time of
``smls-client classify`` on one image beside ``curl``'s.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench import limit, load, models, readiness, servers
from bench.models import Model

STARTS = 3
WARM_SECONDS = 1
CONNECTIONS = (1, 32)


def main() -> int:
    """Prints three tables in Markdown; 2 where wrk is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.first_look", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of load; 3")
    parser.add_argument("--seconds", type=float, default=5, help="of each load; 5")
    parser.add_argument("--commands", type=int, default=12, help="times each command runs; 12")
    options = parser.parse_args()
    if not readiness.ready():
        return 2
    starts, latencies, commands = [], [], []
    for name in ("digits", "mobilenet_v2"):
        model = models.model(name)
        seconds, node = _start(model)
        try:
            starts.append(f"| {model.title} | {seconds} |")
            latencies += _latencies(model, node, options.rounds, options.seconds)
            commands += _commands(model, node, options.commands)
        finally:
            node.stop()
    print("| smls-node | start to first answer, s: first, then median of the next |")
    print("\n".join(["| --- | --- |", *starts, ""]))
    print("| | requests/s | p50 ms | p99 ms |")
    print("\n".join(["| --- | --- | --- | --- |", *latencies, ""]))
    print(f"| one image, {options.commands} times each in turn | median ms | all ms |")
    print("\n".join(["| --- | --- | --- |", *commands]))
    return 0


def _start(model: Model) -> tuple[str, servers.Running]:
    """The node, and its starts in words."""
    server = servers.nodes()[0]
    taken = []
    for number in range(STARTS):
        node = servers.Running(server, model, server.variants[0])
        taken.append(node.start_seconds)
        if number < STARTS - 1:
            node.stop()
    return f"{taken[0]:.2f}, {statistics.median(taken[1:]):.2f}", node


def _latencies(model: Model, node: servers.Running, rounds: int, seconds: float) -> list[str]:
    """Rows for the node and for ``run_graph`` in process, taking turns."""
    requests = load.bodies(model, node.server.body)
    in_process = limit.Limit(model, 0)
    runs: dict[int, list[load.Measured]] = {connections: [] for connections in CONNECTIONS}
    called: list[dict[str, float]] = []
    try:
        servers.check(node, in_process.answers())
        load.drive(node.url, requests, max(CONNECTIONS), WARM_SECONDS)
        in_process.run("both", WARM_SECONDS)
        for _ in range(rounds):
            called.append(in_process.run("both", seconds))
            for connections in CONNECTIONS:
                runs[connections].append(load.drive(node.url, requests, connections, seconds))
    finally:
        in_process.stop()
    rows = [
        _row(
            f"{model.title}, run_graph in process, 1 caller",
            [each["per_second"] for each in called],
            [each["p50"] for each in called],
            [each["p99"] for each in called],
        )
    ]
    for connections, each in runs.items():
        rows.append(
            _row(
                f"{model.title}, node, {connections} connection{'s' if connections > 1 else ''}",
                [one.per_second for one in each],
                [one.p50 for one in each],
                [one.p99 for one in each],
            )
        )
    return rows


def _row(what: str, rates: list[float], p50: list[float], p99: list[float]) -> str:
    rate, middle, tail = (statistics.median(values) for values in (rates, p50, p99))
    return f"| {what} | {rate:,.0f} | {middle:.2f} | {tail:.2f} |"


def _commands(model: Model, node: servers.Running, times: int) -> list[str]:
    """Rows for the wall time of the client's command and of curl, taking turns."""
    image = str(model.image_files()[0])
    address = node.url.removesuffix(node.server.path)
    client = str(Path(sys.executable).parent / "smls-client")
    asked: dict[str, list[str]] = {
        "smls-client": [client, "classify", "--node", address, image],
        "curl": ["curl", "--silent", "--form", f"data=@{image}", node.url],
    }
    taken: dict[str, list[float]] = {}
    for name, command in asked.items():
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"note: {name} ended with {done.returncode}: {done.stderr.strip()[-200:]}")
            continue
        taken[name] = []
    for _ in range(times):
        for name, values in taken.items():
            start = time.perf_counter()
            subprocess.run(asked[name], capture_output=True, check=True)
            values.append((time.perf_counter() - start) * 1e3)
    return [
        f"| {name}, {model.title} | {statistics.median(values):.0f} | "
        f"{' '.join(f'{value:.0f}' for value in values)} |"
        for name, values in taken.items()
    ]


if __name__ == "__main__":
    sys.exit(main())

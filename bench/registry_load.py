# SPDX-License-Identifier: MIT
"""``python -m bench.registry_load``: one registry under a thousand nodes and a thousand watchers.

Each node renews its lease on a kept connection and holds it by a second one; each watcher watches
all nodes. Measured are the time until a change has reached every watcher, the time from a node's
announcement until the first watcher knows of it, and what the registry's process takes meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.processes import cpu_seconds
from smls.program import raise_file_limit

COMMAND = (
    *(sys.executable, "-c", "from smls_registry.tap import main; main()"),
    *("--host", "127.0.0.1", "--port", "0", "--no-mdns"),
)

RENEW_SECONDS = 10 / 3
"""A third of the TTL; nodes vary it by a tenth."""

AT_ONCE = 50
"""Connections that are opened together: a fleet does not start in one millisecond."""

PAUSE_SECONDS = 0.2
"""Between two changes, so that each is measured by itself."""


class Connection(asyncio.Protocol):
    """A raw connection: what arrives is handed to ``heard`` as it is."""

    def __init__(self, heard: Callable[[bytes], None]) -> None:
        self.data_received = heard  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.write = transport.write


class Node:
    """Announces itself, holds its lease, and renews."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet = fleet
        self._path = f"/v1/nodes/node-{number:05}"
        self.address = f"192.0.2.{number % 250}:{10000 + number}"
        self._put: Connection
        self.answered = asyncio.Event()

    async def start(self) -> None:
        self._put = await self._fleet.connect(self._heard)
        self.announce("-")
        await self.answered.wait()
        held = await self._fleet.connect(lambda data: None)
        held.write(_request("GET", f"{self._path}/lease"))
        self._fleet.loop.call_later(random.uniform(0, RENEW_SECONDS), self._renew)

    def announce(self, zone: str) -> None:
        """Says that it is in ``zone``, now and whenever it renews."""
        model = {"name": "flowers", "version": "3", "labels_hash": "0" * 64}
        record = {"address": self.address, "zone": zone, "models": [model]}
        self._say = _request("PUT", self._path, json.dumps(record).encode())
        self._put.write(self._say)

    def _renew(self) -> None:
        self._put.write(self._say)
        self._fleet.renewals += 1
        self._fleet.loop.call_later(RENEW_SECONDS * random.uniform(0.9, 1.1), self._renew)

    def _heard(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 20"):
            raise SystemExit(f"a node was refused: {data!r}")
        self.answered.set()


class Fleet:
    """Nodes and watchers of the registry on ``port``."""

    def __init__(self, port: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.renewals = 0
        self.watching = 0
        self._port = port
        self._mark = b"-"
        self._marked: list[float] = []
        self._all: asyncio.Event = asyncio.Event()

    async def connect(self, heard: Callable[[bytes], None]) -> Connection:
        _, protocol = await self.loop.create_connection(
            lambda: Connection(heard), "127.0.0.1", self._port
        )
        return protocol

    async def watch(self) -> None:
        """Adds a watcher; what it hears is looked through for the mark alone."""
        ready = asyncio.Event()

        def heard(data: bytes) -> None:
            if self._mark in data:
                self._marked.append(time.perf_counter())
                if len(self._marked) == self.watching:
                    self._all.set()
            ready.set()

        connection = await self.connect(heard)
        connection.write(_request("GET", "/v1/watch"))
        await ready.wait()
        self.watching += 1

    async def spread(self, tell: Callable[[str], None], mark: str) -> list[float]:
        """Milliseconds until each watcher has heard of ``mark``, which ``tell`` puts out."""
        self._mark, self._marked = mark.encode(), []
        self._all.clear()
        start = time.perf_counter()
        tell(mark)
        await asyncio.wait_for(self._all.wait(), 30)
        return [1000 * (heard - start) for heard in self._marked]


async def measure(options: argparse.Namespace, registry: subprocess.Popen[str]) -> None:
    assert registry.stdout is not None
    ready = re.search(r":(\d+)/", registry.stdout.readline())
    if ready is None:
        raise SystemExit("the registry did not start")
    fleet = Fleet(int(ready[1]))
    nodes = [Node(fleet, number) for number in range(options.nodes)]
    await _some_at_once([node.start for node in nodes])
    await _some_at_once([fleet.watch] * options.watchers)
    await asyncio.sleep(5)

    before, renewed, start = cpu_seconds(registry.pid), fleet.renewals, time.perf_counter()
    await asyncio.sleep(options.seconds)
    wall = time.perf_counter() - start
    steady = 100 * (cpu_seconds(registry.pid) - before) / wall
    print(f"{(fleet.renewals - renewed) / wall:.0f} renewals a second\n")

    changes = []
    for number in range(options.changes):
        tell = random.choice(nodes).announce
        changes.append(await fleet.spread(tell, f"zone-{number:05}"))
        await asyncio.sleep(PAUSE_SECONDS)
    arrivals = []
    for number in range(options.nodes, options.nodes + options.changes):
        node = Node(fleet, number)
        start = time.perf_counter()
        heard = await fleet.spread(
            lambda mark, node=node: asyncio.ensure_future(node.start()),  # type: ignore[misc]
            node.address,
        )
        arrivals.append(min(heard))
        await asyncio.sleep(PAUSE_SECONDS)
    _print(
        {
            "a change until it reached a watcher, ms": [ms for each in changes for ms in each],
            "a change until it reached all watchers, ms": [max(each) for each in changes],
            "a new node's announcement until the first watcher knew, ms": arrivals,
        }
    )
    print(f"| CPU while nothing changes, % of a core | {steady:.1f} | |")
    print(f"| RSS, MB | {_rss_mb(registry.pid):.0f} | |")


async def _some_at_once(starts: list[Callable[[], asyncio.Future[None]]]) -> None:
    for first in range(0, len(starts), AT_ONCE):
        await asyncio.gather(*(start() for start in starts[first : first + AT_ONCE]))


def _request(method: str, target: str, body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:12480\r\n{length}"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def _print(rows: dict[str, list[float]]) -> None:
    print("| | p50 | p99 |\n| --- | --- | --- |")
    for name, figures in rows.items():
        cuts = statistics.quantiles(figures, n=100, method="inclusive")
        print(f"| {name} | {cuts[49]:.1f} | {cuts[98]:.1f} |")


def main() -> int:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.registry_load", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20, help="of the steady state: 20")
    options = parser.parse_args()
    raise_file_limit()
    registry = subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        asyncio.run(measure(options, registry))
    finally:
        registry.kill()
        registry.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT
"""``python -m bench.news``: how soon clients hear that a node came, or that it is dead.

Real nodes are killed with SIGKILL while 100 clients in another process watch the registry; the
time of a kill runs until the last of them has the node no more. Then, with 1,000 other nodes
registered, nodes announce themselves to a client that waits for one; their time runs until its
request arrives. All moments are of the system's monotonic clock, which the processes share.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any

from smls_node import embedded

REGISTRY = "from smls_registry.tap import main; main()"
NODE = "from smls_node.tap import main; main()"
LOCAL = ("--host", "127.0.0.1", "--port", "0", "--no-mdns")

GROUP = 5
"""Nodes that are started together."""

REST_SECONDS = 0.3
"""Between two pieces of news, so that each is heard by itself."""


def main() -> int:
    """Prints the two tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.news", description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=20, help="nodes that are killed; 20, or 0 to leave it"
    )
    parser.add_argument("--clients", type=int, default=100, help="clients that watch; 100")
    parser.add_argument("--nodes", type=int, default=1000, help="nodes that are registered; 1000")
    parser.add_argument("--announcements", type=int, default=50, help="50, or 0")
    parser.add_argument("--role", choices=["watch", "wait", "announce"], help=argparse.SUPPRESS)
    parser.add_argument("--registry", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role is not None:
        _roles()[options.role](options)
        return 0
    print("| | p50 ms | p99 ms | most ms | wanted |\n| --- | --- | --- | --- | --- |")
    if options.kills:
        _row(
            f"kill -9 of a node until {options.clients} clients have it no more, "
            f"{options.kills} kills",
            _kills(options),
            "p99 ≤ 100",
        )
    if options.announcements:
        _row(
            f"announced until the first request arrives, {options.nodes:,} nodes registered, "
            f"{options.announcements} times",
            _announcements(options),
            "≤ 50",
        )
    return 0


def _row(what: str, seconds: Sequence[float], wanted: str) -> None:
    ordered = sorted(each * 1000 for each in seconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    figures = f"{statistics.median(ordered):.1f} | {p99:.1f} | {ordered[-1]:.1f}"
    print(f"| {what} | {figures} | {wanted} |", flush=True)


def _kills(options: argparse.Namespace) -> list[float]:
    times: list[float] = []
    with (
        TemporaryDirectory() as folder,
        _program(REGISTRY, *LOCAL) as registry,
        _role("watch", registry.url, "--clients", str(options.clients)) as watching,
    ):
        model = _model(Path(folder))
        while len(times) < options.kills:
            with ExitStack() as stack:
                count = min(GROUP, options.kills - len(times))
                nodes = [
                    stack.enter_context(
                        _program(
                            NODE, *LOCAL, *model, "--registry", registry.url, "--node-name", f"n{i}"
                        )
                    )
                    for i in range(count)
                ]
                for node in nodes:
                    node.url  # noqa: B018  it is ready then
                while len(_listed(registry.url)) < count:
                    time.sleep(0.1)
                for number, node in enumerate(nodes):
                    time.sleep(REST_SECONDS)
                    killed_at = time.monotonic()
                    os.kill(node.process.pid, signal.SIGKILL)
                    name, heard_at = json.loads(watching.line())
                    assert name == f"n{number}"
                    times.append(heard_at - killed_at)
    return times


def _model(folder: Path) -> tuple[str, ...]:
    """Options of a node for a copy of the digits, accelerated where OpenVINO is there.

    Such a node starts in a quarter of the time that TensorFlow takes.
    """
    graph, labels = (shutil.copy(file, folder) for file in (embedded.GRAPH, embedded.LABELS))
    findings = ("--findings", str(folder))
    command = [sys.executable, "-c", NODE, "accelerate", str(graph), *findings]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return ("--graph", str(graph), "--labels", str(labels), "--accelerate", "openvino", *findings)


def _announcements(options: argparse.Namespace) -> list[float]:
    with _program(REGISTRY, *LOCAL, "--ttl", "3600") as registry:
        for number in range(options.nodes):
            record = {
                "address": f"192.0.{2 + number // 250}.{number % 250 + 1}:12480",
                "models": [{"name": "other", "labels_hash": "0123456789abcdef"}],
            }
            url = f"{registry.url}v1/nodes/n{number}"
            body = json.dumps(record).encode()
            urllib.request.urlopen(urllib.request.Request(url, body, method="PUT")).read()
        count = ("--announcements", str(options.announcements))
        with _role("wait", registry.url) as waiting:
            waiting.line()
            with _role("announce", registry.url, *count) as announcing:
                return [float(announcing.line()) for _ in range(options.announcements)]


# Roles: each runs in a process of its own --------------------------------------------------


def _watch(options: argparse.Namespace) -> None:
    """Prints each node's name, and when the last of the clients lost it."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    from smls.directory import RegistryDirectory
    from smls.transport import Transport

    left: dict[str, int] = {}

    class Noting(RegistryDirectory):
        """Looks at its list as a call would, whenever it has changed."""

        known: frozenset[str] = frozenset()

        def _changed(self) -> None:
            super()._changed()
            now = time.monotonic()
            names = frozenset(node.name for node in self._known(None, None, None))
            for name in self.known - names:
                left[name] = left.get(name, 0) + 1
                if left[name] == options.clients:
                    del left[name]
                    print(json.dumps([name, now]), flush=True)
            self.known = names

    for _ in range(options.clients):
        watching = Noting(Transport(reactor), reactor, [options.registry])
        Deferred.fromCoroutine(watching.listing(None))
    reactor.run()  # type: ignore[attr-defined]


def _wait(options: argparse.Namespace) -> None:
    """Classifies once on each node for ``flowers``, as soon as there is one."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    import smls

    async def call() -> None:
        client: Any = smls.Client(options.registry, reactor=reactor, cache=False)
        await client.nodes()
        print("watching", flush=True)
        directory, seen = client._directory, set()
        while True:
            for node in await directory.listing("flowers"):
                if node.id not in seen:
                    seen.add(node.id)
                    await client.classify(b"image", "flowers")
            news: Deferred[None] = Deferred()
            directory._waiting.append(news)
            await news

    Deferred.fromCoroutine(call()).addErrback(lambda failure: failure.printTraceback())
    reactor.run()  # type: ignore[attr-defined]


def _announce(options: argparse.Namespace) -> None:
    """Prints the seconds from each announcement until the first request."""
    from random import Random

    from treq.client import HTTPClient
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import deferLater
    from twisted.web.client import Agent
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    from smls.address import Advertise
    from smls.lease import Announcer
    from smls.wire import ModelRecord, NodeRecord

    arrived: list[Deferred[float]] = []
    answer = {"model": "flowers", "version": "1", "node": "n", "predictions": []}

    class Node(Resource):
        isLeaf = True

        def render(self, request: Any) -> bytes:
            arrived[0].callback(time.monotonic())
            return json.dumps(answer).encode()

    async def announce(number: int) -> None:
        port = reactor.listenTCP(0, Site(Node()), interface="127.0.0.1")  # type: ignore[attr-defined]
        arrived[:] = [Deferred()]
        announcer = Announcer(
            reactor,
            HTTPClient(Agent(reactor)),
            [options.registry],
            lambda address: NodeRecord(f"new{number}", address, models=(ModelRecord("flowers"),)),
            Advertise(port.getHost().port, "127.0.0.1"),
            Random(number),
        )
        begun = time.monotonic()
        announcer.start()
        print(await arrived[0] - begun, flush=True)
        await announcer.withdraw()
        await port.stopListening()
        await deferLater(reactor, REST_SECONDS)  # type: ignore[arg-type]

    async def announce_all() -> None:
        for number in range(options.announcements):
            await announce(number)

    Deferred.fromCoroutine(announce_all()).addErrback(lambda failure: failure.printTraceback())
    reactor.run()  # type: ignore[attr-defined]


def _roles() -> dict[str, Any]:
    return {"watch": _watch, "wait": _wait, "announce": _announce}


# Processes ---------------------------------------------------------------------------------


class _Running:
    """A program whose lines are read as they come."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._lines: Queue[str] = Queue()
        self._url = ""
        threading.Thread(target=self._read, daemon=True).start()

    def line(self) -> str:
        """The next line."""
        return self._lines.get(timeout=120)

    @property
    def url(self) -> str:
        """Where a server is ready."""
        while not self._url:
            _, found, rest = self.line().partition("ready at ")
            self._url = rest.split()[0] if found else ""
        return self._url

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)


@contextmanager
def _running(*command: str) -> Iterator[_Running]:
    program = _Running([sys.executable, *command])
    try:
        yield program
    finally:
        program.process.kill()
        program.process.wait()


def _program(code: str, *options: str) -> Any:
    return _running("-c", code, *options)


def _role(name: str, registry: str, *options: str) -> Any:
    return _running("-m", "bench.news", "--role", name, "--registry", registry, *options)


def _listed(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}v1/nodes") as answer:
        nodes: list[dict[str, Any]] = json.load(answer)["nodes"]
    return nodes


if __name__ == "__main__":
    sys.exit(main())

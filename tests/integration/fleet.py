# SPDX-License-Identifier: MIT
"""What the integration tests ask of real registries and nodes."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen
from PIL import Image

import smls
from smls.balancer import Attempt, Outcome
from smls.ect import ExpectedCompletion
from smls.wire import LoadReport
from tests.memory import Reply
from tests.node.memory import form
from tests.processes import DEADLINE_SECONDS, LOCAL, ROOT, Running, until

SAMPLES = ROOT / "examples" / "digits"

DIGITS = {
    "eight-large.jpg": "8",
    "five-inverted.png": "5",
    "four-oblong.jpg": "4",
    "seven.jpg": "7",
    "three.jpg": "3",
    "two.gif": "2",
}
"""What each sample shows."""

THREE = SAMPLES / "three.jpg"

UNMEASURED = ("--operator-threads", "1", "--runs", "2")
"""Options of a node that is not to measure its models first."""


@frozen
class Fleet:
    """A registry and the nodes that announce themselves there, all ready and listed."""

    registry: Running
    nodes: tuple[Running, ...]

    @property
    def names(self) -> set[str]:
        return {name_of(node) for node in self.nodes}


class Load:
    """Many calls at once through one client, counted by the node that answered.

    Each caller pauses for so many seconds between its calls.
    """

    def __init__(self, client: smls.BlockingClient, callers: int, pause: float = 0.0) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[Exception] = []
        self._client = client
        self._image = (SAMPLES / "eight-large.jpg").read_bytes()
        self._pause = pause
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def answered(self, count: int, *nodes: str) -> None:
        """Waits until each of the nodes has answered so many calls more."""
        before = Counter(self.answers)
        until(lambda: all(self.answers[node] - before[node] >= count for node in nodes))

    @contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join()

    def _call(self) -> None:
        while not self._stopping.wait(self._pause):
            try:
                found = self._client.classify(self._image)
                assert found.predictions[0].label == "8"
            except Exception as error:
                self.failures.append(error)
            else:
                self.answers[found.node] += 1


class Watched(ExpectedCompletion):
    """The usual policy, which tells what became of each attempt, by its node."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[tuple[str, Outcome]] = []

    @property
    def cancelled(self) -> int:
        """How many attempts lost to a hedge, or were one that lost."""
        return sum(outcome is Outcome.CANCELLED for _, outcome in self.outcomes)

    def done(
        self, attempt: Attempt, outcome: Outcome, report: LoadReport | None, now: float
    ) -> None:
        super().done(attempt, outcome, report, now)
        self.outcomes.append((attempt.node.name, outcome))


def ask(url: str, body: bytes | None = None, method: str = "", **headers: str) -> Reply:
    """The answer to one request on a connection of its own."""
    connection = connect(url)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path = url.removeprefix(f"http://{urlsplit(url).netloc}") or "/"
        connection.request(method or ("GET" if body is None else "POST"), path, body, named)
        return reply(connection.getresponse())
    finally:
        connection.close()


def connect(url: str) -> HTTPConnection:
    """A connection to the server of ``url``."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return HTTPConnection(parts.hostname, parts.port, timeout=DEADLINE_SECONDS)


def reply(response: HTTPResponse) -> Reply:
    """The whole of an answer."""
    return Reply(response.status, dict(response.getheaders()), response.read())


def classify(url: str, *images: bytes, path: str = "classify", **fields: str) -> Reply:
    """The answer to a form with these images at the node, or registry, at ``url``."""
    content_type, body = form(*images, **fields)
    return ask(f"{url}{path}", body, Content_Type=content_type)


def begin_upload(node: Running, path: str = "/classify") -> HTTPConnection:
    """A connection by which all of an upload of ``THREE`` but its last byte was sent."""
    data = THREE.read_bytes()
    connection = connect(node.url)
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", "image/jpeg")
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders(data[:-1])
    return connection


def end_upload(connection: HTTPConnection) -> Reply:
    """Sends the last byte of what ``begin_upload`` began; the answer."""
    connection.send(THREE.read_bytes()[-1:])
    return reply(connection.getresponse())


def listed(registry: Running) -> list[dict[str, Any]]:
    """The live nodes that a registry lists."""
    nodes: list[dict[str, Any]] = ask(f"{registry.url}v1/nodes").json["nodes"]
    return nodes


def names_at(registry: Running) -> set[str]:
    """The names of the live nodes."""
    return {node["name"] for node in listed(registry)}


def name_of(node: Running) -> str:
    """The name that a node's answers carry."""
    return str(ask(node.url).json["node"])


def records(log: str) -> list[dict[str, Any]]:
    """The events of a log with ``--log-format json``."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def best(answer: Any) -> str:
    """The best label of an answer in either form."""
    label = answer["predictions"][0]["label"] if isinstance(answer, dict) else answer[0][0]
    return str(label)


def free_port() -> int:
    """A port that is free now, below those that the system gives to others."""
    while True:
        port = random.randint(10_000, 30_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def at_port(port: int) -> tuple[str, ...]:
    """``LOCAL`` with a port."""
    host, address, *_, mdns = LOCAL
    return host, address, "--port", str(port), mdns


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def noise(width: int, height: int) -> bytes:
    """A JPEG file that is as large as one of its size may be."""
    file = BytesIO()
    Image.effect_noise((width, height), 90).convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()

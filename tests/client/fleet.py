# SPDX-License-Identifier: MIT
"""Fake nodes and registries that speak the wire on real sockets, and misbehave where told to.

A server has one behaviour at a time, a function of the request; tests swap it at will.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import Clock
from twisted.internet.threads import blockingCallFromThread
from twisted.web.http import HTTPChannel, HTTPFactory, Request

from smls.reactors import dispose, thread_reactor
from smls.wire import (
    Delta,
    Listing,
    ModelRecord,
    NodeRecord,
    delta_to_json,
    listing_to_json,
)

Behaviour = Callable[[Any], None]


class FakeRequest(Request):
    def process(self) -> None:
        server = self.channel.factory.server
        server.requests.append(self)
        self.channel.asked += 1
        server.behaviour(self)
        waiting, server.waiting = server.waiting, []
        for each in waiting:
            each.callback(self)


class FakeChannel(HTTPChannel):
    requestFactory = FakeRequest
    asked = 0

    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.server.open.add(self)

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        self.factory.server._lost(self)


class FakeServer:
    """Listens on a free port of 127.0.0.1 after ``start``."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[Any] = []
        self.connections = 0
        self.open: set[FakeChannel] = set()
        self.waiting: list[Deferred[Any]] = []
        self.losses: list[tuple[int, Deferred[None]]] = []
        self.port = 0

    def start(self, reactor: Any, port: int = 0, interface: str = "127.0.0.1") -> None:
        server = self

        class Factory(HTTPFactory):
            protocol = FakeChannel
            noisy = False

            def buildProtocol(self, address: Any) -> Any:
                server.connections += 1
                return super().buildProtocol(address)

        factory = Factory(reactor=reactor)
        factory.server = self
        self._listening = reactor.listenTCP(port, factory, interface=interface)
        self.port = self._listening.getHost().port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def asked(self) -> Deferred[Any]:
        """Fires when the next request has come."""
        waiting: Deferred[Any] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def open_at_most(self, number: int) -> Deferred[None]:
        """Fires when no more than ``number`` connections are open."""
        loss: Deferred[None] = Deferred()
        self.losses.append((number, loss))
        self._tell()
        return loss

    def stop(self) -> Deferred[Any]:
        """Closes the port and all connections."""
        stopped = maybeDeferred(self._listening.stopListening)
        for channel in list(self.open):
            channel.transport.abortConnection()
        return gatherResults([stopped, self.open_at_most(0)])

    def _lost(self, channel: FakeChannel) -> None:
        self.open.discard(channel)
        self._tell()

    def _tell(self) -> None:
        for each in list(self.losses):
            if len(self.open) <= each[0]:
                self.losses.remove(each)
                each[1].callback(None)


def respond(
    request: Any, status: int, value: object, headers: Iterable[tuple[str, str]] = ()
) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    request.setResponseCode(status)
    request.setHeader("Content-Length", str(len(body)))
    for name, content in headers:
        request.setHeader(name, content)
    request.write(body)
    request.finish()


def hang(request: Any) -> None:
    """Never answers."""


def reset(request: Any) -> None:
    """Cuts the connection instead of an answer."""
    request.channel.transport.abortConnection()


def half(request: Any) -> None:
    """Begins an answer and never ends it."""
    request.setHeader("Content-Length", "100")
    request.write(b'{"model": ')


def told(
    status: int, code: str, message: str = "so it is", headers: Iterable[tuple[str, str]] = ()
) -> Behaviour:
    """Answers with an error as nodes do."""
    value = {"error": {"code": code, "message": message}}
    return lambda request: respond(request, status, value, headers)


def stranger(request: Any) -> None:
    """Answers as another kind of server does."""
    respond(request, 200, b"<html>It works!</html>")


LABELS = ("daisy", "rose", "tulip")


class FakeNode(FakeServer):
    """Classifies anything that begins with ``image``; its scores tell nothing, nor do its vectors
    and predictions."""

    def __init__(self, name: str, models: Iterable[str] = ("flowers",)) -> None:
        super().__init__(self.answer)
        self.name = name
        self.models = tuple(models)

    def answer(self, request: Any) -> None:
        if request.path == b"/embed":
            texts = json.loads(request.content.read())
            respond(request, 200, [[0.5, float(len(text))] for text in texts])
        elif request.path == b"/":
            rows = json.loads(request.content.read())
            respond(request, 200, {"prediction": [sum(row.values()) for row in rows]})
        else:
            self.classify(request)

    def classify(self, request: Any) -> None:
        body = request.content.read()
        query = {name: values[-1] for name, values in request.args.items()}
        model = query.get(b"model", self.models[0].encode()).decode()
        if request.method != b"POST" or request.path != b"/classify":
            told(404, "not_found")(request)
        elif model not in self.models:
            told(404, "model_not_found", f"no model {model!r}")(request)
        elif not body.startswith(b"image"):
            told(415, "not_an_image", "this is no image")(request)
        else:
            labels = LABELS[: int(query.get(b"top", b"5"))]
            respond(
                request,
                200,
                {
                    "model": model,
                    "version": "1",
                    "node": self.name,
                    "predictions": [
                        {"label": label, "score": 0.5 / (index + 1)}
                        for index, label in enumerate(labels)
                    ],
                },
            )

    @property
    def record(self) -> NodeRecord:
        return NodeRecord(
            id=f"{self.name}-{self.port}",
            address=self.address,
            name=self.name,
            models=tuple(ModelRecord(model) for model in self.models),
        )


class FakeRegistry(FakeServer):
    """Tells the records in ``nodes`` to those who watch: now, and at each ``tell``."""

    def __init__(self) -> None:
        super().__init__(self.watch)
        self.nodes: list[NodeRecord] = []
        self.history = "first"
        self.revision = 1
        self.settling = False
        self.watchers: list[Any] = []

    def watch(self, request: Any) -> None:
        if request.path != b"/v1/watch":
            told(404, "not_found")(request)
            return
        request.setHeader("Content-Type", "text/event-stream")
        self.watchers.append(request)
        request.notifyFinish().addErrback(lambda _: self.watchers.remove(request))
        if request.getHeader("Last-Event-ID") == f"{self.history}:{self.revision}":
            request.write(b": heartbeat\n\n")
        else:
            request.write(self._event("snapshot", self._listing()))

    def tell(self, *nodes: NodeRecord) -> None:
        """Lists other nodes."""
        self.revision += 1
        self.nodes = list(nodes)
        self.send(self._event("snapshot", self._listing()))

    def tell_delta(self, *put: NodeRecord, gone: Iterable[str] = ()) -> None:
        """Lists some nodes more or less."""
        self.revision += 1
        self.nodes = [node for node in self.nodes if node.id not in {*gone}] + list(put)
        self.send(self._event("delta", delta_to_json(Delta(self.revision, put, tuple(gone)))))

    def send(self, data: bytes) -> None:
        """Sends anything to those who watch."""
        for watcher in self.watchers:
            watcher.write(data)

    def restart(self, *nodes: NodeRecord) -> None:
        """Loses its watchers and its history, and lists the nodes that are there already."""
        self.history, self.revision, self.nodes = f"after-{self.history}", 1, list(nodes)
        for watcher in list(self.watchers):
            watcher.channel.transport.abortConnection()

    def _listing(self) -> dict[str, Any]:
        return listing_to_json(Listing(self.revision, tuple(self.nodes), self.settling))

    def _event(self, kind: str, value: object) -> bytes:
        return (
            f"event: {kind}\nid: {self.history}:{self.revision}\ndata: {json.dumps(value)}\n\n"
        ).encode()


class ClockedReactor:
    """A reactor's sockets with a clock that a test moves by hand."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.seconds = self.clock.seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


class FleetThread:
    """A registry and nodes in a thread of their own, for clients that block or run elsewhere."""

    def __init__(self, *names: str) -> None:
        self.registry = FakeRegistry()
        self.nodes = [FakeNode(name) for name in names]
        self._reactor: Any = thread_reactor()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> FleetThread:
        self._thread.start()
        self.call(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(lambda: gatherResults([server.stop() for server in self._servers()]))
        self._reactor.callFromThread(self._reactor.stop)
        self._thread.join()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` returns, called in the fleet's thread."""
        return blockingCallFromThread(self._reactor, function, *arguments)

    def _servers(self) -> list[FakeServer]:
        return [self.registry, *self.nodes]

    def _start(self) -> None:
        for server in self._servers():
            server.start(self._reactor)
        self.registry.nodes = [node.record for node in self.nodes]

    def _run(self) -> None:
        self._reactor.run(installSignalHandlers=False)
        dispose(self._reactor)

# SPDX-License-Identifier: MIT
"""HTTP servers on real sockets that misbehave where they are told to.

A server has one behaviour at a time, a function of the request. It may be set from any thread,
and is called in the server's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from math import ceil
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request

from smls.errors import BadRequest
from smls.web import STATUS


class FakeRequest(Request):
    """A request that is there as a whole; its body is ``content``."""

    channel: FakeChannel
    content: Any

    @property
    def server(self) -> FakeServer:
        """The server that was asked."""
        return self.channel.server

    def process(self) -> None:
        self.channel.asked += 1
        self.server.received(self)


Behaviour = Callable[[FakeRequest], object]
"""What a server does with a request: answers, now or later, or never."""


class FakeChannel(HTTPChannel):
    """A connection; ``asked`` counts its requests."""

    requestFactory = FakeRequest
    factory: _Factory
    asked = 0

    @property
    def server(self) -> FakeServer:
        return self.factory.server

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.server.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.server.lost(self)


class _Factory(HTTPFactory):
    protocol = FakeChannel  # type: ignore[assignment]
    noisy = False

    def __init__(self, server: FakeServer, reactor: Any) -> None:
        super().__init__(reactor=reactor)
        self.server = server


class FakeServer:
    """Listens on a free port of 127.0.0.1 after ``start``, and answers by ``answer`` as long as
    ``behaviour`` is nothing else. ``requests`` are those that have come, ``connections`` counts
    what was opened, ``open`` is what still is."""

    def __init__(self, answer: Behaviour) -> None:
        self.answer = answer
        self.behaviour = answer
        self.requests: list[FakeRequest] = []
        self.connections = 0
        self.open: set[FakeChannel] = set()
        self.port = 0
        self.reactor: Any = None
        self._listening: Any = None
        self._waiting: list[Deferred[FakeRequest]] = []
        self._losses: list[tuple[int, Deferred[None]]] = []

    @property
    def address(self) -> str:
        """Its ``host:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def is_listening(self) -> bool:
        return self._listening is not None

    def start(self, reactor: Any, interface: str = "127.0.0.1") -> None:
        """Listens; where it did before, on the same port."""
        self.reactor = reactor
        factory = _Factory(self, reactor)
        self._listening = reactor.listenTCP(self.port, factory, interface=interface)
        self.port = self._listening.getHost().port

    def stop(self) -> Deferred[Any]:
        """Closes the port and cuts all connections; fires when they are gone."""
        listening, self._listening = self._listening, None
        stopped = maybeDeferred(lambda: listening and listening.stopListening())
        for channel in list(self.open):
            transport: Any = channel.transport
            transport.abortConnection()
        return gatherResults([stopped, self.open_at_most(0)])

    def next_request(self) -> Deferred[FakeRequest]:
        """Fires when the next request has come."""
        waiting: Deferred[FakeRequest] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def open_at_most(self, number: int) -> Deferred[None]:
        """Fires when no more than ``number`` connections are open."""
        loss: Deferred[None] = Deferred()
        self._losses.append((number, loss))
        self._tell_losses()
        return loss

    def received(self, request: FakeRequest) -> None:
        """A request has come."""
        self.requests.append(request)
        self.behaviour(request)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(request)

    def opened(self, channel: FakeChannel) -> None:
        """A connection was opened."""
        self.connections += 1
        self.open.add(channel)

    def lost(self, channel: FakeChannel) -> None:
        """A connection is gone."""
        self.open.discard(channel)
        self._tell_losses()

    def _tell_losses(self) -> None:
        for number, loss in list(self._losses):
            if len(self.open) <= number:
                self._losses.remove((number, loss))
                loss.callback(None)


def respond(
    request: FakeRequest, status: int, value: object, headers: Iterable[tuple[str, str]] = ()
) -> None:
    """Answers with bytes, or with a value as JSON."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    request.setResponseCode(status)
    request.setHeader("Content-Length", str(len(body)))  # type: ignore[no-untyped-call]
    for name, content in headers:
        request.setHeader(name, content)  # type: ignore[no-untyped-call]
    request.write(body)  # type: ignore[no-untyped-call]
    request.finish()  # type: ignore[no-untyped-call]


def hang(request: FakeRequest) -> None:
    """Never answers."""


def reset(request: FakeRequest) -> None:
    """Cuts the connection instead of an answer."""
    transport: Any = request.channel.transport
    transport.abortConnection()


def late(seconds: float) -> Behaviour:
    """Answers so much later, unless nobody waits any more."""

    def behave(request: FakeRequest) -> None:
        server = request.server
        call = server.reactor.callLater(seconds, server.answer, request)
        gone = request.notifyFinish()
        gone.addErrback(lambda _: call.active() and call.cancel())

    return behave


def fail(
    code: str, message: str = "as a test wants it", *, retry_after_seconds: float | None = None
) -> Behaviour:
    """Answers with the error of this code, as nodes and registries tell errors.

    :raises BadRequest: where there is no such code.
    """
    if code not in STATUS:
        raise BadRequest(f"code: got {code!r}, wanted one of {', '.join(STATUS)}")
    headers = []
    if retry_after_seconds is not None:
        headers.append(("Retry-After", str(max(1, ceil(retry_after_seconds)))))

    def behave(request: FakeRequest) -> None:
        # The Open Inference Protocol's errors are a message alone.
        is_standard = request.path.startswith(b"/v2/")
        told = message if is_standard else {"code": code, "message": message}
        respond(request, STATUS[code], {"error": told}, headers)

    return behave

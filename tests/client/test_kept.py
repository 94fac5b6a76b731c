# SPDX-License-Identifier: MIT
"""Kept connections, on real sockets."""

from __future__ import annotations

from typing import Any

import treq
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from smls.kept import close_kept

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"


class Server(Protocol):
    """Answers by half, and by the rest when told so."""

    def connectionMade(self) -> None:
        self.factory.server = self  # type: ignore[union-attr]
        self.closed: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(HALF)

    def connectionLost(self, *_: Any) -> None:
        self.closed.callback(None)


class KeptTests(TestCase):
    """The reactor of trial finds what is left open."""

    timeout = 20

    async def test_what_comes_back_after_the_end_is_closed_then(self) -> None:
        factory: Any = Factory.forProtocol(Server)
        clock: Any = reactor
        port = clock.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        pool = HTTPConnectionPool(clock)
        client = HTTPClient(Agent(clock, pool=pool))
        url = f"http://127.0.0.1:{port.getHost().port}/"
        response = await client.get(url, unbuffered=True)
        reading = treq.content(response)
        reading.addErrback(lambda _: None)
        reading.cancel()
        await close_kept(pool)
        server = factory.server
        server.transport.write(b"cd")
        await server.closed

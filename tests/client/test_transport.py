# SPDX-License-Identifier: MIT
"""One request: its connection, its deadline, and what is said where it fails."""

from __future__ import annotations

from socket import gaierror
from threading import Event
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from smls import transport
from smls.errors import NodeUnreachable
from smls.testing import FakeServer, hang, reset, respond
from smls.transport import Transport
from tests.client.fleet import ClockedReactor, half


def echo(request: Any) -> None:
    respond(request, 200, request.content.read(), [("X-Connection", str(id(request.channel)))])


def only_the_first(request: Any) -> None:
    """A connection's first request is answered; at the next one it is cut."""
    if request.channel.asked == 1:
        echo(request)
    else:
        reset(request)


class Requests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.reactor = ClockedReactor(reactor)
        self.transport = Transport(self.reactor)
        self.addCleanup(self.transport.close)

    def server(self, behaviour: Any, interface: str = "127.0.0.1") -> FakeServer:
        server = FakeServer(behaviour)
        server.start(reactor, interface=interface)
        self.addCleanup(server.stop)
        return server

    def post(self, url: str, body: bytes = b"image", seconds: float | None = 5.0) -> Deferred[Any]:
        return self.transport.request("POST", url, body=body, timeout_seconds=seconds)

    async def test_it_brings_the_whole_answer(self) -> None:
        server = self.server(echo)
        body = bytes(range(256)) * 20_000
        reply = await self.post(server.url, body)
        assert (reply.status, reply.body) == (200, body)
        assert reply.header("x-connection") is not None
        assert reply.header("none") is None
        (request,) = server.requests
        assert request.getHeader("Content-Type") == "application/octet-stream"

    async def test_names_are_looked_up(self) -> None:
        server = self.server(echo)
        for _ in range(2):
            reply = await self.post(f"http://localhost:{server.port}/")
            assert reply.status == 200
        assert server.connections == 1
        url = f"http://localhost:{server.port}/"
        await server.stop()
        error = await self.assertFailure(self.post(url), NodeUnreachable)
        assert str(error) == "refused the connection"

    async def test_a_name_that_is_none(self) -> None:
        def unknown(*_: object, **__: object) -> None:
            raise gaierror("Name or service not known")

        self.patch(transport, "getaddrinfo", unknown)
        error = await self.assertFailure(self.post("http://none.invalid/"), NodeUnreachable)
        assert str(error) == "its name cannot be looked up"

    async def test_a_name_that_is_never_found(self) -> None:
        looking, done = Event(), Event()
        self.addCleanup(done.set)
        self.patch(transport, "getaddrinfo", lambda *_, **__: (looking.set(), done.wait(), [])[2])
        call = self.post("http://none.invalid/")
        await deferToThread(looking.wait)
        self.reactor.clock.advance(1.0)
        error = await self.assertFailure(call, NodeUnreachable)
        assert str(error) == "did not accept a connection within 1 s"

    async def test_ipv6(self) -> None:
        server = self.server(echo, "::1")
        for _ in range(2):
            reply = await self.post(f"http://[::1]:{server.port}/classify?top=2", b"image")
            assert reply.body == b"image"
        assert server.connections == 1
        request = server.requests[0]
        assert request.getHeader("Host") == f"[::1]:{server.port}"
        assert request.uri == b"/classify?top=2"

    async def test_an_empty_body_is_sent_as_one(self) -> None:
        reply = await self.post(self.server(echo).url, b"")
        assert reply.body == b""

    async def test_a_connection_is_used_again(self) -> None:
        server = self.server(echo)
        for _ in range(3):
            await self.post(server.url)
        assert server.connections == 1

    async def test_as_many_connections_are_kept_as_calls_were_in_flight(self) -> None:
        server = self.server(echo)
        for _ in range(2):
            await gatherResults([self.post(server.url) for _ in range(50)])
        assert server.connections == 50

    async def test_an_idle_connection_is_dropped_before_the_server_does_it(self) -> None:
        server = self.server(echo)
        await self.post(server.url)
        self.reactor.clock.advance(29)
        assert len(server.open) == 1
        self.reactor.clock.advance(1)
        await server.open_at_most(0)

    async def test_a_kept_connection_that_proves_dead_is_replaced(self) -> None:
        server = self.server(only_the_first)
        for _ in range(3):
            assert (await self.post(server.url)).status == 200
        # first; on the same connection, cut, then on a fresh one that is not kept; a new one
        assert [len(server.requests), server.connections] == [4, 3]

    async def test_a_fresh_connection_that_is_cut_is_a_failure(self) -> None:
        server = self.server(reset)
        error = await self.assertFailure(self.post(server.url), NodeUnreachable)
        assert str(error) == "closed the connection without an answer"
        assert len(server.requests) == 1

    async def test_it_is_replaced_once_and_no_more(self) -> None:
        server = self.server(echo)
        await self.post(server.url)
        server.behaviour = reset
        await self.assertFailure(self.post(server.url), NodeUnreachable)
        assert [len(server.requests), server.connections] == [3, 2]

    async def test_an_answer_that_breaks_off_is_not_asked_for_again(self) -> None:
        server = self.server(echo)
        await self.post(server.url)

        def break_off(request: Any) -> None:
            half(request)
            request.channel.transport.loseConnection()

        server.behaviour = break_off
        error = await self.assertFailure(self.post(server.url), NodeUnreachable)
        assert str(error) == "broke off its answer, or speaks no HTTP"
        assert [len(server.requests), server.connections] == [2, 1]

    async def test_a_timeout_closes_the_connection(self) -> None:
        for behaviour in (hang, half):
            server = self.server(echo)
            await self.post(server.url)
            server.behaviour = behaviour
            asked = server.next_request()
            call = self.post(server.url, seconds=3)
            await asked
            self.reactor.clock.advance(3)
            error = await self.assertFailure(call, NodeUnreachable)
            assert str(error) == "did not answer within 3 s"
            await server.open_at_most(0)
            assert len(server.requests) == 2

    async def test_cancelling_closes_the_connection(self) -> None:
        for behaviour in (hang, half):
            server = self.server(behaviour)
            asked = server.next_request()
            call = self.post(server.url)
            await asked
            call.cancel()
            await self.assertFailure(call, CancelledError)
            await server.open_at_most(0)

    async def test_redirects_are_not_followed(self) -> None:
        server = self.server(lambda request: respond(request, 302, b"", [("Location", "/other")]))
        assert (await self.post(server.url)).status == 302
        assert len(server.requests) == 1

    async def test_an_answer_without_bound_is_cut_off(self) -> None:
        self.patch(transport, "MAX_ANSWER", 1000)
        server = self.server(echo)
        await self.post(server.url, b"a" * 1000)
        error = await self.assertFailure(self.post(server.url, b"a" * 1001), NodeUnreachable)
        assert str(error) == "its answer has more than 1000 bytes"

    @inlineCallbacks
    def test_a_server_that_speaks_no_http(self) -> Any:
        class Stranger(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"220 mail.example ESMTP\r\n")
                self.transport.loseConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Stranger), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        error = yield self.assertFailure(
            self.post(f"http://127.0.0.1:{port.getHost().port}/"), NodeUnreachable
        )
        assert "HTTP" in str(error) or "without an answer" in str(error)

    async def test_nobody_listens(self) -> None:
        server = self.server(hang)
        await server._listening.stopListening()
        error = await self.assertFailure(self.post(server.url), NodeUnreachable)
        assert str(error) == "refused the connection"


class Connecting(SynchronousTestCase):
    def test_it_takes_a_second_at_most(self) -> None:
        clock = MemoryReactorClock()
        call = Transport(clock).request("GET", "http://10.0.0.1:80/", timeout_seconds=9)
        clock.advance(0.9)
        self.assertNoResult(call)
        clock.advance(0.1)
        error = self.failureResultOf(call, NodeUnreachable).value
        assert str(error) == "did not accept a connection within 1 s"

    def test_it_takes_no_longer_than_the_request_may(self) -> None:
        clock = MemoryReactorClock()
        call = Transport(clock).request("GET", "http://[::1]:80/", timeout_seconds=0.5)
        clock.advance(0.5)
        error = self.failureResultOf(call, NodeUnreachable).value
        assert str(error) == "did not answer within 0.5 s"
        assert [each for each in clock.getDelayedCalls() if each.active()] == []

    def test_cancelling_ends_it(self) -> None:
        clock = MemoryReactorClock()
        call = Transport(clock).request("GET", "http://10.0.0.1:80/", timeout_seconds=9)
        call.cancel()
        self.failureResultOf(call, CancelledError)
        assert clock.getDelayedCalls() == []

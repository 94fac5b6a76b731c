# SPDX-License-Identifier: MIT
"""Bodies on real sockets: the reactor is woken for few and large parts of them."""

import socket

from twisted.internet import reactor
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource

from smls.channel import FEW_BYTES, PART_BYTES, LimitedChannel
from smls.site import LimitedSite
from smls.web import json_answer
from tests.memory import parse, request


class Length(Resource):
    """Answers with the length of the body."""

    isLeaf = True

    def render(self, request):
        return json_answer({"length": len(request.body())}).write_to(request)


class Counting(LimitedChannel):
    """Counts how often something was read."""

    reads = 0

    def dataReceived(self, data):
        Counting.reads += 1
        super().dataReceived(data)


class PartsTests(TestCase):
    """A client that sends a body in parts, with some turns of the reactor after each."""

    timeout = 60

    def setUp(self):
        self.site = LimitedSite(Length(), reactor, max_body=10**7, screen=lambda head: None)
        self.site.protocol = Counting
        listening = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.port = listening.getHost().port
        self.addCleanup(listening.stopListening)
        self.addCleanup(self.site.close_connections)

    async def test_what_comes_in_many_parts_is_read_in_few(self):
        for size in (100_000, PART_BYTES + 1, 3 * PART_BYTES + 2 * FEW_BYTES):
            Counting.reads = 0
            answers = await deferToThread(self._send, [size], 1000)
            assert [parse(each).json for each in answers] == [{"length": size}]
            # The head, and each whole part and what is left.
            assert Counting.reads <= 2 + size / PART_BYTES + 1

    async def test_a_little_more_is_not_waited_for(self):
        Counting.reads = 0
        (answer,) = await deferToThread(self._send, [FEW_BYTES], 1024)
        assert parse(answer).json == {"length": FEW_BYTES}
        assert Counting.reads == 1 + FEW_BYTES / 1024

    async def test_what_follows_on_the_connection_is_answered(self):
        sizes = [300_000, 0, 1, 70_000, FEW_BYTES + 1, 10]
        answers = await deferToThread(self._send, sizes, 10_000)
        assert [parse(each).json["length"] for each in answers] == sizes

    async def test_a_body_that_is_cut_is_noticed_at_once(self):
        for end in (self._close, self._reset):
            await deferToThread(self._begin, end)
            await self.site.when_idle()
            assert not self.site.arriving.held

    def _send(self, sizes, part):
        answers = []
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for size in sizes:
                client.sendall(request("POST", "/", Content_Length=str(size)))
                self._turns()
                for begin in range(0, size, part):
                    client.sendall(b"x" * min(part, size - begin))
                    self._turns()
                answers.append(client.recv(65536))
        return answers

    def _begin(self, end):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(request("POST", "/", Content_Length="200000") + b"x" * 50_000)
            self._turns()
            client.sendall(b"x" * 50_000)
            self._turns()
            assert self.site.in_flight
            end(client)

    def _close(self, client):
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""

    def _reset(self, client):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def _turns(self):
        for _ in range(3):
            blockingCallFromThread(reactor, lambda: None)

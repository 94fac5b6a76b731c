# SPDX-License-Identifier: MIT
"""The client against fake fleets on real sockets, with a clock that the tests move."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from smls.client import Client
from smls.errors import (
    BadRequest,
    ClientClosed,
    DeadlineExceeded,
    ModelNotFound,
    NodeFault,
    NodeUnreachable,
    NoLiveNodes,
    NotAnImage,
    Overloaded,
)
from smls.wire import NodeRecord
from tests.client.fleet import (
    ClockedReactor,
    FakeNode,
    FakeRegistry,
    FakeServer,
    half,
    hang,
    reset,
    stranger,
    told,
)

IMAGE = b"image of a daisy"


class Fleet(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.reactor = ClockedReactor(reactor)
        self.clock = self.reactor.clock

    def start(self, server: Any) -> Any:
        server.start(reactor)
        self.addCleanup(server.stop)
        return server

    def fleet(self, *names: str) -> tuple[FakeRegistry, list[FakeNode]]:
        nodes = [self.start(FakeNode(name)) for name in names]
        registry = self.start(FakeRegistry())
        registry.nodes = [node.record for node in nodes]
        return registry, nodes

    def client(self, *registries: Any, cache: Any = False, **named: Any) -> Client:
        client = Client(*registries, reactor=self.reactor, cache=cache, **named)
        self.addCleanup(client.close)
        return client

    def gone(self) -> str:
        """An address where nobody listens."""
        server = FakeServer(hang)
        server.start(reactor)
        self.addCleanup(server.stop)
        server._listening.stopListening()
        return server.address


class Lookup(Fleet):
    async def test_an_image_goes_straight_to_a_node(self) -> None:
        registry, (node,) = self.fleet("box-1")
        found = await self.client(registry.url).classify(IMAGE, top=2)
        assert (found.model, found.version) == ("flowers", "1")
        assert (found.node, found.address) == ("box-1", node.address)
        assert [each.label for each in found.predictions] == ["daisy", "rose"]
        assert found.predictions[0].score == 0.5
        assert len(registry.requests) == 1

    async def test_nodes_take_turns_and_the_registry_is_asked_once(self) -> None:
        registry, nodes = self.fleet("a", "b", "c")
        client = self.client(registry.url)
        for _ in range(9):
            await client.classify(IMAGE)
        assert [len(node.requests) for node in nodes] == [3, 3, 3]
        assert len(registry.requests) == 1

    async def test_calls_at_the_same_time_share_the_first_lookup(self) -> None:
        registry, nodes = self.fleet("a", "b")
        client = self.client(registry.url)
        await gatherResults([client.classify(IMAGE) for _ in range(20)])
        assert len(registry.requests) == 1
        assert [len(node.requests) for node in nodes] == [10, 10]
        assert [node.connections for node in nodes] == [10, 10]
        await gatherResults([client.classify(IMAGE) for _ in range(20)])
        assert [node.connections for node in nodes] == [10, 10]

    async def test_an_image_may_be_bytes_a_path_or_a_file(self) -> None:
        _, (node,) = self.fleet("a")
        client = self.client(nodes=[node.address])
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "daisy.jpg")
        path.write_bytes(IMAGE)
        for image in (IMAGE, bytearray(IMAGE), memoryview(IMAGE), path, str(path)):
            await client.classify(image)
        await client.classify(io.BytesIO(IMAGE))
        with path.open("rb") as file:
            await client.classify(file)
        with path.open() as text:
            await self.assertFailure(client.classify(text), BadRequest)  # type: ignore[arg-type]
        await self.assertFailure(client.classify(path.with_name("none")), FileNotFoundError)
        await self.assertFailure(client.classify(17), BadRequest)  # type: ignore[arg-type]
        assert len(node.requests) == 7

    async def test_one_list_serves_all_models(self) -> None:
        registry, _ = self.fleet("a")
        birds = self.start(FakeNode("b", models=["birds"]))
        registry.nodes.append(birds.record)
        client = self.client(registry.url)
        for _ in range(3):
            assert (await client.classify(IMAGE, "birds")).node == "b"
            assert (await client.classify(IMAGE, "flowers")).node == "a"
        assert len(registry.requests) == 1

    async def test_a_model_that_the_list_has_not_is_an_error(self) -> None:
        registry, _ = self.fleet("a")
        client = self.client(registry.url)
        await client.classify(IMAGE)
        birds = self.start(FakeNode("b", models=["birds"]))
        registry.tell_delta(birds.record)
        await heard(client, birds)
        assert (await client.classify(IMAGE, "birds")).node == "b"
        error = await self.assertFailure(client.classify(IMAGE, "fish"), NoLiveNodes)
        assert "'fish'" in str(error)
        assert registry.url in str(error)

    async def test_nodes_are_listed_by_model(self) -> None:
        registry, (flowers,) = self.fleet("a")
        birds = self.start(FakeNode("b", models=["birds"]))
        registry.nodes.append(birds.record)
        client = self.client(registry.url)
        assert {*await client.nodes()} == {flowers.record, birds.record}
        assert await client.nodes("birds") == (birds.record,)
        assert await client.nodes("fish") == ()


class Arguments(Fleet):
    def test_addresses_are_checked_at_once(self) -> None:
        for wrong in (
            ["https://registry"],
            ["ftp://registry"],
            ["http://a:99999"],
            [],
            ["http://"],
        ):
            with pytest.raises(BadRequest):
                Client(*wrong, reactor=self.reactor)
        for node in ("https://a:1", "a", "a:0"):
            with pytest.raises(BadRequest):
                Client(nodes=[node], reactor=self.reactor)
        with pytest.raises(BadRequest, match="https is not spoken yet"):
            Client("https://registry", reactor=self.reactor)
        with pytest.raises(BadRequest):
            Client("http://registry", nodes=["a:1"], reactor=self.reactor)
        with pytest.raises(BadRequest):
            Client("http://registry", reactor=self.reactor, timeout=0)


class Elsewhere(Fleet):
    async def test_a_node_that_fails_is_passed_over(self) -> None:
        for behaviour in (
            reset,
            stranger,
            told(503, "overloaded"),
            told(500, "internal"),
            told(504, "deadline_exceeded"),
            told(404, "model_not_found"),
        ):
            registry, (bad, _good) = self.fleet("bad", "good")
            bad.behaviour = behaviour
            client = self.client(registry.url)
            for _ in range(4):
                assert (await client.classify(IMAGE)).node == "good"

    async def test_a_refusing_node_comes_last_for_a_while(self) -> None:
        registry, (_good, dead) = self.fleet("good", "dead")
        await dead.stop()
        client = self.client(registry.url)
        picked: list[str] = []
        pick = client._balancer.pick

        def noted(nodes: Any, tried: Any) -> Any:
            node = pick(nodes, tried)
            picked.append(node.name)
            return node

        client._balancer.pick = noted  # type: ignore[method-assign]
        for _ in range(10):
            assert (await client.classify(IMAGE)).node == "good"
        assert picked.count("dead") == 1
        self.clock.advance(6)
        picked.clear()
        for _ in range(2):
            await client.classify(IMAGE)
        assert picked.count("dead") == 1

    async def test_a_node_started_again_is_not_suspect(self) -> None:
        registry, (good, dead) = self.fleet("good", "dead")
        await dead.stop()
        client = self.client(registry.url)
        for _ in range(2):
            await client.classify(IMAGE)
        dead.start(reactor, dead.port)
        again = NodeRecord(id="another", address=dead.address, models=good.record.models)
        registry.tell_delta(again, gone=[dead.record.id])
        while again not in await client.nodes():
            await deferLater(reactor, 0.001)
        assert {(await client.classify(IMAGE)).node for _ in range(2)} == {"good", "dead"}

    async def test_a_hanging_node_gets_half_of_what_remains(self) -> None:
        registry, (hanging, good) = self.fleet("hanging", "good")
        hanging.behaviour = hang
        client = self.client(registry.url, balancer=Avoiding(good))
        asked = hanging.asked()
        call = client.classify(IMAGE, timeout=8.0)
        await asked
        self.clock.advance(3.9)
        assert not call.called
        assert len(good.requests) == 0
        self.clock.advance(0.2)
        assert (await call).node == "good"
        await hanging.open_at_most(0)

    async def test_an_answer_that_stops_half_way_is_cut_off(self) -> None:
        registry, (hanging, good) = self.fleet("hanging", "good")
        hanging.behaviour = half
        asked = hanging.asked()
        call = self.client(registry.url, balancer=Avoiding(good)).classify(IMAGE, timeout=8.0)
        await asked
        self.clock.advance(4.0)
        assert (await call).node == "good"
        await hanging.open_at_most(0)

    async def test_the_last_node_gets_all_that_remains(self) -> None:
        registry, (hanging, other) = self.fleet("hanging", "other")
        hanging.behaviour = other.behaviour = hang
        first, second = hanging.asked(), other.asked()
        call = self.client(registry.url, balancer=Avoiding(other)).classify(IMAGE, timeout=8.0)
        await first
        self.clock.advance(4.0)
        await second
        self.clock.advance(3.9)
        assert not call.called
        self.clock.advance(0.1)
        error = await self.assertFailure(call, DeadlineExceeded)
        assert f"{hanging.address}: did not answer within 4 s" in str(error)
        await gatherResults([hanging.open_at_most(0), other.open_at_most(0)])

    async def test_each_node_is_tried_once_and_all_are_named(self) -> None:
        registry, nodes = self.fleet("a", "b", "c")
        for node in nodes:
            node.behaviour = reset
        error = await self.assertFailure(self.client(registry.url).classify(IMAGE), NodeUnreachable)
        assert [len(node.requests) for node in nodes] == [1, 1, 1]
        for node in nodes:
            assert f"{node.address}: closed the connection without an answer" in str(error)

    async def test_nodes_that_came_meanwhile_are_tried_too(self) -> None:
        registry, (dead,) = self.fleet("dead")
        client = self.client(registry.url)
        await client.classify(IMAGE)
        await dead.stop()
        late = self.start(FakeNode("late"))
        registry.tell(late.record)
        await heard(client, late)
        assert (await client.classify(IMAGE)).node == "late"

    async def test_overloaded_says_when_to_come_back(self) -> None:
        registry, (full, fuller, dead) = self.fleet("full", "fuller", "dead")
        full.behaviour = told(503, "overloaded", headers=[("Retry-After", "3")])
        fuller.behaviour = told(503, "overloaded", headers=[("Retry-After", "9")])
        await dead.stop()
        error = await self.assertFailure(self.client(registry.url).classify(IMAGE), Overloaded)
        assert error.retry_after_seconds == 3.0

    async def test_what_all_say_alike_is_raised_as_it_is(self) -> None:
        for behaviour, kind in (
            (told(404, "model_not_found"), ModelNotFound),
            (told(500, "internal", "its log has it as 17"), NodeFault),
            (stranger, NodeFault),
        ):
            registry, nodes = self.fleet("a", "b")
            for node in nodes:
                node.behaviour = behaviour
            error = await self.assertFailure(self.client(registry.url).classify(IMAGE), kind)
            assert nodes[0].address in str(error)
            assert [len(node.requests) for node in nodes] == [1, 1]

    async def test_a_fault_of_the_request_is_final(self) -> None:
        registry, nodes = self.fleet("a", "b")
        await self.assertFailure(self.client(registry.url).classify(b"text"), NotAnImage)
        assert sum(len(node.requests) for node in nodes) == 1

    async def test_a_node_that_speaks_https_is_passed_over(self) -> None:
        registry, (node,) = self.fleet("a")
        registry.nodes = [NodeRecord(id="s", address=node.address, scheme="https")]
        error = await self.assertFailure(self.client(registry.url).classify(IMAGE), NodeUnreachable)
        assert "https is not spoken yet" in str(error)

    async def test_wrong_arguments(self) -> None:
        _, (node,) = self.fleet("a")
        client = self.client(nodes=[node.address])
        await self.assertFailure(client.classify(IMAGE, top=0), BadRequest)
        await self.assertFailure(client.classify(IMAGE, timeout=0), BadRequest)


class Direct(Fleet):
    async def test_named_nodes_take_turns_without_a_registry(self) -> None:
        _, nodes = self.fleet("a", "b")
        addresses = [nodes[0].address, f"http://{nodes[1].address}/", self.gone()]
        client = self.client(nodes=addresses)
        for _ in range(10):
            await client.classify(IMAGE, "flowers")
        assert [len(node.requests) for node in nodes] == [5, 5]
        assert len(await client.nodes()) == 3


class Ending(Fleet):
    async def test_cancelling_a_call_cuts_its_request_off(self) -> None:
        _, (node, other) = self.fleet("a", "b")
        node.behaviour = hang
        client = self.client(nodes=[node.address, other.address], balancer=InOrder())
        asked = node.asked()
        call = client.classify(IMAGE)
        await asked
        call.cancel()
        await self.assertFailure(call, CancelledError)
        await node.open_at_most(0)
        assert len(other.requests) == 0

    async def test_cancelling_one_lookup_leaves_the_others(self) -> None:
        registry, _ = self.fleet("a")
        client = self.client(registry.url)
        first, second = client.classify(IMAGE), client.classify(IMAGE)
        first.cancel()
        await self.assertFailure(first, CancelledError)
        assert (await second).node == "a"

    async def test_close_ends_calls_in_flight(self) -> None:
        registry, (node,) = self.fleet("a")
        node.behaviour = hang
        client = self.client(registry.url)
        asked = node.asked()
        call = client.classify(IMAGE)
        await asked
        closed = client.close()
        await self.assertFailure(call, ClientClosed)
        await closed
        await self.assertFailure(client.classify(IMAGE), ClientClosed)
        await client.close()
        assert self.clock.getDelayedCalls() == []
        await gatherResults([node.open_at_most(0), registry.open_at_most(0)])

    async def test_close_ends_a_lookup(self) -> None:
        registry = self.start(FakeServer(hang))
        client = self.client(registry.url)
        asked = registry.asked()
        call = client.classify(IMAGE)
        await asked
        await client.close()
        await self.assertFailure(call, ClientClosed)

    async def test_it_is_a_context_manager(self) -> None:
        registry, (node,) = self.fleet("a")
        async with Client(registry.url, reactor=self.reactor) as client:
            await client.classify(IMAGE)
        await gatherResults([node.open_at_most(0), registry.open_at_most(0)])
        assert self.clock.getDelayedCalls() == []


class Avoiding:
    """Picks one node last."""

    def __init__(self, last: FakeNode) -> None:
        self._last = last.address

    def pick(self, nodes: Any, tried: Any) -> Any:
        left = [node for node in nodes if node.address not in tried]
        return min(left, key=lambda node: node.address == self._last, default=None)


async def heard(client: Client, *nodes: FakeNode) -> None:
    """Waits until the client's list has these nodes."""
    while not {node.record for node in nodes} <= {*await client.nodes()}:
        await deferLater(reactor, 0.001)


class InOrder:
    """Picks the first that is left."""

    def pick(self, nodes: Any, tried: Any) -> Any:
        return next((node for node in nodes if node.address not in tried), None)

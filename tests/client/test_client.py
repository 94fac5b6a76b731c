# SPDX-License-Identifier: MIT
"""The client against fake fleets on real sockets, with a clock that the tests move."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, DeferredList, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from smls.balancer import Attempt, Want
from smls.client import Client
from smls.ect import ExpectedCompletion
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
from smls.policies import RoundRobin
from smls.testing import FakeNode, FakeRegistry, FakeServer, fail, hang, reset
from smls.wire import LOAD_HEADER, LoadReport, NodeRecord
from tests.client.fleet import FLOWERS, ClockedReactor, fake_model, half, stranger

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
        nodes = [self.start(FakeNode(name, [FLOWERS])) for name in names]
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
        server.stop()
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
        birds = self.start(FakeNode("b", [fake_model("birds")]))
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
        birds = self.start(FakeNode("b", [fake_model("birds")]))
        registry.tell_delta(birds.record)
        await heard(client, birds)
        assert (await client.classify(IMAGE, "birds")).node == "b"
        error = await self.assertFailure(client.classify(IMAGE, "fish"), NoLiveNodes)
        assert "'fish'" in str(error)
        assert registry.url in str(error)

    async def test_nodes_are_listed_by_model(self) -> None:
        registry, (flowers,) = self.fleet("a")
        birds = self.start(FakeNode("b", [fake_model("birds")]))
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
            fail("overloaded"),
            fail("internal"),
            fail("deadline_exceeded"),
            fail("model_not_found"),
        ):
            registry, (bad, _good) = self.fleet("bad", "good")
            bad.behaviour = behaviour
            client = self.client(registry.url)
            for _ in range(4):
                assert (await client.classify(IMAGE)).node == "good"

    async def test_a_refusing_node_is_left_alone_and_then_tried_again(self) -> None:
        registry, (_good, dead) = self.fleet("good", "dead")
        await dead.stop()
        balancer = Noting()
        client = self.client(registry.url, balancer=balancer)
        for _ in range(20):
            assert (await client.classify(IMAGE)).node == "good"
        assert balancer.sent_to.count("dead") == 3
        self.clock.advance(2.5)
        balancer.sent_to.clear()
        for _ in range(20):
            assert (await client.classify(IMAGE)).node == "good"
        assert balancer.sent_to.count("dead") == 1

    async def test_a_node_started_again_is_not_suspect(self) -> None:
        registry, (_good, dead) = self.fleet("good", "dead")
        await dead.stop()
        client = self.client(registry.url)
        for _ in range(2):
            await client.classify(IMAGE)
        former = dead.record.id
        dead.start(reactor)
        registry.tell_delta(dead.record, gone=[former])
        await heard(client, dead)
        assert {(await client.classify(IMAGE)).node for _ in range(2)} == {"good", "dead"}

    async def test_a_hanging_node_gets_half_of_what_remains(self) -> None:
        registry, (hanging, good) = self.fleet("hanging", "good")
        hanging.behaviour = hang
        client = self.client(registry.url, balancer=Avoiding(good))
        asked = hanging.next_request()
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
        asked = hanging.next_request()
        call = self.client(registry.url, balancer=Avoiding(good)).classify(IMAGE, timeout=8.0)
        await asked
        self.clock.advance(4.0)
        assert (await call).node == "good"
        await hanging.open_at_most(0)

    async def test_the_last_node_gets_all_that_remains(self) -> None:
        registry, (hanging, other) = self.fleet("hanging", "other")
        hanging.behaviour = other.behaviour = hang
        first, second = hanging.next_request(), other.next_request()
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
        late = self.start(FakeNode("late", [FLOWERS]))
        registry.tell(late.record)
        await heard(client, late)
        assert (await client.classify(IMAGE)).node == "late"

    async def test_overloaded_says_when_to_come_back(self) -> None:
        registry, (full, fuller, dead) = self.fleet("full", "fuller", "dead")
        full.behaviour = fail("overloaded", retry_after_seconds=3)
        fuller.behaviour = fail("overloaded", retry_after_seconds=9)
        await dead.stop()
        error = await self.assertFailure(self.client(registry.url).classify(IMAGE), Overloaded)
        assert error.retry_after_seconds == 3.0

    async def test_what_all_say_alike_is_raised_as_it_is(self) -> None:
        for behaviour, kind in (
            (fail("model_not_found"), ModelNotFound),
            (fail("internal", "its log has it as 17"), NodeFault),
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


class Wanted(Fleet):
    def versions(self) -> tuple[FakeRegistry, FakeNode, FakeNode]:
        """A node with the versions 1 and 2, 2 as canary, and one with 1 alone."""
        registry, (old,) = self.fleet("old")
        canary = evolve(FLOWERS, version="2", labels=("canary",))
        both = self.start(FakeNode("both", [FLOWERS, canary]))
        registry.nodes.append(both.record)
        return registry, both, old

    def asked(self, node: FakeNode) -> dict[bytes, list[bytes]]:
        return dict(node.requests[-1].args)

    async def test_a_version_is_asked_of_nodes_that_have_it_and_by_its_number(self) -> None:
        registry, both, old = self.versions()
        client = self.client(registry.url)
        for version in (2, "2"):
            assert (await client.classify(IMAGE, "flowers", version=version)).node == "both"
            assert self.asked(both)[b"version"] == [b"2"]
        await client.classify(IMAGE, "flowers")
        assert b"version" not in self.asked((both, old)[len(old.requests)])
        await self.assertFailure(client.classify(IMAGE, "flowers", version=3), NoLiveNodes)

    async def test_a_label_is_asked_for_as_the_version_that_the_node_has_under_it(self) -> None:
        registry, both, _ = self.versions()
        client = self.client(registry.url)
        for model in ("flowers", None):
            assert (await client.classify(IMAGE, model, label="canary")).node == "both"
            asked = self.asked(both)
            assert (asked[b"model"], asked[b"version"]) == ([b"flowers"], [b"2"])
        error = await self.assertFailure(client.classify(IMAGE, label="stable"), NoLiveNodes)
        assert "label 'stable'" in str(error)

    async def test_wrong_versions_and_labels_are_told(self) -> None:
        _, (node,) = self.fleet("a")
        client = self.client(nodes=[node.address])
        for wrong in ({"version": 1, "label": "a"}, {"version": ""}, {"label": "a b"}):
            await self.assertFailure(client.classify(IMAGE, **wrong), BadRequest)
        error = await self.assertFailure(client.classify(IMAGE, label="canary"), BadRequest)
        assert "labels are not known" in str(error)
        assert node.requests == []

    async def test_a_key_keeps_its_node(self) -> None:
        registry, nodes = self.fleet("a", "b", "c")
        homes = {
            (await self.client(registry.url).classify(IMAGE, key="cat")).node for _ in range(6)
        }
        assert len(homes) == 1
        (home,) = (node for node in nodes if {node.name} == homes)
        home.behaviour = fail("internal")
        assert {(await self.client(registry.url).classify(IMAGE, key="cat")).node} != homes


class Balancing(Fleet):
    async def test_each_attempt_carries_what_is_left_of_the_calls_time(self) -> None:
        registry, (hanging, good) = self.fleet("hanging", "good")
        hanging.behaviour = hang
        asked = hanging.next_request()
        call = self.client(registry.url, balancer=Avoiding(good)).classify(IMAGE, timeout=8.0)
        await asked
        self.clock.advance(4.0)
        assert (await call).node == "good"
        sent = [node.requests[0].getHeader("x-request-timeout-ms") for node in (hanging, good)]
        assert sent == ["8000", "4000"]

    async def test_the_reports_on_answers_reach_the_policy(self) -> None:
        _, (node,) = self.fleet("a")
        node.load = LoadReport(3, 2, 40.0, 30.0, 2.0, 32, 1)
        balancer = ExpectedCompletion()
        client = self.client(nodes=[node.address], balancer=balancer)
        await client.classify(IMAGE)
        (record,) = await client.nodes()
        assert balancer.expected(record, Want(), self.clock.seconds()) == pytest.approx(0.076)
        node.behaviour = lambda request: (request.setHeader(LOAD_HEADER, "?"), node.answer(request))
        await client.classify(IMAGE)  # an answer is as good without it

    async def test_a_cancelled_call_leaves_nothing_in_flight(self) -> None:
        _, (node,) = self.fleet("a")
        node.behaviour = hang
        balancer = ExpectedCompletion()
        client = self.client(nodes=[node.address], balancer=balancer)
        asked = node.next_request()
        call = client.classify(IMAGE)
        await asked
        assert balancer._pools[Want()].in_flight == 1
        call.cancel()
        await self.assertFailure(call, CancelledError)
        assert balancer._pools[Want()].in_flight == 0
        assert not client._router._under_way

    async def test_without_budget_a_failure_is_not_sent_elsewhere(self) -> None:
        registry, (bad, good) = self.fleet("bad", "good")
        bad.behaviour = fail("internal")
        client = self.client(registry.url, balancer=Avoiding(good))
        client._router.budget.level = 0.0
        await self.assertFailure(client.classify(IMAGE), NodeFault)
        assert len(good.requests) == 0
        await bad.stop()
        assert (await client.classify(IMAGE)).node == "good"  # nothing had reached the other

    async def test_a_late_image_is_hedged_and_the_loser_cut_off(self) -> None:
        registry, (slow, fast) = self.fleet("slow", "fast")
        slow.load = fast.load = LoadReport(0, 0, 0.0, 30.0, 2.0, 32, 1)
        client = self.client(registry.url, hedge=True)
        for _ in range(60):
            await client.classify(IMAGE)
        slow.behaviour = fast.behaviour = hang
        both = [slow.next_request(), fast.next_request()]
        call = client.classify(IMAGE)
        _, index = await DeferredList(both, fireOnOneCallback=True)
        first, second = (slow, fast) if index == 0 else (fast, slow)
        second.behaviour = second.answer
        self.clock.advance(0.1)
        assert not call.called
        self.clock.advance(0.4)
        assert (await call).node == second.name
        await first.open_at_most(0)
        assert not client._router._under_way

    def test_hedging_needs_foresight(self) -> None:
        with pytest.raises(BadRequest, match="foresees no answers"):
            Client("http://a", reactor=self.reactor, hedge=True, balancer="round-robin")
        with pytest.raises(BadRequest, match="'fair'"):
            Client("http://a", reactor=self.reactor, balancer="fair")


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
        client = self.client(nodes=[node.address, other.address], balancer=Avoiding(other))
        asked = node.next_request()
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
        asked = node.next_request()
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
        asked = registry.next_request()
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


async def heard(client: Client, *nodes: FakeNode) -> None:
    """Waits until the client's list has these nodes."""
    while not {node.record for node in nodes} <= {*await client.nodes()}:
        await deferLater(reactor, 0.001)


class Avoiding(RoundRobin):
    """Picks one node last."""

    def __init__(self, last: FakeNode) -> None:
        super().__init__()
        self._avoided = last.address

    def pick(self, nodes: Any, want: Any, now: float) -> Any:
        return min(nodes, key=lambda node: node.address == self._avoided)


class Noting(RoundRobin):
    """Takes turns, and notes whose they were."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_to: list[str] = []

    def sent(self, attempt: Attempt) -> None:
        super().sent(attempt)
        self.sent_to.append(attempt.node.name)

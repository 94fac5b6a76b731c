# SPDX-License-Identifier: MIT
"""Where requests go, and whether they may go elsewhere."""

from __future__ import annotations

from random import Random

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from smls.balancer import Attempt, Outcome
from smls.ect import ExpectedCompletion
from smls.errors import BadRequest
from smls.policies import RoundRobin
from smls.routing import Router
from smls.wire import NodeRecord, NodeState
from tests.client.nodes import WANT, fleet, node, report


def router(*, hedge: bool = False) -> Router:
    return Router(ExpectedCompletion(Random(1)), random=Random(1), hedge=hedge)


def fail(routing: Router, nodes: tuple[NodeRecord, ...], to: NodeRecord, times: int) -> None:
    """Has attempts at ``to`` fail."""
    others = {each.address for each in nodes if each is not to}
    for _ in range(times):
        attempt = routing.start(nodes, WANT, others, 1.0)
        assert attempt is not None
        assert attempt.node is to
        routing.end(attempt, Outcome.FAILED, 1.0)


def test_no_node_is_tried_twice_and_then_nobody_is_left() -> None:
    routing, nodes, tried = router(), fleet(range(5)), set()
    while (attempt := routing.start(nodes, WANT, tried, 0.0)) is not None:
        assert attempt.node.address not in tried
        tried.add(attempt.node.address)
        routing.end(attempt, Outcome.FAILED, 0.0)
    assert len(tried) == 5


def test_ejected_nodes_and_suspects_come_last_and_are_asked_all_the_same() -> None:
    routing = router()
    nodes = (*fleet(range(2)), node(2, state=NodeState.SUSPECT))
    fail(routing, nodes, nodes[0], 3)
    order, tried = [], set()
    while (attempt := routing.start(nodes, WANT, tried, 1.0)) is not None:
        order.append(attempt.node.id)
        tried.add(attempt.node.address)
    assert order == ["n1", "n2", "n0"]


def test_a_draining_node_rests_and_a_full_one_does_not() -> None:
    routing, nodes = router(), fleet(range(2))
    first = routing.start(nodes, WANT, {"n1:1"}, 0.0)
    assert first is not None
    routing.end(first, Outcome.PUSHBACK, 0.0, report(), 3.0)
    assert routing._health.sound(nodes[0], 0.0)
    again = routing.start(nodes, WANT, {"n1:1"}, 0.0)
    assert again is not None
    routing.end(again, Outcome.PUSHBACK, 0.0, None, 3.0)
    assert not routing._health.sound(nodes[0], 2.9)


def test_a_node_at_the_limit_that_it_showed_gets_nothing_more() -> None:
    routing, nodes = router(), fleet([0])
    open_ = [routing.start(nodes, WANT, (), 0.0) for _ in range(50)]
    routing.end(open_[0], Outcome.PUSHBACK, 0.0, report(), 1.0)  # type: ignore[arg-type]
    assert routing.start(nodes, WANT, (), 0.0) is None
    for attempt in open_[1:10]:
        routing.end(attempt, Outcome.ANSWERED, 0.0, report())  # type: ignore[arg-type]
    assert routing.start(nodes, WANT, (), 0.0) is not None


def test_a_key_has_its_node_in_all_clients_and_another_while_that_is_ejected() -> None:
    nodes = fleet(range(200))
    homes = {
        each.node
        for seed in range(5)
        if (each := Router(RoundRobin(), random=Random(seed)).start(nodes, WANT, (), 0.0, "cat"))
    }
    (home,) = homes
    routing = router()
    fail(routing, nodes, home, 3)
    away = routing.start(nodes, WANT, (), 1.0, "cat")
    assert away is not None
    assert away.node is not home
    back = routing.start(nodes, WANT, (), 9.0, "cat")
    assert back is not None
    assert back.node is home


def test_what_never_reached_a_node_is_tried_elsewhere_for_nothing() -> None:
    routing = router()
    routing.budget.level = 0.5
    assert routing.may_retry(Outcome.REFUSED)
    assert not routing.may_retry(Outcome.FAILED)
    routing.call(0.0)
    routing.call(10.0)
    assert routing.may_retry(Outcome.FAILED)


def busy(routing: Router, nodes: tuple[NodeRecord, ...]) -> Attempt:
    """An attempt at ``n0``, all nodes having reported that they are free."""
    for each in nodes:
        others = {other.address for other in nodes if other is not each}
        attempt = routing.start(nodes, WANT, others, 0.0)
        assert attempt is not None
        routing.end(attempt, Outcome.ANSWERED, 0.0, report())
    attempt = routing.start(nodes, WANT, {"n1:1"}, 0.0)
    assert attempt is not None
    return attempt


def test_a_late_request_is_hedged_when_another_node_is_faster() -> None:
    routing, nodes = router(hedge=True), fleet(range(2))
    slow = busy(routing, nodes)
    seconds = routing.hedge_in(slow, 0.0)
    assert seconds is not None
    assert 0.094 + 0.032 < seconds < 0.4
    assert routing.hedge_in(slow, seconds) == 0
    level = routing.budget.level
    second = routing.hedge(slow, {"n0:1"}, seconds)
    assert second is not None
    assert second.node.id == "n1"
    assert routing.budget.level == level - 1
    assert routing.hedge(slow, {"n0:1"}, seconds) is not None
    assert routing.hedge(slow, {"n0:1"}, seconds) is None  # two at first, then one in fifty
    routing.end(slow, Outcome.CANCELLED, seconds)
    assert routing.hedge_in(slow, seconds) is None


def test_nothing_is_hedged_unless_that_is_wanted_and_possible() -> None:
    routing, nodes = router(), fleet(range(2))
    assert routing.hedge_in(busy(routing, nodes), 9.0) is None
    with pytest.raises(BadRequest, match="expected-completion"):
        Router(RoundRobin(), hedge=True)


class Routing(RuleBasedStateMachine):
    """Whatever happens to nodes and requests, nobody is lost and nothing leaks."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.nodes = fleet(range(4))
        self.routing = router(hedge=True)
        self.open: list[Attempt] = []

    @rule(tried=st.sets(st.integers(0, 5)), key=st.sampled_from([None, "a", "b"]))
    def start(self, tried: set[int], key: str | None) -> None:
        self.routing.call(self.now)
        addresses = {f"n{n}:1" for n in tried}
        attempt = self.routing.start(self.nodes, WANT, addresses, self.now, key)
        left = [each for each in self.nodes if each.address not in addresses]
        if attempt is None:
            assert all(self.routing._limits.full(each, WANT) for each in left)
        else:
            assert attempt.node in left
            self.open.append(attempt)

    @rule(data=st.data(), outcome=st.sampled_from(Outcome), told=st.booleans())
    def end(self, data: st.DataObject, outcome: Outcome, told: bool) -> None:
        if self.open:
            attempt = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            said = report(3, 40) if told else None
            for _ in range(2):
                self.routing.end(attempt, outcome, self.now, said, 1.0)

    @rule(seconds=st.floats(0.001, 5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(numbers=st.sets(st.integers(0, 5), min_size=1), restarted=st.booleans())
    def list(self, numbers: set[int], restarted: bool) -> None:
        nodes = fleet(sorted(numbers))
        if restarted:
            nodes = (evolve(nodes[0], id=f"{nodes[0].id}-{self.now}"), *nodes[1:])
        self.nodes = nodes

    @invariant()
    def counts_agree(self) -> None:
        pool = self.routing._balancer._pool(WANT)  # type: ignore[attr-defined]
        assert pool.in_flight == len(self.open) == len(self.routing._under_way)
        assert sum(each.in_flight for each in self.routing._limits._limits.values()) == len(
            self.open
        )


Routing.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestRouting = Routing.TestCase

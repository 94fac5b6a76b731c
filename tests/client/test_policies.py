# SPDX-License-Identifier: MIT
"""The simple policies."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls.balancer import Attempt, Balancer, Outcome, capacities
from smls.errors import BadRequest
from smls.policies import MEMORY, LeastInFlight, RoundRobin, TwoChoices, Weighted
from smls.routing import POLICIES, policy
from smls.wire import NodeRecord
from tests.client.nodes import WANT, attempt, fleet, node


def turn(balancer: Balancer, nodes: tuple[NodeRecord, ...]) -> Attempt:
    sent = attempt(balancer.pick(nodes, WANT, 0.0))
    balancer.sent(sent)
    return sent


@given(st.integers(1, 20), st.integers(0, 5), st.integers())
def test_each_round_visits_each_node_once(size: int, rounds: int, seed: int) -> None:
    balancer = RoundRobin(Random(seed))
    nodes = fleet(range(size))
    for _ in range(rounds):
        assert {turn(balancer, nodes).node.id for _ in nodes} == {node.id for node in nodes}


@given(st.lists(st.sets(st.integers(2, 9)), max_size=60), st.integers())
def test_two_that_stay_alternate_whoever_comes_and_goes(others: list[set[int]], seed: int) -> None:
    balancer = RoundRobin(Random(seed))
    turns: Counter[str] = Counter()
    for present in others:
        turns[turn(balancer, fleet([0, 1, *sorted(present)])).node.id] += 1
        assert abs(turns["n0"] - turns["n1"]) <= 1


def test_a_new_node_gets_one_turn_and_no_burst() -> None:
    balancer = RoundRobin(Random(1))
    for _ in range(30):
        turn(balancer, fleet([0, 1]))
    turns = Counter(turn(balancer, fleet([0, 1, 2])).node.id for _ in range(3))
    assert turns == {"n0": 1, "n1": 1, "n2": 1}


@pytest.mark.parametrize("name", POLICIES)
def test_clients_that_start_together_begin_with_different_nodes(name: str) -> None:
    first = Counter(
        POLICIES[name](Random(seed)).pick(fleet([0, 1, 2]), WANT, 0.0).id  # type: ignore[call-arg]
        for seed in range(300)
    )
    assert min(first[f"n{n}"] for n in range(3)) > 50


def test_it_forgets_those_that_waited_longest() -> None:
    for balancer, memory in ((r := RoundRobin(), r._last), (w := Weighted(), w._next)):
        for number in range(MEMORY + 10):
            turn(balancer, fleet([number]))
        assert len(memory) == MEMORY


def test_the_fewest_in_flight_for_the_capacity_is_picked_and_nothing_leaks() -> None:
    balancer = LeastInFlight(Random(1))
    nodes = (node(0, 300.0), node(1, 100.0))
    open_ = [turn(balancer, nodes) for _ in range(40)]
    assert Counter(each.node.id for each in open_) == {"n0": 30, "n1": 10}
    for each, outcome in zip(open_, [*Outcome] * 8, strict=True):
        balancer.done(each, outcome, None, 1.0)
    assert not balancer._in_flight


@given(st.integers(1, 9), st.integers())
def test_two_choices_never_takes_the_fullest_of_three_or_more(extra: int, seed: int) -> None:
    balancer = TwoChoices(Random(seed))
    nodes = fleet(range(2 + extra))
    for _ in range(5):
        balancer.sent(attempt(nodes[0]))
    assert all(balancer.pick(nodes, WANT, 0.0) is not nodes[0] for _ in range(20))


@given(st.lists(st.sampled_from([10.0, 20.0, 50.0]), min_size=1, max_size=6), st.integers())
def test_weighted_turns_are_in_proportion_and_spread(weights: list[float], seed: int) -> None:
    balancer = Weighted(Random(seed))
    nodes = tuple(node(n, weight) for n, weight in enumerate(weights))
    turns: Counter[str] = Counter()
    for rounds in range(1, 6):
        for _ in range(round(sum(weights))):
            turns[turn(balancer, nodes).node.id] += 1
        for each, weight in zip(nodes, weights, strict=True):
            assert abs(turns[each.id] - rounds * weight) <= 2


def test_a_node_that_was_long_away_gets_no_burst_of_weighted_turns() -> None:
    balancer = Weighted(Random(1))
    turn(balancer, fleet([0, 1]))
    turn(balancer, fleet([0, 1]))
    for _ in range(50):
        turn(balancer, fleet([0]))
    turns = Counter(turn(balancer, fleet([0, 1])).node.id for _ in range(10))
    assert turns["n1"] <= 6


def test_a_node_that_tells_no_capacity_counts_as_the_mean() -> None:
    assert capacities((node(0, 30.0), node(1), node(2, 10.0)), WANT) == [30.0, 20.0, 10.0]
    assert capacities(fleet([0, 1]), WANT) == [1.0, 1.0]


def test_policies_go_by_name() -> None:
    assert isinstance(policy("round-robin"), RoundRobin)
    assert type(policy(None)) is POLICIES["expected-completion"]
    own = RoundRobin()
    assert policy(own) is own
    with pytest.raises(BadRequest, match=r"'fair'.*expected-completion"):
        policy("fair")

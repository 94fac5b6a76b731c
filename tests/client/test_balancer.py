# SPDX-License-Identifier: MIT
"""The turns that nodes take."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from smls.balancer import MEMORY, RoundRobin
from smls.wire import NodeRecord


def fleet(numbers: object) -> list[NodeRecord]:
    return [NodeRecord(id=f"n{n}", address=f"n{n}:1") for n in numbers]  # type: ignore[attr-defined]


@given(st.integers(1, 20), st.integers(0, 5), st.integers())
def test_each_round_visits_each_node_once(size: int, rounds: int, seed: int) -> None:
    balancer = RoundRobin(Random(seed))
    nodes = fleet(range(size))
    for _ in range(rounds):
        picked = [balancer.pick(nodes, set()) for _ in nodes]
        assert sorted(node.address for node in picked if node) == sorted(
            node.address for node in nodes
        )


@given(st.lists(st.sets(st.integers(2, 9)), max_size=60), st.integers())
def test_two_that_stay_alternate_whoever_comes_and_goes(others: list[set[int]], seed: int) -> None:
    balancer = RoundRobin(Random(seed))
    turns: Counter[str] = Counter()
    for present in others:
        picked = balancer.pick(fleet([0, 1, *sorted(present)]), set())
        assert picked is not None
        turns[picked.id] += 1
        assert abs(turns["n0"] - turns["n1"]) <= 1


@given(st.lists(st.integers(0, 9), unique=True), st.sets(st.integers(0, 9)), st.integers())
def test_a_tried_node_is_never_picked(present: list[int], tried: set[int], seed: int) -> None:
    picked = RoundRobin(Random(seed)).pick(fleet(present), {f"n{n}:1" for n in tried})
    left = set(present) - tried
    assert (picked is None) == (not left)
    assert picked is None or int(picked.id[1:]) in left


def test_a_new_node_gets_one_turn_and_no_burst() -> None:
    balancer = RoundRobin(Random(1))
    for _ in range(30):
        balancer.pick(fleet([0, 1]), set())
    turns = [balancer.pick(fleet([0, 1, 2]), set()) for _ in range(3)]
    assert Counter(node.id for node in turns if node) == {"n0": 1, "n1": 1, "n2": 1}


def test_clients_that_start_together_begin_with_different_nodes() -> None:
    first = Counter(
        node.id
        for seed in range(300)
        if (node := RoundRobin(Random(seed)).pick(fleet([0, 1, 2]), set()))
    )
    assert min(first.values()) > 50


def test_it_forgets_those_that_waited_longest() -> None:
    balancer = RoundRobin(Random(1))
    for number in range(MEMORY + 10):
        balancer.pick(fleet([number]), set())
    assert len(balancer._last) == MEMORY

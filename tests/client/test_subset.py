# SPDX-License-Identifier: MIT
"""Rendezvous hashing."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smls.subset import ALL_UP_TO, SUBSET, digest, live, near, preferred
from smls.wire import NodeState
from tests.client.nodes import WANT, fleet, node


def test_a_small_fleet_is_used_whole_and_is_the_same_object() -> None:
    nodes = fleet(range(ALL_UP_TO))
    assert near(nodes, WANT, 1) is nodes
    assert live(nodes) is nodes
    assert len(near(fleet(range(ALL_UP_TO + 1)), WANT, 1)) == SUBSET


def test_suspects_are_used_where_there_is_nobody_else() -> None:
    suspect, sound = node(0, state=NodeState.SUSPECT), node(1)
    assert list(live((suspect, sound))) == [sound]
    assert list(live((suspect,))) == [suspect]


@settings(max_examples=20)
@given(st.integers(0, 2**64 - 1), st.integers(0, 99))
def test_a_node_that_goes_moves_only_what_was_its_own(seed: int, gone: int) -> None:
    nodes = fleet(range(100))
    before = near(nodes, WANT, seed)
    after = near(tuple(n for n in nodes if n.id != f"n{gone}"), WANT, seed)
    assert len(set(before) - set(after)) == (f"n{gone}" in {n.id for n in before})


@given(st.text(), st.sets(st.integers(0, 30), min_size=2))
def test_a_key_keeps_its_node_while_others_come_and_go(key: str, numbers: set[int]) -> None:
    nodes = fleet(sorted(numbers))
    kept = preferred(nodes, WANT, key)
    assert preferred(tuple(reversed(nodes)), WANT, key) is kept
    for each in nodes:
        if each is not kept:
            assert preferred(tuple(n for n in nodes if n is not each), WANT, key) is kept


def test_keys_and_clients_are_spread_by_capacity() -> None:
    nodes = (*fleet(range(50), 10.0), *fleet(range(50, 100), 30.0))
    keys = Counter(preferred(nodes[45:55], WANT, f"key {n}").id for n in range(4000))
    assert sum(keys[f"n{n}"] for n in range(50, 55)) / 4000 == pytest.approx(0.75, abs=0.03)
    clients = Counter(n.id for seed in range(300) for n in near(nodes, WANT, digest(str(seed))))
    fast = sum(clients[f"n{n}"] for n in range(50, 100)) / sum(clients.values())
    assert 0.65 < fast < 0.75  # less than 3 to 1: each node is taken once at most


def test_what_a_key_maps_to_never_changes() -> None:
    """Clients of other versions and on other machines have to agree."""
    found = [preferred(fleet(range(9)), WANT, key).id for key in ("a", "b", "c", "d")]
    assert found == ["n1", "n3", "n8", "n1"]

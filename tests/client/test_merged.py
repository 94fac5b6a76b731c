# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
from typing import Any

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smls.errors import BadRecord
from smls.merged import FORMER_SECONDS, Merged, Told
from smls.wire import Delta, Listing, ModelRecord, NodeRecord, NodeState

A, B = "http://a:12480", "http://b:12480"


def node(number: int, **settings: Any) -> NodeRecord:
    return NodeRecord(f"n{number}", f"h{number}:1", models=(ModelRecord("m"),), **settings)


def told(history: str, revision: int, *nodes: NodeRecord) -> Told:
    return Told.of(history, Listing(revision, nodes))


ONE, TWO, THREE = node(1), node(2), node(3)


def test_a_snapshot_and_deltas_make_the_list():
    merged = Merged([A])
    merged.snapshot(A, told("x", 3, ONE, TWO), 0.0)
    assert merged.nodes(now=0.0) == (ONE, TWO)
    merged.delta(A, "x", Delta(4, put=(THREE,), gone=(ONE.id,)), 1.0)
    assert merged.nodes(now=1.0) == (TWO, THREE)
    assert merged.told[A].event_id == "x:4"


def test_a_delta_that_was_told_before_changes_nothing():
    merged = Merged([A])
    merged.snapshot(A, told("x", 3, ONE), 0.0)
    merged.delta(A, "x", Delta(3, gone=(ONE.id,)), 0.0)
    assert merged.nodes(now=0.0) == (ONE,)


def test_a_delta_needs_a_list_of_its_history():
    merged = Merged([A])
    with pytest.raises(BadRecord, match="wanted a snapshot first"):
        merged.delta(A, "x", Delta(1), 0.0)
    merged.snapshot(A, told("x", 3, ONE), 0.0)
    with pytest.raises(BadRecord, match="got one of the history 'y', wanted 'x'"):
        merged.delta(A, "y", Delta(4), 0.0)


def test_the_last_list_serves_for_ever_while_no_registry_lives():
    merged = Merged([A])
    merged.snapshot(A, told("x", 3, ONE), 0.0)
    merged.lost(A, 1.0)
    assert merged.nodes(now=1e9) == (ONE,)
    merged.resumed(A, 1e9)
    merged.delta(A, "x", Delta(4, gone=(ONE.id,)), 1e9)
    assert merged.nodes(now=1e9) == ()


def test_a_remembered_list_serves_until_the_registry_tells_another():
    merged = Merged([A], {A: told("x", 3, ONE), B: told("y", 1, TWO)})
    assert merged.nodes(now=0.0) == (ONE,)
    assert merged.told[A].event_id == "x:3"
    merged.snapshot(A, told("x", 9, THREE), 0.0)
    assert merged.nodes(now=0.0) == (THREE,)


def test_nodes_have_the_time_to_come_back_after_a_registrys_restart():
    merged = Merged([A])
    merged.snapshot(A, told("x", 3, ONE, TWO), 0.0)
    merged.lost(A, 5.0)
    merged.snapshot(A, told("y", 0), 100.0)
    assert merged.nodes(now=100.0) == (ONE, TWO)
    merged.delta(A, "y", Delta(1, put=(TWO,)), 101.0)
    assert merged.nodes(now=101.0) == (ONE, TWO)
    just_before = math.nextafter(100.0 + FORMER_SECONDS, 0)
    assert merged.nodes(now=just_before) == (ONE, TWO)
    assert merged.nodes(now=100.0 + FORMER_SECONDS) == (TWO,)


def test_a_history_that_changes_on_an_open_stream_is_a_restart_too():
    merged = Merged([A])
    merged.snapshot(A, told("x", 3, ONE), 0.0)
    merged.snapshot(A, told("y", 0), 1.0)
    assert merged.nodes(now=1.0) == (ONE,)
    assert merged.nodes(now=11.0) == ()


def test_a_node_started_again_replaces_its_former_self_at_once():
    merged = Merged([A])
    merged.snapshot(A, told("x", 3, ONE), 0.0)
    merged.lost(A, 5.0)
    again = evolve(ONE, id="other")
    merged.snapshot(A, told("y", 1, again), 6.0)
    assert merged.nodes(now=6.0) == (again,)


def test_what_a_live_registry_tells_gone_leaves_the_former_lists_too():
    merged = Merged([A, B])
    merged.snapshot(A, told("x", 3, ONE), 0.0)
    merged.snapshot(B, told("y", 3, ONE), 0.0)
    merged.lost(A, 1.0)
    merged.delta(B, "y", Delta(4, gone=(ONE.id,)), 2.0)
    assert merged.nodes(now=2.0) == ()


def test_any_live_registry_is_enough():
    merged = Merged([A, B])
    merged.snapshot(A, told("x", 3, ONE), 0.0)
    merged.snapshot(B, told("y", 7, TWO), 0.0)
    assert merged.nodes(now=0.0) == (ONE, TWO)
    merged.lost(A, 1.0)
    assert merged.nodes(now=1.0) == (ONE, TWO)
    assert merged.nodes(now=1.0 + FORMER_SECONDS) == (TWO,)
    merged.snapshot(A, told("z", 1, ONE), 30.0)
    assert merged.nodes(now=30.0) == (ONE, TWO)


def test_a_former_list_stops_running_out_when_the_last_registry_is_lost():
    merged = Merged([A, B])
    merged.snapshot(A, told("x", 3, ONE), 0.0)
    merged.snapshot(B, told("y", 7, TWO), 0.0)
    merged.lost(A, 1.0)
    merged.lost(B, 2.0)
    assert merged.nodes(now=1000.0) == (ONE, TWO)


def test_a_node_is_suspect_where_nobody_has_it_as_live():
    suspect = evolve(ONE, state=NodeState.SUSPECT)
    merged = Merged([A, B])
    merged.snapshot(A, told("x", 1, suspect), 0.0)
    assert merged.nodes(now=0.0) == (suspect,)
    merged.snapshot(B, told("y", 1, ONE), 0.0)
    assert merged.nodes(now=0.0) == (ONE,)
    merged.delta(B, "y", Delta(2, put=(suspect,)), 0.0)
    assert merged.nodes(now=0.0) == (suspect,)


def test_a_node_with_two_addresses_is_listed_once():
    merged = Merged([A, B])
    merged.snapshot(A, told("x", 1, ONE), 0.0)
    merged.snapshot(B, told("y", 1, evolve(ONE, address="192.0.2.1:1")), 0.0)
    assert merged.nodes(now=0.0) == (ONE,)


def test_model_version_and_label_choose():
    models = (ModelRecord("m", "3", labels=("canary",)), ModelRecord("n"))
    canary = evolve(TWO, models=models)
    merged = Merged([A])
    merged.snapshot(A, told("x", 1, ONE, canary), 0.0)
    assert merged.nodes("m", now=0.0) == (ONE, canary)
    assert merged.nodes("m", "3", now=0.0) == (canary,)
    assert merged.nodes("m", "1", now=0.0) == (ONE,)
    assert merged.nodes("m", None, "canary", now=0.0) == (canary,)
    assert merged.nodes("n", "1", "canary", now=0.0) == ()


def test_a_tuple_stays_the_same_object_while_it_would_be_equal():
    merged = Merged([A])
    merged.snapshot(A, told("x", 1, ONE), 0.0)
    first = merged.nodes("m", now=0.0)
    other = evolve(TWO, models=(ModelRecord("other"),))
    merged.delta(A, "x", Delta(2, put=(other,)), 0.0)
    assert merged.nodes("m", now=0.0) is first
    merged.lost(A, 1.0)
    merged.snapshot(A, told("x", 2, node(1), other), 2.0)
    assert merged.nodes("m", now=2.0) is first
    merged.delta(A, "x", Delta(3, put=(THREE,)), 0.0)
    second = merged.nodes("m", now=0.0)
    assert second == (ONE, THREE)
    assert merged.nodes("m", now=0.0) is second


def test_models_that_nobody_serves_take_no_memory():
    merged = Merged([A])
    merged.snapshot(A, told("x", 1, ONE), 0.0)
    for number in range(100):
        assert merged.nodes(f"m{number}", now=0.0) == ()
    assert merged._given == {}
    assert merged._current == set()


class Fleet(RuleBasedStateMachine):
    """Nodes that announce themselves to two registries, which come and go as they like.

    A node that lives stays listed as long as one registry knows it, or has known it and had no
    time to hear of it again; one that no registry may know is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.merged = Merged([A, B])
        self.histories = dict.fromkeys((A, B), 0)
        self.revisions = dict.fromkeys((A, B), 0)
        self.known: dict[str, dict[str, NodeRecord]] = {A: {}, B: {}}
        self.up: set[str] = set()
        self.alive: set[int] = set()
        self.starts = 0
        self.given: tuple[NodeRecord, ...] = ()

    @rule(registry=st.sampled_from([A, B]))
    def comes(self, registry: str) -> None:
        if registry not in self.up:
            self.up.add(registry)
            self._snapshot(registry)

    @rule(registry=st.sampled_from([A, B]), restarted=st.booleans())
    def goes(self, registry: str, restarted: bool) -> None:
        if registry not in self.up:
            return
        self.up.remove(registry)
        self.merged.lost(registry, self.now)
        if restarted:
            self.histories[registry] += 1
            self.revisions[registry] = 0
            self.known[registry] = {}

    @precondition(lambda self: self.up)
    @rule()
    def announced(self) -> None:
        self.starts += 1
        new = node(self.starts)
        self.alive.add(self.starts)
        for registry in self.up:
            self._change(registry, new, None)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def announced_again(self, data: st.DataObject) -> None:
        one = node(data.draw(st.sampled_from(sorted(self.alive))))
        for registry in self.up:
            if one.id not in self.known[registry]:
                self._change(registry, one, None)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def killed(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive.remove(number)
        for registry, known in self.known.items():
            if node(number).id in known:
                if registry in self.up:
                    self._change(registry, None, node(number).id)
                else:
                    self.revisions[registry] += 1
                    del known[node(number).id]

    @rule(seconds=st.sampled_from([0.1, 3.0, FORMER_SECONDS]))
    def waits(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_list_holds(self) -> None:
        listed = self.merged.nodes(now=self.now)
        addresses = [each.address for each in listed]
        assert addresses == sorted(set(addresses))
        current = {each for registry in self.up for each in self.known[registry].values()}
        assert current <= set(listed)
        if listed == self.given:
            assert listed is self.given or not listed
        self.given = listed

    @invariant()
    def nobody_serves_long_who_is_not_told(self) -> None:
        if not self.up:
            return
        later = self.now + FORMER_SECONDS
        current = {each for registry in self.up for each in self.known[registry].values()}
        probe = Merged([A, B])
        probe.told, probe.live = dict(self.merged.told), set(self.merged.live)
        probe._former = dict(self.merged._former)
        assert set(probe.nodes(now=later)) == current

    @invariant()
    def without_a_registry_nothing_is_lost(self) -> None:
        if not self.up:
            assert self.merged.nodes(now=self.now + 1e6) == self.merged.nodes(now=self.now)

    def _snapshot(self, registry: str) -> None:
        listing = Listing(self.revisions[registry], tuple(self.known[registry].values()))
        self.merged.snapshot(registry, Told.of(self._history(registry), listing), self.now)

    def _change(self, registry: str, put: NodeRecord | None, gone: str | None) -> None:
        self.revisions[registry] += 1
        if put is not None:
            self.known[registry][put.id] = put
        if gone is not None:
            del self.known[registry][gone]
        delta = Delta(
            self.revisions[registry],
            () if put is None else (put,),
            () if gone is None else (gone,),
        )
        self.merged.delta(registry, self._history(registry), delta, self.now)

    def _history(self, registry: str) -> str:
        return f"{registry[7]}{self.histories[registry]}"


Fleet.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestFleet = Fleet.TestCase

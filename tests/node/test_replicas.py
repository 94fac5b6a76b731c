# SPDX-License-Identifier: MIT
"""Who is started when, and who is next."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smls_node.backoff import LONGEST_SECONDS, SHORTEST_SECONDS, STEADY_SECONDS, Backoff
from smls_node.replicas import Replicas

COUNT = 3


class Fleet(RuleBasedStateMachine):
    """The laws, whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.replicas = Replicas(COUNT, self.now)
        self.running: set[int] = set()
        self.ready: set[int] = set()
        self.due_at = dict.fromkeys(range(1, COUNT + 1), 0.0)
        self.stopped = False

    @rule(seconds=st.floats(0, 100))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def start_what_is_due(self) -> None:
        for number in self.replicas.due(self.now):
            assert number not in self.running
            assert self.now >= self.due_at[number]
            assert not self.stopped
            self.replicas.started(number, self.now)
            self.running.add(number)
        assert self.stopped or len(self.running) == COUNT or self.replicas.due(self.now) == []

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def one_is_ready(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        was_complete = self.replicas.was_complete
        is_complete = self.replicas.is_ready(number)
        if not self.stopped:
            self.ready.add(number)
        assert is_complete == (len(self.ready) == COUNT and not was_complete)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def one_ends(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        pause = self.replicas.ended(number, self.now)
        self.running.discard(number)
        self.ready.discard(number)
        assert (pause is None) == self.stopped
        if pause is not None:
            assert SHORTEST_SECONDS <= pause <= LONGEST_SECONDS
            self.due_at[number] = self.now + pause
            assert number not in self.replicas.due(self.now + pause * 0.99)
            assert number in self.replicas.due(self.now + pause)

    @precondition(lambda self: self.ready)
    @rule(rounds=st.integers(1, 4))
    def connections_come(self, rounds: int) -> None:
        got = Counter(self.replicas.turn() for _ in range(rounds * len(self.ready)))
        assert got == dict.fromkeys(self.ready, rounds)

    @rule()
    def stop(self) -> None:
        self.replicas.stop()
        self.stopped = True
        self.ready.clear()

    @invariant()
    def is_as_it_was_told(self) -> None:
        assert self.replicas.ready == self.ready
        if not self.ready:
            assert self.replicas.turn() is None
        if self.stopped:
            assert self.replicas.due(self.now + 1e9) == []


TestFleet = Fleet.TestCase


@given(st.lists(st.floats(0, 2 * STEADY_SECONDS), min_size=1, max_size=30))
def test_pauses_grow_while_lives_are_short(lives: list[float]) -> None:
    backoff = Backoff()
    before = None
    for lived in lives:
        pause = backoff.ended(lived)
        if lived >= STEADY_SECONDS or before is None:
            assert pause == SHORTEST_SECONDS
        else:
            assert pause == min(2 * before, LONGEST_SECONDS)
        before = pause

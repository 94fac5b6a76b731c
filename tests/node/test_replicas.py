# SPDX-License-Identifier: MIT
"""Who is started when, and who is next."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smls_node.backoff import LONGEST_SECONDS, SHORTEST_SECONDS, STEADY_SECONDS, Backoff
from smls_node.replicas import HUNG_BEATS, SILENT_BEATS, Replicas

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
        self.was_ready: set[int] = set()
        self.unheard = dict.fromkeys(range(1, COUNT + 1), 0)

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
            self.was_ready.discard(number)
            self.unheard[number] = 0
        assert self.stopped or len(self.running) == COUNT or self.replicas.due(self.now) == []

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def one_is_ready(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        was_complete = self.replicas.was_complete
        is_complete = self.replicas.is_ready(number)
        self.was_ready.add(number)
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

    @rule(beats=st.integers(1, HUNG_BEATS), data=st.data())
    def time_of_beats_goes_by(self, beats: int, data: st.DataObject) -> None:
        """Some of those that run say something in each, as a replica does, and the others not."""
        heard = data.draw(st.sets(st.sampled_from(sorted(self.running)))) if self.running else set()
        for _ in range(beats):
            silent = set(self.replicas.beat())
            for number in self.was_ready:
                self.unheard[number] += 1
            assert silent == {each for each in self.ready if self.unheard[each] >= SILENT_BEATS}
            self.ready -= silent
            for number in heard:
                was_silent = self.replicas.heard(number)
                assert was_silent == (self.unheard[number] >= SILENT_BEATS)
                self.unheard[number] = 0

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
        assert set(self.replicas.hung) == {
            each for each in self.running & self.was_ready if self.unheard[each] >= HUNG_BEATS
        }
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


def test_one_that_falls_silent_gets_no_connection_until_it_is_heard_again() -> None:
    replicas = Replicas(2, 0.0)
    for number in replicas.due(0.0):
        replicas.started(number, 0.0)
        replicas.is_ready(number)
    for _ in range(SILENT_BEATS - 1):
        assert replicas.beat() == []
        replicas.heard(2)
    assert replicas.beat() == [1]
    assert {replicas.turn() for _ in range(4)} == {2}
    assert replicas.heard(1)
    replicas.is_ready(1)
    assert {replicas.turn() for _ in range(4)} == {1, 2}


def test_one_that_loads_for_long_is_not_taken_for_one_that_hangs() -> None:
    replicas = Replicas(1, 0.0)
    replicas.started(1, 0.0)
    assert [replicas.beat() for _ in range(2 * HUNG_BEATS)] == [[]] * 2 * HUNG_BEATS
    assert replicas.hung == []
    replicas.is_ready(1)
    for _ in range(HUNG_BEATS):
        assert replicas.hung == []
        replicas.beat()
    assert replicas.hung == [1]
    replicas.ended(1, 0.0)
    assert replicas.hung == []

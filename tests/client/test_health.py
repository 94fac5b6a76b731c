# SPDX-License-Identifier: MIT
"""Ejection and return."""

from __future__ import annotations

from random import Random

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from smls.balancer import Outcome
from smls.health import FAILURES, MOST_EJECT_SECONDS, Health
from tests.client.nodes import attempt, fleet

FAILED, ANSWERED = Outcome.FAILED, Outcome.ANSWERED


class Desk:
    """A fleet whose health is kept."""

    def __init__(self, size: int) -> None:
        self.nodes = fleet(range(size))
        self.health = Health(Random(1))

    def ask(self, number: int, outcome: Outcome, now: float, rest: float | None = None) -> None:
        sent = attempt(self.nodes[number], now, self.nodes)
        self.health.sent(sent)
        self.health.done(sent, outcome, now, rest)

    def sound(self, now: float) -> set[int]:
        return {n for n, node in enumerate(self.nodes) if self.health.sound(node, now)}


def test_three_failures_in_a_row_eject_and_an_answer_between_does_not() -> None:
    desk = Desk(3)
    for _ in range(5):
        desk.ask(0, FAILED, 1.0)
        desk.ask(0, Outcome.REFUSED, 1.0)
        desk.ask(0, ANSWERED, 1.0)
    assert desk.sound(1.0) == {0, 1, 2}
    assert desk.health.spotless
    for _ in range(FAILURES):
        desk.ask(0, FAILED, 2.0)
    assert desk.sound(2.0) == {1, 2}


def test_an_answer_to_what_was_sent_before_it_failed_acquits_nobody() -> None:
    desk = Desk(3)
    before = attempt(desk.nodes[0], 0.9, desk.nodes)
    desk.health.sent(before)
    for _ in range(FAILURES):
        desk.ask(0, FAILED, 1.0)
    desk.health.done(before, ANSWERED, 1.1)
    assert desk.sound(1.1) == {1, 2}


def test_it_stays_away_longer_each_time_up_to_a_minute_and_returns_on_trial() -> None:
    desk = Desk(2)
    now = 10.0
    for _ in range(FAILURES):
        desk.ask(0, FAILED, now)
    for seconds in (2, 4, 8, 16, 32, 60, 60):
        assert desk.sound(now + 0.79 * seconds) == {1}
        now += 1.21 * seconds
        assert seconds <= MOST_EJECT_SECONDS
        assert desk.sound(now) == {0, 1}
        trial = attempt(desk.nodes[0], now, desk.nodes)
        desk.health.sent(trial)
        assert desk.sound(now) == {1}  # one at a time
        desk.health.done(trial, FAILED, now)
        assert desk.sound(now) == {1}
    now += 80
    desk.ask(0, ANSWERED, now)
    assert desk.health.spotless


def test_a_trial_that_is_given_up_leaves_room_for_another() -> None:
    desk = Desk(2)
    desk.ask(0, FAILED, 1.0)
    trial = attempt(desk.nodes[0], 1.0, desk.nodes)
    desk.health.sent(trial)
    desk.health.done(trial, Outcome.CANCELLED, 1.0)
    assert desk.sound(1.0) == {0, 1}


@given(
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(Outcome)), max_size=120),
)
def test_never_are_more_ejected_than_half_or_one(
    size: int, steps: list[tuple[int, Outcome]]
) -> None:
    desk = Desk(size)
    now = 0.0
    for number, outcome in steps:
        now += 0.01
        desk.ask(number % size, outcome, now)
        assert size - len(desk.sound(now)) <= max(1, size // 2)


def test_pushback_is_no_failure_and_a_rest_ends() -> None:
    desk = Desk(2)
    for _ in range(10):
        desk.ask(0, Outcome.PUSHBACK, 1.0)
    assert desk.sound(1.0) == {0, 1}
    desk.ask(0, Outcome.PUSHBACK, 1.0, rest=2.0)
    assert desk.sound(2.9) == {1}
    assert desk.sound(3.0) == {0, 1}
    desk.ask(0, Outcome.PUSHBACK, 4.0, rest=3600.0)
    assert desk.sound(9.0) == {0, 1}


def test_a_node_that_was_started_again_is_free_of_suspicion() -> None:
    desk = Desk(2)
    for _ in range(FAILURES):
        desk.ask(0, FAILED, 1.0)
    assert desk.health.sound(evolve(desk.nodes[0], id="another"), 1.0)

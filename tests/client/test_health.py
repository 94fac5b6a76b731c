# SPDX-License-Identifier: MIT
"""Ejection and return."""

from __future__ import annotations

from random import Random

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from smls.balancer import Attempt, Outcome
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


def test_after_a_failure_nothing_is_sent_before_what_was_sent_since_is_heard_of() -> None:
    desk = Desk(2)
    early, first, second, third = (attempt(desk.nodes[0], at, desk.nodes) for at in (0, 1, 2, 3))
    for each in (early, first, second, third):
        desk.health.sent(each)
    desk.health.done(first, FAILED, 4.0)
    assert desk.sound(4.0) == {1}  # two may fail as the first one did
    desk.health.done(second, FAILED, 4.0)
    assert desk.sound(4.0) == {1}
    desk.health.done(third, Outcome.CANCELLED, 4.0)
    assert desk.sound(4.0) == {0, 1}  # what was sent before it failed is no trial
    desk.ask(0, FAILED, 4.0)
    assert desk.sound(4.0) == {1}
    desk.health.done(early, ANSWERED, 4.0)
    assert desk.sound(4.0) == {1}


def test_a_busy_node_with_one_failure_goes_on_with_its_next_answer() -> None:
    desk = Desk(2)
    sent = [attempt(desk.nodes[0], at, desk.nodes) for at in range(20)]
    for each in sent:
        desk.health.sent(each)
    desk.health.done(sent[3], FAILED, 20.0)
    desk.health.done(sent[2], ANSWERED, 20.0)
    assert desk.sound(20.0) == {1}
    desk.health.done(sent[4], ANSWERED, 20.0)
    assert desk.health.spotless


@given(st.integers(1, 12), st.lists(st.booleans(), max_size=40), st.randoms(use_true_random=False))
def test_no_more_than_three_or_what_is_on_its_way_reach_a_node_that_fails(
    on_their_way: int, begins: list[bool], random: Random
) -> None:
    """Sends wherever it may, and hears of failures in any order."""
    desk = Desk(2)
    open_: list[Attempt] = []
    now = reached = 0.0

    def send() -> None:
        sent = attempt(desk.nodes[0], now, desk.nodes)
        desk.health.sent(sent)
        open_.append(sent)

    for _ in range(on_their_way):
        now, reached = now + 0.01, reached + 1
        send()
    desk.health.done(open_.pop(0), FAILED, now)
    for begin in begins:
        now += 0.01
        if begin and desk.health.sound(desk.nodes[0], now):
            reached += 1
            send()
        elif open_:
            desk.health.done(open_.pop(random.randrange(len(open_))), FAILED, now)
    assert reached <= max(FAILURES, on_their_way)

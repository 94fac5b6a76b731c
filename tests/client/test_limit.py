# SPDX-License-Identifier: MIT
"""How many may be in flight at a node."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smls.balancer import Attempt, Outcome
from smls.limit import FIRST_BATCH, Limits
from tests.client.nodes import WANT, attempt, node, report


class Desk:
    def __init__(self) -> None:
        self.limits = Limits()
        self.node = node(0)
        self.open: list[Attempt] = []

    def send(self, count: int) -> None:
        for _ in range(count):
            self.open.append(attempt(self.node))
            self.limits.sent(self.open[-1])

    def end(self, outcome: Outcome, *, told: bool = True) -> None:
        self.limits.done(self.open.pop(0), outcome, report() if told else None)

    @property
    def room(self) -> bool:
        return self.limits.has_room(self.node, WANT)

    @property
    def full(self) -> bool:
        return self.limits.full(self.node, WANT)


def test_a_node_that_starts_has_one_batch_until_it_answers() -> None:
    desk = Desk()
    desk.send(FIRST_BATCH - 1)
    assert desk.room
    desk.send(1)
    assert not desk.room
    assert not desk.full  # where nobody else is left it gets more
    desk.end(Outcome.ANSWERED)
    desk.send(1000)
    assert desk.room
    assert desk.limits.open


def test_the_next_node_that_starts_has_a_batch_as_told() -> None:
    desk = Desk()
    desk.send(1)
    desk.end(Outcome.ANSWERED)
    desk.node = node(1)
    desk.send(31)
    assert desk.room
    desk.send(1)
    assert not desk.room


def test_pushback_lowers_the_limit_by_a_tenth_to_one_full_batch() -> None:
    desk = Desk()
    desk.send(1)
    desk.end(Outcome.ANSWERED)
    desk.send(100)
    desk.end(Outcome.PUSHBACK)
    assert desk.full
    while len(desk.open) > 89:
        desk.end(Outcome.CANCELLED)
    assert not desk.full
    for _ in range(57):
        desk.end(Outcome.PUSHBACK)
    assert len(desk.open) == 32
    assert desk.full
    desk.end(Outcome.CANCELLED)
    assert desk.room


def test_a_round_of_answers_at_the_limit_raises_it_by_one() -> None:
    desk = Desk()
    desk.send(50)
    desk.end(Outcome.PUSHBACK)
    desk.send(1)
    bound = desk.limits._limits[("n0", WANT)].bound
    assert bound == 45.0
    for _ in range(45):
        desk.end(Outcome.ANSWERED)
        desk.send(1)
    assert 45.9 < desk.limits._limits[("n0", WANT)].bound < 46.1


def test_pushback_of_a_node_that_drains_says_nothing_of_its_limit() -> None:
    desk = Desk()
    desk.send(5)
    desk.end(Outcome.PUSHBACK, told=False)
    desk.send(2)
    assert desk.room


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(Outcome), st.booleans())))
def test_counts_come_back_to_nothing(steps: list[tuple[int, Outcome, bool]]) -> None:
    desk = Desk()
    for count, outcome, told in steps:
        desk.send(count)
        if desk.open:
            desk.end(outcome, told=told)
    while desk.open:
        desk.end(Outcome.CANCELLED)
    assert all(limit.in_flight == 0 for limit in desk.limits._limits.values())
    assert desk.limits.open

# SPDX-License-Identifier: MIT
"""What may be sent a second time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smls.budget import RESERVE, Budget, hedge_budget


@given(st.lists(st.tuples(st.floats(0, 0.1), st.integers(0, 3)), max_size=400))
def test_beyond_the_reserve_a_tenth_is_repeated_or_one_a_second(
    calls: list[tuple[float, int]],
) -> None:
    budget, now, taken = Budget(), 0.0, 0
    for gap, wanted in calls:
        now += gap
        budget.call(now)
        taken += sum(budget.take() for _ in range(wanted))
        assert 0 <= budget.level <= RESERVE
    assert taken <= RESERVE + 0.1 * len(calls) + now + 1e-6


def test_at_many_calls_a_second_an_outage_costs_a_tenth() -> None:
    budget = Budget()
    taken = 0
    for number in range(100_000):
        budget.call(number / 100)
        while budget.take():
            taken += 1
    assert taken <= RESERVE + 10_001


def test_a_client_with_few_calls_can_repeat_each() -> None:
    budget = Budget(level=0.0)
    for second in range(20):
        budget.call(float(second))
        assert budget.take() is (second > 0)


def test_hedges_are_one_in_fifty_beyond_the_first_two() -> None:
    budget = hedge_budget()
    taken = 0
    for number in range(1000):
        budget.call(float(number))
        taken += budget.take()
        assert taken <= 2 + 0.02 * (number + 1)
    assert taken >= 19

# SPDX-License-Identifier: MIT
"""When a node tells that it is slow, and that it is well again."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls_node.pace import FACTOR, NEWS, NEWS_SECONDS, Pace


def usual(size: int) -> float:
    return 0.030 + 0.002 * size


def test_a_late_batch_tells_before_it_ends_and_one_in_time_that_all_is_well() -> None:
    pace = Pace(usual)
    pace.begin("a", 10, 0.0)
    assert not pace.look(0.09)
    assert pace.look(0.11)
    assert pace.slowdown == pytest.approx(2 * 0.11 / 0.05)
    assert not pace.look(0.2)
    pace.end("a", 0.4)
    assert not pace.look(0.4)  # 8 times is what was told, about
    pace.begin("b", 10, 1.0)
    pace.end("b", 1.05)
    assert pace.look(1.05)
    assert pace.slowdown == 1.0


def test_short_batches_that_are_late_by_little_are_no_news() -> None:
    pace = Pace(lambda size: 0.002)
    pace.begin("a", 1, 0.0)
    assert not pace.look(0.05)
    assert pace.look(0.053)


def test_what_failed_says_nothing_of_others() -> None:
    pace = Pace(usual)
    pace.begin("a", 1, 0.0)
    pace.end("a", 9.0, learn=False)
    assert not pace.look(9.0)


def test_without_a_measurement_there_are_no_news() -> None:
    pace = Pace(lambda size: 0.0)
    pace.begin("a", 1, 0.0)
    assert not pace.look(60.0)
    pace.end("a", 60.0)
    assert not pace.look(60.0)


def test_one_that_shares_its_cores_and_scatters_flaps_at_first_alone() -> None:
    random, pace, now = Random(1), Pace(usual), 0.0
    told: list[float] = []
    while now < 600:
        pace.begin("a", 8, now)
        now += random.choice([1, 1.5, 4, 6, 6, 8, 12]) * usual(8)
        pace.end("a", now)
        if pace.look(now):
            told.append(now)
    assert len(told) < 12
    assert told[-1] < 300


def test_one_that_stays_well_is_trusted_again() -> None:
    pace, now = Pace(usual), 0.0

    def run(times: float) -> bool:
        nonlocal now
        pace.begin("a", 8, now)
        now += times * usual(8)
        pace.end("a", now)
        now += 11  # so that the number of the news bounds nothing
        return pace.look(now)

    for wanted in (1, 4, 16, 64):
        assert run(8)
        assert [run(1) for _ in range(wanted)] == [False] * (wanted - 1) + [True]
    now += 600
    assert run(8)
    assert run(1)


@given(st.lists(st.floats(0.5, 1.9), max_size=60))
def test_a_load_that_scatters_is_no_news(times: list[float]) -> None:
    pace, now = Pace(usual), 0.0
    for each in times:
        pace.begin("a", 8, now)
        now += each * usual(8)
        assert not pace.look(now)
        pace.end("a", now)
        assert not pace.look(now)


@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(0.1, 99)), max_size=200))
def test_there_are_few_news_and_each_is_another_pace(steps: list[tuple[float, float]]) -> None:
    pace, now = Pace(usual), 0.0
    told: list[float] = []
    for seconds, times in steps:
        pace.begin("a", 8, now)
        now += times * usual(8)
        pace.end("a", now)
        now += seconds
        before = pace.slowdown
        if pace.look(now):
            told.append(now)
            assert not before / FACTOR <= pace.slowdown <= before * FACTOR
    assert all(b - a >= NEWS_SECONDS for a, b in zip(told, told[NEWS:], strict=False))

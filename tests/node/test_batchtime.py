# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from smls_node.batchtime import BatchTime

SECONDS = st.floats(1e-5, 10)


@given(SECONDS, SECONDS, st.lists(st.integers(1, 64), min_size=2, max_size=50))
def test_a_line_is_learnt_exactly(a: float, b: float, sizes: list[int]) -> None:
    assume(len(set(sizes)) > 1)
    time = BatchTime([(each, a + b * each) for each in sizes])
    for size in (1, 8, 64):
        assert time.seconds(size) == pytest.approx(a + b * size, rel=1e-3)


@given(st.lists(st.tuples(st.integers(1, 100), SECONDS), max_size=60))
def test_neither_part_is_ever_negative(samples: list[tuple[int, float]]) -> None:
    time = BatchTime([(1, 0.01), (8, 0.02)])
    for size, seconds in samples:
        time.learn(size, seconds)
        assert time.a >= 0
        assert time.b >= 0
        assert 1 <= time.useful_size(32, 0.05) <= 32


def test_a_change_of_speed_is_followed() -> None:
    time = BatchTime([(1, 0.006), (8, 0.041)])
    for _ in range(1000):
        time.learn(1, 0.012)
        time.learn(4, 0.042)
    assert time.seconds(1) == pytest.approx(0.012, rel=0.1)
    assert time.seconds(4) == pytest.approx(0.042, rel=0.1)


@given(st.floats(1e-4, 1), st.floats(1e-4, 0.1), st.floats(1.6, 50))
def test_a_machine_that_is_slower_at_once_is_believed_at_once(
    a: float, b: float, factor: float
) -> None:
    time = BatchTime([(1, a + b), (32, a + 32 * b)])
    for size in (8, 32, 8, 32, 8):
        time.learn(size, factor * (a + b * size))
    assert time.seconds(8) == pytest.approx(factor * (a + b * 8), rel=0.5)


def test_two_pauses_of_five_are_not_the_machines_speed() -> None:
    time = BatchTime([(1, 0.006), (8, 0.041)])
    for seconds in (0.006, 0.6, 0.006, 0.6, 0.006):
        time.learn(1, seconds)
    assert time.seconds(1) < 0.018


def test_one_pause_changes_little() -> None:
    time = BatchTime([(1, 0.006), (8, 0.041)])
    for _ in range(100):
        time.learn(1, 0.006)
    time.learn(1, 60.0)
    assert time.seconds(1) < 0.0075


def test_a_batch_grows_until_its_fixed_part_is_small() -> None:
    per_image = BatchTime([(1, 0.0101), (8, 0.0801)])
    assert per_image.useful_size(64, 0.05) == 1
    tiny = BatchTime([(1, 0.0011), (8, 0.0018)])
    assert tiny.useful_size(64, 0.05) == 64
    between = BatchTime([(1, 0.002), (11, 0.012)])
    assert between.useful_size(64, 0.05) == 19


def test_with_nothing_known_larger_batches_are_tried() -> None:
    time = BatchTime()
    time.learn(1, 0.002)
    assert time.useful_size(64, 0.05) == 64
    for _ in range(50):
        time.learn(8, 0.016)
        time.learn(1, 0.002)
    assert time.useful_size(64, 0.05) < 8

# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls_node.arrangement import (
    BATCHES,
    Arrangement,
    Measured,
    best_of,
    candidates,
    choose,
    is_settled,
    next_batch,
    workers_for,
)


@given(st.integers(1, 256), st.integers(0, 8))
def test_no_candidate_asks_for_more_threads_than_pay(cores: int, gpus: int) -> None:
    pairs = candidates(cores, gpus)
    assert pairs
    assert len(set(pairs)) == len(pairs)
    for threads, runs in pairs:
        assert 0 <= threads <= cores
        assert 1 <= runs <= max(cores, 2 * gpus, 2)


@given(st.integers(1, 64), st.integers(1, 64))
def test_there_are_workers_for_each_run_and_some_to_decode(runs: int, cores: int) -> None:
    workers = workers_for(runs, cores)
    assert runs <= workers <= 2 * max(runs, 1)
    assert workers > runs or runs >= cores


def test_what_costs_less_than_http_is_quick() -> None:
    assert Arrangement(1, 2, 2, ((1, 0.0009), (8, 0.006))).is_quick
    assert not Arrangement(1, 2, 2, ((1, 0.0011), (8, 0.0081))).is_quick
    assert not Arrangement(1, 2, 2).is_quick


def test_the_best_throughput_wins() -> None:
    side_by_side = Measured(1, 2, {1: 0.006, 8: 0.046}, alone=0.005)
    together = Measured(2, 1, {1: 0.006, 8: 0.028}, alone=0.005)
    chosen = choose([together, side_by_side], cores=2)
    assert (chosen.operator_threads, chosen.runs, chosen.workers) == (1, 2, 2)
    assert chosen.anchors == ((1, 0.006), (8, 0.046))
    assert "2 runs of 1 threads 347" in chosen.why


def test_of_two_that_are_as_good_the_faster_single_run_wins() -> None:
    side_by_side = Measured(1, 2, {1: 0.0740}, alone=0.037)
    together = Measured(2, 1, {1: 0.0335}, alone=0.031)
    assert choose([side_by_side, together], cores=2).operator_threads == 2
    # As good alone is not as good beside decoding.
    as_good_alone = Measured(2, 1, {1: 0.0370}, alone=0.031)
    assert choose([side_by_side, as_good_alone], cores=2).operator_threads == 1
    both = Measured(2, 2, {1: 0.0669}, alone=0.0315)
    # A lone run has as many threads here, and two may be made at once.
    assert choose([side_by_side, together, both], cores=2).runs == 2


def test_the_shortest_of_all_turns_counts() -> None:
    slow_hour = Measured(1, 2, {1: 0.02}, alone=0.005)
    other = Measured(2, 1, {1: 0.007}, alone=0.007)
    assert choose([slow_hour, other], cores=2).runs == 1
    later = Measured(1, 2, {1: 0.006, 8: 0.05}, alone=0.006)
    first, second = best_of([slow_hour, other, later])
    assert first == Measured(1, 2, {1: 0.006, 8: 0.05}, alone=0.005)
    assert second == other
    assert choose([first, second], cores=2).runs == 2


def test_throughput_is_that_of_the_best_batch() -> None:
    assert Measured(1, 2, {1: 0.01, 8: 0.02}, alone=0.01).images_per_second == pytest.approx(800)


def test_an_arrangement_knows_its_throughput_where_it_was_measured() -> None:
    measured = Measured(1, 2, {1: 0.01, 8: 0.02}, alone=0.01)
    assert choose([measured], cores=2).images_per_second == pytest.approx(800)
    assert Arrangement(1, 2, 2).images_per_second == 0


@pytest.mark.parametrize(
    ("anchors", "largest"),
    [
        # MobileNetV2, in which larger batches are slower; a network that wins up to 8 by them.
        (((1, 0.0094), (8, 0.0922), (32, 0.386)), 1),
        (((1, 0.010), (8, 0.040), (32, 0.155)), 8),
        # The digits; the same one by one, where only the node's own part is shared.
        (((1, 0.00019), (8, 0.00051), (32, 0.00166)), None),
        (((1, 0.00015), (8, 0.00118)), None),
        # InceptionV3 where a second at 1 was a slow one: no larger size was tried.
        (((1, 0.200), (8, 0.930)), 8),
        (((1, 0.800),), 1),
        (((1, 0.010),), None),
        ((), None),
    ],
)
def test_batches_grow_no_further_than_was_seen_to_pay(
    anchors: tuple[tuple[int, float], ...], largest: int | None
) -> None:
    assert Arrangement(1, 2, 2, anchors).largest_batch == largest


@pytest.mark.parametrize(
    ("tried", "size"),
    [
        ({}, 1),
        ({1: 0.001}, 8),
        ({1: 0.001, 8: 0.004}, 32),
        ({1: 0.001, 8: 0.004, 32: 0.01}, None),
        # A larger one wins nothing, or too little to be worth its latency.
        ({1: 0.01, 8: 0.08}, None),
        ({1: 0.01, 8: 0.075}, None),
        # What a batch costs the node beside its run counts, as it does for what is chosen.
        ({1: 0.0079, 8: 0.0585}, 32),
        # The next usual size would take long, so that a small step shows whether any wins.
        ({1: 0.1}, 2),
        ({1: 0.1, 2: 0.19}, None),
        ({1: 0.2, 2: 0.21}, 4),
        ({1: 0.03, 2: 0.032, 4: 0.036}, 8),
        ({1: 0.02, 2: 0.03, 8: 0.1}, 16),
        ({1: 0.3}, None),
    ],
)
def test_the_next_batch_to_try_is_one_that_may_win(tried: dict[int, float], size: int) -> None:
    assert next_batch(tried) == size


@given(st.lists(st.floats(1e-5, 1), min_size=8, max_size=8))
def test_batches_are_bounded_unless_the_largest_that_was_tried_paid(times: list[float]) -> None:
    seconds: dict[int, float] = {}
    while (size := next_batch(seconds)) is not None:
        seconds[size] = times[len(seconds)]
    largest = Arrangement(1, 2, 2, tuple(seconds.items())).largest_batch
    assert largest in seconds or (largest is None and max(seconds) == BATCHES[-1])


RATES = st.lists(st.floats(1, 1e5), min_size=1, max_size=4)


@given(RATES, st.lists(st.floats(1e-4, 1e-2), min_size=1, max_size=5))
def test_what_is_settled_is_so_however_the_machines_pace_was_shared_out(
    rates: list[float], yardsticks: list[float]
) -> None:
    """Whoever was measured while it was fast, and whoever while it was slow."""
    measured = [Measured(1, runs, {1: runs / rate}, 0.01) for runs, rate in enumerate(rates, 1)]
    if not is_settled(measured, yardsticks):
        return
    best = max(measured, key=lambda each: each.images_per_second)
    pace = max(yardsticks) / min(yardsticks)
    for each in measured:
        if each is not best:
            assert best.images_per_second / pace > each.images_per_second


@pytest.mark.parametrize(
    ("rates", "yardsticks", "settled"),
    [
        ((300.0, 250.0), (1.0, 1.0, 1.05), True),
        # As far ahead, but the machine was slow for one of them.
        ((300.0, 250.0), (1.0, 1.2, 1.0), False),
        ((300.0, 200.0), (1.0, 1.2, 1.0), True),
        ((300.0, 280.0), (1.0, 1.0, 1.0), False),
        ((300.0,), (1.0, 3.0), True),
        ((), (1.0, 1.0), False),
    ],
)
def test_another_turn_is_for_what_the_first_left_open(
    rates: tuple[float, ...], yardsticks: tuple[float, ...], settled: bool
) -> None:
    measured = [Measured(1, runs, {1: runs / rate}, 0.01) for runs, rate in enumerate(rates, 1)]
    assert is_settled(measured, yardsticks) == settled

# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls_node.admission import MARGIN, expected_seconds, full, refusal
from smls_node.batcher import Batcher
from smls_node.batchtime import BatchTime
from smls_node.settings import Limits


def busy(waiting: int, workers: int = 2, each: float = 0.1) -> Batcher:
    """A model that runs one by one, all its workers just begun, and a queue."""
    batcher = Batcher(Limits(max_batch_size=1), BatchTime([(1, each), (2, 2 * each)]), workers)
    for number in range(waiting + workers):
        batcher.add(number, 0.0, deadline=1e9, priority=5, size_bytes=1)
    for _ in range(workers):
        assert batcher.take(0.0)
    return batcher


@given(st.integers(0, 50), st.integers(1, 8))
def test_the_expected_time_is_that_of_a_queue_run_side_by_side(waiting: int, workers: int) -> None:
    expected = expected_seconds(busy(waiting, workers), 5, 0.0)
    assert expected == pytest.approx(0.1 * (waiting // workers + 2))


def test_who_cannot_be_served_in_time_is_refused_with_the_queues_state() -> None:
    batcher = busy(waiting=20)
    assert refusal(batcher, 5, deadline=2.0, now=0.0) is None
    refused = refusal(batcher, 5, deadline=0.5, now=0.0)
    assert refused is not None
    assert refused.details == {"waiting": 20, "running": 2, "expected_ms": 1200.0}
    assert refused.retry_after_seconds == pytest.approx(1.2 * MARGIN - 0.5)
    assert "20 wait" in refused.message


def test_a_higher_priority_waits_for_its_own_kind_alone() -> None:
    batcher = busy(waiting=20)
    assert refusal(batcher, 1, deadline=0.5, now=0.0) is None
    assert refusal(batcher, 9, deadline=0.5, now=0.0) is not None


def test_an_idle_worker_takes_anyone() -> None:
    batcher = Batcher(Limits(), BatchTime([(1, 100.0), (2, 200.0)]), 1)
    assert refusal(batcher, 5, deadline=0.001, now=0.0) is None


def test_a_full_queue_says_when_to_come_back() -> None:
    refused = full(busy(waiting=20), 5, 0.0)
    assert refused.retry_after_seconds == pytest.approx(1.2)
    assert "bound" in refused.message

# SPDX-License-Identifier: MIT
"""What is counted, held against a plain count."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from smls_node.counts import SECONDS, SIZES, Counts, Histogram, Traffic


@given(st.lists(st.floats(0, 100)), st.sampled_from([SECONDS, SIZES]))
def test_buckets_count_what_is_at_most_their_bound(
    values: list[float], bounds: tuple[float, ...]
) -> None:
    seen = Histogram(bounds)
    for value in values:
        seen.observe(value)
    assert seen.buckets() == [
        (text, sum(value <= bound for value in values))
        for text, bound in zip([*map(str, bounds), "+Inf"], (*bounds, math.inf), strict=True)
    ]
    assert math.isclose(seen.sum, math.fsum(values), abs_tol=1e-9)


def test_a_batch_is_counted_once_and_its_requests_each() -> None:
    counts = Counts()
    counts.batch(3, 0.25, 0.5, [(1.0, 0.25), (2.0, 0.75)])
    assert (counts.rows.sum, counts.decode.sum, counts.infer.sum) == (3, 0.25, 0.5)
    assert (counts.total.sum, counts.queue.sum) == (3.0, 1.0)
    assert counts.total.buckets()[-1] == ("+Inf", 2)
    assert counts.rows.buckets()[-1] == ("+Inf", 1)


def test_answers_are_counted_by_status() -> None:
    traffic = Traffic(lambda: 0)
    traffic.answered(200, 0.1)
    traffic.answered(503, 0.2)
    traffic.answered(200, 0.3)
    assert traffic.statuses == {200: 2, 503: 1}
    assert traffic.seconds.buckets()[-1] == ("+Inf", 3)

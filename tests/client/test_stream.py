# SPDX-License-Identifier: MIT
from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from smls.stream import MOST_RETRY_SECONDS, SETTLED_SECONDS, Retries, retry_delay


@given(st.integers(1, 10**6), st.integers(0, 2**32))
def test_retries_stay_between_a_twentieth_and_one_and_a_half_seconds(failures, seed):
    assert 0.05 <= retry_delay(failures, Random(seed)) <= MOST_RETRY_SECONDS


def test_retries_grow_apart():
    longest = [max(retry_delay(n, Random(seed)) for seed in range(50)) for n in range(1, 6)]
    assert longest == sorted(longest)
    assert longest[0] <= 0.1
    assert longest[-1] > 0.9 * MOST_RETRY_SECONDS


@given(st.integers(1, 30), st.floats(SETTLED_SECONDS, 1e6))
def test_a_stream_that_stood_is_opened_at_once(failures, stood):
    retries = Retries(Random(1))
    assert all(retries.ended(0.9 * SETTLED_SECONDS) > 0 for _ in range(failures))
    assert retries.ended(stood) == 0.0
    assert retries.ended() <= 0.1

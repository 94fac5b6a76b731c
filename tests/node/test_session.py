# SPDX-License-Identifier: MIT
"""TensorFlow's sessions, called beforehand looked up, alone and beside one another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls_node.runtimes.session import SLOW_SECONDS, Neighbours, SessionCall, _seconds, wins


@given(st.lists(st.booleans()))
def test_nobody_is_alone_beside_another_nor_in_a_gap_between_those(events: list[bool]) -> None:
    neighbours, running, crowded = Neighbours(), 0, False
    for begins in events:
        if begins:
            assert neighbours.begin() == (running == 0 and not crowded)
            crowded = running > 0
            running += 1
        elif running:
            neighbours.end()
            running -= 1


def test_runs_after_each_other_are_all_alone() -> None:
    neighbours = Neighbours()
    for _ in range(3):
        assert neighbours.begin()
        neighbours.end()


def test_after_a_crowd_the_second_lone_run_is_alone_again() -> None:
    neighbours = Neighbours()
    told = [neighbours.begin(), neighbours.begin()]
    neighbours.end()
    neighbours.end()
    for _ in range(2):
        told.append(neighbours.begin())
        neighbours.end()
    assert told == [True, False, False, True]


@pytest.fixture(scope="module")
def branches() -> Iterator[Any]:
    """A session whose graph has two branches that take long."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None, 1500], name="x")
        ends = []
        for number in range(2):
            y = x
            weights = tf.constant(
                np.random.default_rng(number).normal(size=(1500, 1500)), tf.float32
            )
            for _ in range(12):
                y = tf.nn.tanh(tf.matmul(y, weights))
            ends.append(y)
        tf.add(*ends, name="y")
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=2, use_per_session_threads=True
    )
    with tf.compat.v1.Session(graph=graph, config=config) as session:
        yield session


def rows(count: int) -> Any:
    return np.random.default_rng(count).normal(size=(count, 1500)).astype(np.float32)


def test_an_answer_is_the_same_however_it_is_run(branches: Any) -> None:
    call = SessionCall(branches, ["x:0"], ["y:0"])
    wanted = [branches.run("y:0", {"x:0": rows(count)}) for count in (1, 2, 3)]
    call._neighbours = Neighbours()
    with ThreadPoolExecutor(3) as threads:
        beside = list(threads.map(lambda count: call(rows(count))[0], (1, 2, 3)))
    alone = [call(rows(count))[0] for count in (1, 2, 3)]
    for found in (beside, alone):
        for each, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(each, other, rtol=1e-5, atol=1e-6)


def test_a_failed_run_leaves_the_next_ones_alone(branches: Any) -> None:
    call = SessionCall(branches, ["x:0"], ["y:0"])
    call._neighbours = Neighbours()
    with pytest.raises(Exception, match="1500"):
        call(np.zeros((1, 3), np.float32))
    assert call._neighbours.begin()


def test_a_quick_graph_is_never_spread() -> None:
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        tf.identity(tf.compat.v1.placeholder(tf.float32, [None], name="x"), name="y")
    with tf.compat.v1.Session(graph=graph) as session:
        call = SessionCall(session, ["x:0"], ["y:0"])
        given = np.zeros(3, np.float32)
        assert _seconds(lambda: call(given)) < SLOW_SECONDS
        call.spread_if_quicker(given)
        assert call._neighbours is None


def test_a_graph_is_spread_only_where_that_was_seen_to_win() -> None:
    assert wins(1.0, 0.5)
    assert not wins(1.0, 0.9)
    assert not wins(0.001, 0.0005)

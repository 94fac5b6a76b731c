# SPDX-License-Identifier: MIT
from __future__ import annotations

import gc
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smls_node.runtimes.channel import ALIGNMENT, Channel, Closed

arrays = st.builds(
    lambda size, kind: np.arange(size).astype(kind),
    st.integers(0, 70_000),
    st.sampled_from(["float32", "uint8", "int64"]),
)


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Channel, Channel]]:
    here, there = socket.socketpair()
    memory = os.memfd_create("test")
    both = Channel(here, memory), Channel(there, os.dup(memory))
    yield both
    for end in both:
        end.close()


def passed(send: Any, receive: Any, value: Any) -> Any:
    """``value`` at the other end, while this one is still writing."""
    writing = threading.Thread(target=send, args=(value,))
    writing.start()
    got = receive()
    writing.join()
    return got


@given(st.lists(arrays | st.binary(max_size=100) | st.text(max_size=9), max_size=6))
def test_what_arrives_is_what_was_sent(ends: tuple[Channel, Channel], value: list[Any]) -> None:
    here, there = ends
    lent = passed(here.lend, there.receive, value)
    # The answer may be what was lent.
    back = passed(there.send, here.receive, lent)
    for got in (lent, back):
        for one, other in zip(got, value, strict=True):
            assert type(one) is type(other)
            assert np.array_equal(one, other)
            assert not isinstance(one, np.ndarray) or one.dtype == other.dtype


def test_what_is_lent_is_not_copied_and_lies_as_the_processor_likes(
    ends: tuple[Channel, Channel],
) -> None:
    here, there = ends
    odd, second = np.ones(7, np.uint8), np.ones(3, np.float32)
    first = passed(here.lend, there.receive, [odd, second])
    assert [each.ctypes.data % ALIGNMENT for each in first] == [0, 0]
    passed(here.lend, there.receive, [odd, second * 2])
    assert first[1].tolist() == [2, 2, 2]


def test_who_does_not_wait_gets_what_is_there_and_keeps_what_has_come() -> None:
    here, there = socket.socketpair()
    mine, theirs = Channel(here, os.memfd_create("a")), Channel(there, os.memfd_create("b"))
    with closing(mine), closing(theirs):
        value = ["first", np.arange(1_000_000), b"x" * 300_000]
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                mine.receive(wait=False)
            writing = threading.Thread(target=theirs.send, args=(value,))
            writing.start()
            misses = 0
            while True:
                select.select([mine], [], [], 30)
                try:
                    got = mine.receive(wait=False)
                    break
                except BlockingIOError:
                    misses += 1
            writing.join()
            # A socket holds less than that.
            assert misses > 0
            assert (got[0], got[2]) == (value[0], value[2])
            assert np.array_equal(got[1], value[1])


def test_whoever_is_closed_half_way_leaves_no_descriptor_for_the_garbage() -> None:
    before = len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        for _ in range(3):
            here, there = socket.socketpair()
            mine, theirs = Channel(here, os.memfd_create("a")), Channel(there, os.memfd_create("b"))
            mine.lend(np.zeros(10))
            theirs.close()
            with pytest.raises(Closed):
                mine.receive()
            mine.close()
            del mine, theirs
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_a_closed_end_is_told_to_the_other() -> None:
    here, there = socket.socketpair()
    mine, theirs = Channel(here, os.memfd_create("a")), Channel(there, os.memfd_create("b"))
    theirs.close()
    with pytest.raises(Closed):
        mine.receive()
    with pytest.raises(Closed):
        mine.lend(np.zeros(10))
    mine.close()

# SPDX-License-Identifier: MIT
"""The laws of the queue, held against a plain list of what was asked."""

from __future__ import annotations

from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from smls_node.batcher import LEFT_BEHIND, Batch, Batcher, Cut, Item, QueueFull, round_size
from smls_node.batchtime import BatchTime
from smls_node.settings import Limits

TINY = BatchTime([(1, 0.0011), (8, 0.0018)])


class QueueMachine(RuleBasedStateMachine):
    """Any order of requests, batches, cancellations and time keeps the laws."""

    @initialize(
        workers=st.integers(1, 3),
        largest=st.integers(1, 6),
        bound=st.integers(1, 12),
        fixed=st.floats(0, 0.1),
        each=st.floats(0.001, 0.1),
    )
    def begin(self, workers: int, largest: int, bound: int, fixed: float, each: float) -> None:
        self.now = 0.0
        limits = Limits(max_batch_size=largest, max_queue_size=bound, max_queue_bytes=1000)
        anchors = [(1, fixed + each), (8, fixed + 8 * each)]
        self.batcher = Batcher(limits, BatchTime(anchors), workers)
        self.asked: list[Item] = []
        self.left: list[Item] = []
        self.running: list[Batch] = []

    def take(self) -> None:
        """What the workers do after each event: each idle one takes a batch if there is one."""
        self.left += self.batcher.expire(self.now)
        while self.batcher.idle > 0:
            waiting = [item for item in self.asked if item.waiting]
            batch = self.batcher.take(self.now)
            if batch is None:
                assert not waiting
                return
            first_in_turn = sorted(
                waiting, key=lambda item: (item.priority, item.deadline, self.asked.index(item))
            )
            assert list(batch.items) == first_in_turn[: len(batch.items)]
            assert batch.rows == sum(item.rows for item in batch.items)
            if len(batch.items) > 1:
                assert batch.rows <= self.batcher.limits.max_batch_size
            ends = self.now + self.batcher.time.seconds(batch.rows)
            earliest = min(item.deadline for item in batch.items)
            assert len(batch.items) == 1 or ends <= earliest
            self.left += batch.items
            self.running.append(batch)

    @rule(
        within=st.floats(0, 1),
        priority=st.integers(1, 3),
        size=st.integers(0, 400),
        rows=st.sampled_from([1, 1, 1, 2, 3, 9]),
    )
    def ask(self, within: float, priority: int, size: int, rows: int) -> None:
        waiting = [item for item in self.asked if item.waiting]
        held = sum(item.size_bytes for item in waiting)
        limits = self.batcher.limits
        full = len(waiting) >= limits.max_queue_size or (waiting and held + size > 1000)
        try:
            item = self.batcher.add(
                None,
                self.now,
                deadline=self.now + within,
                priority=priority,
                size_bytes=size,
                rows=rows,
            )
        except QueueFull:
            assert full
        else:
            assert not full
            self.asked.append(item)
        self.take()

    @rule(seconds=st.floats(0, 0.5))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.take()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        batch = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.batcher.done(batch, self.now)
        self.take()

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        item = self.asked[data.draw(st.integers(0, len(self.asked) - 1))]
        was_waiting = item.waiting
        assert self.batcher.cancel(item) == was_waiting
        if was_waiting:
            self.left.append(item)
        self.take()

    @invariant()
    def nothing_is_lost_and_nothing_leaves_twice(self) -> None:
        waiting = [item for item in self.asked if item.waiting]
        assert len(self.left) == len(set(map(id, self.left)))
        assert {id(item) for item in self.left} == {
            id(item) for item in self.asked if not item.waiting
        }
        assert self.batcher.waiting == len(waiting)
        assert self.batcher.waiting_bytes == sum(item.size_bytes for item in waiting)
        assert self.batcher.waiting_rows == sum(item.rows for item in waiting)
        running = [item for batch in self.running for item in batch.items]
        assert self.batcher.running == sum(item.rows for item in running)
        for priority in (1, 2, 3):
            ahead = [item.rows for item in waiting if item.priority <= priority]
            assert self.batcher.ahead_of(priority) == sum(ahead)

    @invariant()
    def what_has_left_is_not_held_on_to(self) -> None:
        held = sum(map(len, self.batcher._heaps.values()))
        assert held <= 2 * self.batcher.waiting + 3 * LEFT_BEHIND

    @invariant()
    def no_worker_idles_beside_a_waiting_request(self) -> None:
        assert self.batcher.waiting == 0 or self.batcher.idle == 0


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestQueue = QueueMachine.TestCase


def filled(batcher: Batcher, count: int, within: float = 10.0) -> list[Item]:
    return [
        batcher.add(number, 0.0, deadline=within, priority=5, size_bytes=1)
        for number in range(count)
    ]


def cut_of(batcher: Batcher, now: float = 0.0) -> tuple[int, Cut]:
    batch = batcher.take(now)
    assert batch is not None
    return len(batch.items), batch.cut


def test_batches_end_where_more_was_measured_to_win_nothing() -> None:
    # However much the learnt times seem to promise.
    assert Batcher(Limits(), TINY, 1, pays=4).largest() == 4
    assert Batcher(Limits(max_batch_size=8), TINY, 1, pays=1).largest() == 8
    assert Batcher(Limits(), TINY, 1).largest() > 8


def test_all_but_a_very_slow_model_may_run_a_pair() -> None:
    quick, slow = (BatchTime([(1, each), (8, 8 * each)]) for each in (0.2, 0.3))
    assert [Batcher(Limits(), each, 1, pays=1).largest() for each in (quick, slow)] == [2, 1]
    assert Batcher(Limits(max_batch_size=1), quick, 1).largest() == 1


def test_a_batch_says_why_it_was_cut() -> None:
    one = Batcher(Limits(max_batch_size=8), TINY, 1)
    filled(one, 10)
    assert cut_of(one) == (8, Cut.FULL)
    two = Batcher(Limits(max_batch_size=8), TINY, 2)
    filled(two, 6)
    assert cut_of(two) == (3, Cut.IDLE_WORKER)
    assert cut_of(two) == (3, Cut.NO_MORE)
    urgent = Batcher(Limits(), BatchTime([(1, 0.11), (2, 0.12)]), 1)
    filled(urgent, 5, within=0.125)
    assert cut_of(urgent) == (2, Cut.DEADLINE)


def test_a_model_whose_batches_win_nothing_runs_one_by_one() -> None:
    batcher = Batcher(Limits(), BatchTime([(1, 0.301), (8, 2.401)]), 1)
    filled(batcher, 5)
    assert cut_of(batcher) == (1, Cut.FULL)


def test_a_delay_is_waited_only_where_it_was_asked_for() -> None:
    batcher = Batcher(Limits(max_batch_size=4, max_queue_delay=0.01), TINY, 1)
    filled(batcher, 3)
    assert batcher.ready_at(0.0) == 0.01
    assert batcher.take(0.005) is None
    filled(batcher, 1)
    assert cut_of(batcher, 0.005) == (4, Cut.FULL)
    assert batcher.ready_at(0.02) is None


def test_allowed_sizes_pad() -> None:
    batcher = Batcher(Limits(allowed_batch_sizes=(1, 4, 8)), TINY, 1)
    filled(batcher, 3)
    batch = batcher.take(0.0)
    assert batch is not None
    assert (len(batch.items), batch.padded) == (3, 4)


def test_the_first_free_worker_is_known_by_what_runs() -> None:
    batcher = Batcher(Limits(max_batch_size=1), BatchTime([(1, 0.1), (2, 0.2)]), 2)
    filled(batcher, 3)
    assert batcher.take(0.0)
    assert batcher.until_free(0.0) == 0.0
    assert batcher.take(0.05)
    assert batcher.until_free(0.06) == pytest.approx(0.04)
    # One that is late is not expected at once.
    assert batcher.until_free(5.0) == pytest.approx(4.85)


def test_who_cannot_be_answered_in_time_is_not_run_but_the_last_has_its_chance() -> None:
    batcher = Batcher(Limits(), BatchTime([(1, 1.0), (2, 2.0)]), 1)
    late, later = filled(batcher, 2, within=0.5)
    assert batcher.expire(0.0) == [late]
    batch = batcher.take(0.0)
    assert batch is not None
    assert batch.items == (later,)


def test_a_storm_of_cancellations_behind_a_hanging_model_leaves_nothing_in_memory() -> None:
    batcher = Batcher(Limits(max_batch_size=1), TINY, 1)
    filled(batcher, 2)
    assert batcher.take(0.0) is not None
    uploads = [Upload() for _ in range(1000)]
    alive = [ref(each) for each in uploads]
    for number in range(1000):
        item = batcher.add(uploads.pop(), 0.0, deadline=10.0 + number, priority=5, size_bytes=1)
        assert batcher.cancel(item)
        del item
    assert not any(each() for each in alive)
    assert len(batcher._heaps[5]) <= 2 * batcher.waiting + LEFT_BEHIND
    assert batcher.waiting == 1


class Upload:
    """Something large."""


@given(st.integers(1, 50), st.integers(1, 50))
def test_the_sizes_asked_for_are_kept(count: int, largest: int) -> None:
    batcher = Batcher(Limits(max_batch_size=largest), TINY, 1)
    filled(batcher, count)
    sizes = []
    while batcher.waiting:
        batch = batcher.take(0.0)
        assert batch is not None
        sizes.append(len(batch.items))
        batcher.done(batch, 0.0, learn=False)
    assert sum(sizes) == count
    assert sizes == sorted(sizes, reverse=True)
    assert sizes.count(largest) == count // largest
    assert all(round_size(size) == size for size in sizes if size != largest)


@given(st.integers(1, 10**6))
def test_a_round_size_leaves_less_than_a_third_for_the_next_batch(size: int) -> None:
    rounded = round_size(size)
    assert size * 2 / 3 < rounded <= size
    assert rounded.bit_count() <= 2
    assert round_size(rounded) == rounded

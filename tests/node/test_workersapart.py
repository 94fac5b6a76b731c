# SPDX-License-Identifier: MIT
"""What the reactor does for a model in a process of its own; the process is played by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from smls.errors import DeadlineExceeded, NodeFault, Overloaded
from smls_node.batcher import Batcher
from smls_node.batchtime import BatchTime
from smls_node.executing import Begin, Executed
from smls_node.settings import Limits
from smls_node.worker import Job
from smls_node.workersapart import WorkersApart


class Bench:
    """Workers whose batches are ended one by one."""

    def __init__(self, limits: Limits | None = None, workers: int = 1) -> None:
        self.clock = Clock()
        self.running: list[tuple[Sequence[Any], Deferred[Executed]]] = []
        self.done: list[Job] = []
        self.looked: list[float] = []
        self.is_gone = False
        batcher = Batcher(limits or Limits(), BatchTime([(1, 0.001), (8, 0.0018)]), workers)
        self.workers = WorkersApart(batcher, self, self.clock.seconds, self.clock)
        self.workers.start()

    async def __call__(self, works: Sequence[Any], begin: Begin) -> Executed:
        if self.is_gone:
            return Executed([NodeFault("there is no process")] * len(works))
        begin(0.0)
        ended: Deferred[Executed] = Deferred()
        self.running.append((works, ended))
        return await ended

    def look(self, seconds: float) -> None:
        self.looked.append(seconds)

    def submit(self, *values: Any, deadline: float = 10.0) -> None:
        for value in values:
            job = Job(value, self.done.append)
            self.workers.submit(job, deadline=deadline, priority=5, size_bytes=1)

    def turn(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)

    def end(self) -> Sequence[Any]:
        """Ends the batch that began first; what it was."""
        works, ended = self.running.pop(0)
        ended.callback(Executed([2 * work for work in works]))
        return works

    @property
    def results(self) -> list[Any]:
        return [job.result for job in self.done]


def test_what_comes_in_one_turn_is_one_batch_and_the_next_goes_out_as_it_ends() -> None:
    bench = Bench()
    bench.submit(1, 2)
    assert not bench.running
    bench.turn()
    bench.submit(3, 4, 5)
    bench.turn()
    assert [works for works, _ in bench.running] == [[1, 2]]
    bench.end()
    assert bench.results == [2, 4]
    assert bench.end() == [3, 4, 5]
    assert bench.results == [2, 4, 6, 8, 10]
    assert bench.workers.stop()


@given(
    st.lists(st.one_of(st.just("end"), st.integers(1, 5)), max_size=30),
    st.integers(1, 3),
)
def test_all_are_answered_and_none_waits_beside_an_idle_worker(
    events: list[Any], workers: int
) -> None:
    bench, count = Bench(Limits(max_batch_size=4), workers), 0
    for event in events:
        if event == "end":
            if bench.running:
                bench.end()
        else:
            bench.submit(*range(count, count + event))
            count += event
            bench.turn()
        assert len(bench.running) <= workers
        assert not bench.workers.batcher.waiting or len(bench.running) == workers
    while bench.running:
        bench.end()
    assert sorted(bench.results) == [2 * value for value in range(count)]


def test_who_is_too_late_is_told_and_not_asked_for() -> None:
    bench = Bench()
    bench.submit(1)
    bench.turn()
    bench.submit(2, deadline=1.0)
    bench.submit(3)
    bench.turn()
    bench.turn(2.0)
    bench.end()
    assert bench.end() == [3]
    found = {job.work: type(job.result) for job in bench.done}
    assert found == {1: int, 2: DeadlineExceeded, 3: int}


def test_a_batch_that_is_held_back_goes_when_its_time_has_come() -> None:
    bench = Bench(Limits(max_batch_size=4, max_queue_delay=1.0))
    bench.submit(1)
    bench.turn()
    bench.turn(0.9)
    bench.submit(2)
    bench.turn()
    assert not bench.running
    bench.turn(0.2)
    assert bench.end() == [1, 2]
    bench.submit(3, 4, 5, 6)
    bench.turn()
    assert bench.end() == [3, 4, 5, 6]
    assert not bench.clock.getDelayedCalls()


def test_where_there_is_no_process_any_number_fails_at_once() -> None:
    bench = Bench(Limits(max_batch_size=1, max_queue_size=5000))
    bench.is_gone = True
    bench.submit(*range(5000))
    bench.turn()
    assert [type(each) for each in bench.results] == [NodeFault] * 5000


def test_who_gives_way_looks_for_what_is_answered() -> None:
    bench = Bench()
    bench.workers.give_way(0.25)
    assert bench.looked == [0.25]


def test_a_fault_of_ours_is_logged() -> None:
    bench = Bench()
    bench.submit(1)
    bench.turn()
    with capturedLogs() as logged:
        bench.running[0][1].errback(RuntimeError("a fault"))
    assert [formatEvent(event) for event in logged] == ["a batch was lost"]


@contextmanager
def stopped(bench: Bench) -> Iterator[None]:
    """They are stopped in a thread meanwhile, and done with all in the end."""
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(bench.workers.stop(30)))
    waiting.start()
    yield
    waiting.join()
    assert answers == [True]


def test_who_stops_waits_for_what_is_queued() -> None:
    bench = Bench()
    bench.submit(1)
    bench.turn()
    bench.submit(2)
    bench.turn()
    assert not bench.workers.stop(0.01)
    with stopped(bench):
        bench.end()
        bench.end()


def test_who_stops_waits_for_what_comes_in_this_turn_of_the_reactor() -> None:
    bench = Bench(Limits(max_queue_size=1))
    bench.submit(1, 2)
    assert not bench.workers.stop(0.01)
    with stopped(bench):
        bench.turn()
        bench.end()
    assert [type(each) for each in bench.results] == [Overloaded, int]


def test_who_stops_waits_no_longer_where_who_came_in_this_turn_has_left() -> None:
    bench = Bench()
    job = Job(1, bench.done.append)
    bench.workers.submit(job, deadline=1.0, priority=5, size_bytes=1)
    with stopped(bench):
        bench.workers.cancel(job)
        bench.turn()
    assert not bench.done

# SPDX-License-Identifier: MIT
"""What workers make of a batch; real threads only where the threads are the point."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from queue import Queue
from typing import Any

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from smls.errors import DeadlineExceeded, Overloaded
from smls_node.batcher import Batcher
from smls_node.batchtime import BatchTime
from smls_node.executing import Executor
from smls_node.settings import Limits
from smls_node.worker import Job, Workers
from smls_node.workerthreads import WorkerThreads
from tests.node.turns import AtOnce
from tests.processes import until

SAFE_SECONDS = 30.0


@frozen
class Double:
    """Doubles a number; ``"unreadable"`` fails when it is prepared, a negative one in the model."""

    value: Any

    def prepare(self, _: object) -> int:
        return int(self.value)

    def finish(self, _: object, outputs: int) -> int:
        if outputs == 14:
            raise ArithmeticError("seven is not to be doubled")
        return outputs


class Model:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, inputs: Sequence[int]) -> list[Any]:
        self.batches.append(list(inputs))
        return [ValueError("negative") if value < 0 else 2 * value for value in inputs]


class Bench:
    """Workers stepped by hand, on a clock that stands still."""

    def __init__(self, limits: Limits | None = None, workers: int = 1) -> None:
        self.now = 0.0
        self.reactor = AtOnce()
        self.model = Model()
        self.done: list[Job] = []
        batcher = Batcher(limits or Limits(), BatchTime([(1, 0.0011), (8, 0.0018)]), workers)
        execute = Executor(self.model, 1, seconds=lambda: self.now)
        self.workers = WorkerThreads(batcher, execute, lambda: self.now, self.reactor)

    def submit(self, *values: Any, deadline: float = 10.0) -> list[Job]:
        jobs = [Job(Double(value), self.done.append) for value in values]
        for job in jobs:
            self.workers.submit(job, deadline=deadline, priority=5, size_bytes=1)
        return jobs


def test_a_batch_is_answered_in_order_with_one_wake_up() -> None:
    bench = Bench()
    jobs = bench.submit(1, 2, 3)
    assert bench.workers.step()
    assert [job.result for job in jobs] == [2, 4, 6]
    assert bench.done == jobs
    assert (bench.model.batches, bench.reactor.wakes) == ([[1, 2, 3]], 1)
    assert not bench.workers.step()


@given(st.lists(st.sampled_from([1, 2, 3, -1, "unreadable", 7]), min_size=1, max_size=12))
def test_whatever_is_wrong_with_one_request_changes_no_neighbour(values: list[Any]) -> None:
    bench = Bench()
    jobs = bench.submit(*values)
    while bench.workers.step():
        pass
    for job, value in zip(jobs, values, strict=True):
        if value == "unreadable":
            assert isinstance(job.result, ValueError)
        elif value == -1:
            assert str(job.result) == "negative"
        elif value == 7:
            assert isinstance(job.result, ArithmeticError)
        else:
            assert job.result == 2 * value
    assert sorted(map(id, bench.done)) == sorted(map(id, jobs))


def test_who_expires_in_the_queue_is_answered_and_never_run() -> None:
    bench = Bench()
    (late,) = bench.submit(1, deadline=1.0)
    (good,) = bench.submit(2, deadline=9.0)
    bench.now = 2.0
    bench.workers.step()
    assert isinstance(late.result, DeadlineExceeded)
    assert good.result == 4
    assert bench.model.batches == [[2]]


def test_who_hangs_up_leaves_the_queue() -> None:
    bench = Bench()
    gone, good = bench.submit(1, 2)
    bench.workers.cancel(gone)
    bench.workers.cancel(gone)
    bench.workers.step()
    assert bench.model.batches == [[2]]
    assert bench.done == [good]
    bench.workers.cancel(good)


def test_what_comes_in_one_turn_is_queued_together_when_it_is_over() -> None:
    turns, model = Clock(), Model()
    done: list[Job] = []
    batcher = Batcher(Limits(max_queue_size=2), BatchTime([(1, 0.0011), (8, 0.0018)]), 1)
    workers = WorkerThreads(batcher, Executor(model, 1), lambda: 0.0, turns)
    turns.callFromThread = lambda call, *given: call(*given)
    jobs = [Job(Double(value), done.append) for value in range(4)]
    for job in jobs:
        workers.submit(job, deadline=1.0, priority=5, size_bytes=1)
    workers.cancel(jobs[1])
    assert not workers.step()
    turns.advance(0)
    assert done == jobs[3:]
    assert isinstance(jobs[3].result, Overloaded)
    workers.step()
    assert model.batches == [[0, 2]]


def test_who_gives_way_waits_for_a_batch() -> None:
    bench = Bench(Limits(max_batch_size=2))
    bench.submit(1, 2, 3)
    assert bench.workers.behind == 0
    bench.submit(4)
    assert bench.workers.behind == 1
    waiting = threading.Thread(target=bench.workers.give_way, args=(SAFE_SECONDS,))
    waiting.start()
    while waiting.is_alive():
        bench.submit(5)
        bench.workers.step()
    assert bench.done


def threaded(infer: Any, workers: int, runs: int) -> tuple[WorkerThreads, Queue[Job]]:
    done: Queue[Job] = Queue()
    batcher = Batcher(Limits(max_batch_size=1), BatchTime(), workers)
    return WorkerThreads(batcher, Executor(infer, runs), lambda: 0.0, AtOnce()), done


def submit(workers: Workers, done: Queue[Job], *values: int) -> None:
    for value in values:
        workers.submit(Job(Double(value), done.put), deadline=1.0, priority=5, size_bytes=1)


def test_as_many_runs_as_allowed_go_side_by_side_and_no_more() -> None:
    together = threading.Barrier(2)
    most = [0]
    running: list[int] = []

    def infer(inputs: Sequence[int]) -> list[int]:
        running.append(1)
        most[0] = max(most[0], len(running))
        together.wait(SAFE_SECONDS)
        running.pop()
        return [2 * value for value in inputs]

    workers, done = threaded(infer, workers=4, runs=2)
    workers.start()
    submit(workers, done, *range(6))
    results = sorted(done.get(timeout=SAFE_SECONDS).result for _ in range(6))
    workers.stop()
    assert results == [0, 2, 4, 6, 8, 10]
    assert most == [2]


def test_one_hanging_run_does_not_stop_the_other_workers() -> None:
    release = threading.Event()

    def infer(inputs: Sequence[int]) -> list[int]:
        if inputs[0] == 0:
            release.wait(SAFE_SECONDS)
        return [2 * value for value in inputs]

    workers, done = threaded(infer, workers=2, runs=2)
    workers.start()
    submit(workers, done, 0, 1, 2, 3)
    assert sorted(done.get(timeout=SAFE_SECONDS).result for _ in range(3)) == [2, 4, 6]
    release.set()
    assert done.get(timeout=SAFE_SECONDS).result == 0
    workers.stop()


def test_stopping_ends_the_threads() -> None:
    workers, done = threaded(Model(), workers=3, runs=1)
    workers.start()
    submit(workers, done, 5)
    assert done.get(timeout=SAFE_SECONDS).result == 10
    workers.stop()
    assert not any(thread.is_alive() for thread in workers._threads)


def test_who_is_stopped_does_first_what_is_queued() -> None:
    done: list[Job] = []
    begun, go = threading.Event(), threading.Event()

    def infer(inputs: Sequence[int]) -> list[int]:
        begun.set()
        go.wait(SAFE_SECONDS)
        return [2 * value for value in inputs]

    batcher = Batcher(Limits(max_batch_size=1, max_queue_delay=0.001), BatchTime(), 1)
    workers = WorkerThreads(batcher, Executor(infer, 1), time.monotonic, AtOnce())
    workers.start()
    for value in range(5):
        workers.submit(
            Job(Double(value), done.append),
            deadline=time.monotonic() + SAFE_SECONDS,
            priority=5,
            size_bytes=1,
        )
    assert begun.wait(SAFE_SECONDS)
    assert not workers.stop(0.01)
    go.set()
    assert workers.stop(SAFE_SECONDS)
    assert sorted(job.result for job in done) == [0, 2, 4, 6, 8]


def test_who_is_stopped_waits_for_what_comes_in_this_turn_of_the_reactor() -> None:
    turns, done = Clock(), Queue[Job]()
    turns.callFromThread = lambda call, *given: call(*given)
    batcher = Batcher(Limits(max_queue_size=1), BatchTime(), 3)
    workers = WorkerThreads(batcher, Executor(Model(), 3), lambda: 0.0, turns)
    workers.start()
    submit(workers, done, 4, 5)
    assert not workers.stop(0.01)
    turns.advance(0)
    assert workers.stop(SAFE_SECONDS)
    results = [done.get(timeout=SAFE_SECONDS).result for _ in range(2)]
    assert [type(each) for each in results if each != 8] == [Overloaded]


def test_who_is_stopped_waits_no_longer_where_nothing_of_that_is_queued() -> None:
    turns, done = Clock(), Queue[Job]()
    batcher = Batcher(Limits(), BatchTime(), 3)
    workers = WorkerThreads(batcher, Executor(Model(), 3), lambda: 0.0, turns)
    workers.start()
    job = Job(Double(1), done.put)
    workers.submit(job, deadline=1.0, priority=5, size_bytes=1)
    assert not workers.stop(0.01)
    workers.cancel(job)
    turns.advance(0)
    assert workers.stop(SAFE_SECONDS)
    assert done.empty()


def test_of_the_idle_threads_the_one_that_ran_last_is_woken() -> None:
    ran: list[str] = []

    def infer(inputs: Sequence[int]) -> list[int]:
        ran.append(threading.current_thread().name)
        return [2 * value for value in inputs]

    workers, done = threaded(infer, workers=3, runs=3)
    workers.start()
    for value in range(6):
        until(lambda: len(workers._idle) == 3)
        submit(workers, done, value)
        assert done.get(timeout=SAFE_SECONDS).result == 2 * value
    assert len(set(ran)) == 1
    assert workers.stop(SAFE_SECONDS)


def test_whoever_is_idle_is_woken_where_more_come() -> None:
    together = threading.Barrier(3)

    def infer(inputs: Sequence[int]) -> list[int]:
        together.wait(SAFE_SECONDS)
        return [2 * value for value in inputs]

    workers, done = threaded(infer, workers=3, runs=3)
    workers.start()
    for _ in range(20):
        until(lambda: len(workers._idle) == 3)
        submit(workers, done, 1, 2, 3)
        assert sorted(done.get(timeout=SAFE_SECONDS).result for _ in range(3)) == [2, 4, 6]
    assert workers.stop(SAFE_SECONDS)

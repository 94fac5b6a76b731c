# SPDX-License-Identifier: MIT
"""The threads in which a model runs: each takes the best batch there is, and the next after it.

The queue itself is ``batcher``'s, and what is done with a batch ``executing``'s; here is the lock
about the queue. The answers of a batch wake the reactor once, and what comes in one turn of the
reactor wakes the workers once: they would otherwise take each request of a tiny network alone, and
handing Python's lock to and fro would cost more than the runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

from attrs import define, field, frozen

from smls.errors import DeadlineExceeded, Overloaded
from smls.wire import LoadReport
from smls_node import admission
from smls_node.batcher import Batch, Batcher, Item, QueueFull
from smls_node.counts import Counts
from smls_node.executing import Execute
from smls_node.pace import Pace
from smls_node.works import Work


@define
class Times:
    """Where a request's seconds went: in the queue, preparing its batch, running it, finishing."""

    queue: float = 0.0
    prepare: float = 0.0
    infer: float = 0.0
    finish: float = 0.0

    @property
    def total(self) -> float:
        return self.queue + self.prepare + self.infer + self.finish


@define(eq=False)
class Job:
    """A piece of work, and what came of it: ``result`` holds an exception where it failed.

    ``load`` is how busy the model was when its batch had ended; a batch's jobs share it.
    """

    work: Work
    on_done: Callable[[Job], None]
    result: Any = None
    times: Times = field(factory=Times)
    load: LoadReport | None = None
    item: Item | None = None


Soon = Callable[[Callable[[], None]], Any]


def at_once(call: Callable[[], None]) -> None:
    """Calls it."""
    call()


@frozen(eq=False)
class _Arrived:
    job: Job
    deadline: float
    priority: int
    size_bytes: int
    rows: int


class Workers:
    """Threads about one queue. ``submit`` and ``cancel`` are called on the reactor's thread.

    ``wake`` calls a function on the reactor's thread, such as ``reactor.callFromThread``; ``soon``
    calls one when the reactor's turn is over, or at once.
    """

    def __init__(
        self,
        batcher: Batcher,
        execute: Execute,
        seconds: Callable[[], float],
        wake: Callable[..., Any],
        name: str = "model",
        soon: Soon = at_once,
    ) -> None:
        self.batcher = batcher
        self.counts = Counts()
        self.pace = Pace(batcher.time.usual)
        self._execute = execute
        self._seconds = seconds
        self._wake = wake
        self._soon = soon
        self._name = name
        self._arrived: list[_Arrived] = []
        self._ready = threading.Condition()
        self._ended = threading.Condition()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts the threads."""
        for number in range(self.batcher.workers):
            # A daemon, since a model that hangs must not keep the process from ending.
            thread = threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, seconds: float = 1.0) -> bool:
        """Lets the threads do all that is queued; says whether they were gone by then.

        A thread whose model hangs is left behind after ``seconds``.
        """
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def submit(
        self, job: Job, *, deadline: float, priority: int, size_bytes: int, rows: int = 1
    ) -> None:
        """Queues ``job``, whose ``on_done`` is called on the reactor's thread.

        Its result is ``Overloaded`` where the queue is at its bound, or the deadline cannot be met.
        """
        self._arrived.append(_Arrived(job, deadline, priority, size_bytes, rows))
        if len(self._arrived) == 1:
            self._soon(self._queue)

    def load(self) -> LoadReport:
        """How busy the model is now."""
        with self._ready:
            return self.batcher.load(self._seconds())

    def behind(self) -> int:
        """How many full batches wait beyond those that are next."""
        return self.batcher.waiting_rows // self.batcher.largest() - self.batcher.workers

    def wait_for_a_batch(self, seconds: float) -> None:
        """Blocks until a batch has ended, or for ``seconds``."""
        with self._ended:
            self._ended.wait(seconds)

    def has_news(self) -> bool:
        """Whether ``pace`` tells something else than when this was last asked."""
        with self._ready:
            return self.pace.look(self._seconds())

    def counted(self) -> Counts:
        """A copy of what was counted until now."""
        with self._ready:
            return deepcopy(self.counts)

    def cancel(self, job: Job) -> None:
        """Takes ``job`` out of the queue, if it still waits there."""
        self._arrived = [each for each in self._arrived if each.job is not job]
        with self._ready:
            if job.item is not None:
                self.batcher.cancel(job.item)

    def step(self) -> bool:
        """Does on the caller's thread what a free worker would do now; says whether it did."""
        with self._ready:
            batch = self._take()
        if batch is not None:
            self._run(batch)
        return batch is not None

    def _queue(self) -> None:
        arrived, self._arrived = self._arrived, []
        with self._ready:
            now = self._seconds()
            for each in arrived:
                each.job.result = self._add(each, now)
            refused = [each.job for each in arrived if each.job.item is None]
            self._ready.notify(len(arrived))
        _tell(refused)

    def _add(self, new: _Arrived, now: float) -> Overloaded | None:
        late = admission.refusal(self.batcher, new.priority, new.deadline, now, new.rows)
        if late is not None:
            return late
        try:
            new.job.item = self.batcher.add(
                new.job,
                now,
                deadline=new.deadline,
                priority=new.priority,
                size_bytes=new.size_bytes,
                rows=new.rows,
            )
        except QueueFull:
            return admission.full(self.batcher, new.priority, now)
        return None

    def _work(self) -> None:
        while True:
            with self._ready:
                batch = self._take()
                while batch is None:
                    if self._stopping and not self.batcher.waiting:
                        return
                    self._ready.wait(self._delay())
                    batch = self._take()
            self._run(batch)

    def _take(self) -> Batch | None:
        now = self._seconds()
        expired = self.batcher.expire(now)
        if expired:
            self._wake(_tell, [_too_late(item.work) for item in expired])
        return self.batcher.take(now)

    def _delay(self) -> float | None:
        """How long to wait for a batch that the operator's ``max_queue_delay`` holds back."""
        ready = self.batcher.ready_at(self._seconds())
        return None if ready is None else max(0.0, ready - self._seconds())

    def _run(self, batch: Batch) -> None:
        begun = self._seconds()
        jobs: list[Job] = [item.work for item in batch.items]
        done = self._execute([job.work for job in jobs], partial(self._begin, batch))
        ended = self._seconds()
        inferred = ended - done.finish
        infer = inferred - begun - done.prepare
        for job, item, result in zip(jobs, batch.items, done.results, strict=True):
            job.result = result
            job.times = Times(begun - item.added, done.prepare, infer, done.finish)
        is_good = not any(isinstance(result, Exception) for result in done.results)
        with self._ready:
            self.pace.end(batch, inferred, learn=is_good)
            self.batcher.done(batch, ended, learn=is_good)
            load = self.batcher.load(ended)
            times = [(job.times.total, job.times.queue) for job in jobs]
            self.counts.batch(batch.rows, done.prepare, infer, times)
        for job in jobs:
            job.load = load
        self._wake(_tell, jobs)
        with self._ended:
            self._ended.notify_all()

    def _begin(self, batch: Batch, seconds: float) -> None:
        with self._ready:
            self.pace.begin(batch, batch.padded, self._seconds() + seconds)


def _too_late(job: Job) -> Job:
    job.result = DeadlineExceeded("the deadline came while the request waited in the queue")
    return job


def _tell(jobs: list[Job]) -> None:
    for job in jobs:
        job.on_done(job)

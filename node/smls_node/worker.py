# SPDX-License-Identifier: MIT
"""Who runs a model: each worker takes the best batch there is, and the next after it.

The queue itself is ``batcher``'s, and what is done with a batch ``executing``'s; here is the lock
about the queue. What comes in one turn of the reactor is queued when that is over: workers would
otherwise take each request of a tiny network alone.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from attrs import define, field, frozen

from smls.errors import DeadlineExceeded, Overloaded
from smls.wire import LoadReport
from smls_node import admission
from smls_node.batcher import Batch, Batcher, Item, QueueFull
from smls_node.counts import Counts
from smls_node.executing import Executed
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


@frozen(eq=False)
class _Arrived:
    job: Job
    deadline: float
    priority: int
    size_bytes: int
    rows: int


class Workers(ABC):
    """The workers of one queue. ``submit`` and ``cancel`` are called on its
    ``reactor``'s thread; ``wakes`` says whether the end of a batch wakes that."""

    wakes: bool

    def __init__(self, batcher: Batcher, seconds: Callable[[], float], reactor: Any) -> None:
        self.batcher = batcher
        self.counts = Counts()
        self.pace = Pace(batcher.time.usual)
        self._seconds = seconds
        self._reactor = reactor
        self._arrived: list[_Arrived] = []
        self._lock = threading.RLock()

    @abstractmethod
    def start(self) -> None:
        """Takes up the work."""

    @abstractmethod
    def stop(self, seconds: float = 1.0) -> bool:
        """Waits until all that is queued is done; says whether it was within ``seconds``."""

    @abstractmethod
    def give_way(self, seconds: float) -> None:
        """Lets them go on where the reactor has too much to do; blocks it for ``seconds`` at
        most."""

    @abstractmethod
    def _wake(self, count: int) -> None:
        """Tells them that ``count`` requests have come into the queue, or none of those that
        arrived."""

    @property
    def _is_drained(self) -> bool:
        """Whether nothing waits, nor will when this turn of the reactor is over."""
        return not self._arrived and not self.batcher.waiting

    @property
    def behind(self) -> int:
        """How many full batches wait beyond those that are next."""
        return self.batcher.waiting_rows // self.batcher.largest() - self.batcher.workers

    @property
    def backlog(self) -> float:
        """For how many seconds what waits in full batches keeps each worker busy."""
        size = self.batcher.largest()
        rounds = self.batcher.waiting_rows // (size * self.batcher.workers)
        return rounds * self.batcher.time.seconds(size)

    def submit(
        self, job: Job, *, deadline: float, priority: int, size_bytes: int, rows: int = 1
    ) -> None:
        """Queues ``job``, whose ``on_done`` is called on the reactor's thread.

        Its result is ``Overloaded`` where the queue is at its bound, or the deadline cannot be met.
        """
        self._arrived.append(_Arrived(job, deadline, priority, size_bytes, rows))
        if len(self._arrived) == 1:
            self._reactor.callLater(0, self._queue)

    def cancel(self, job: Job) -> None:
        """Takes ``job`` out of the queue, if it still waits there."""
        self._arrived = [each for each in self._arrived if each.job is not job]
        with self._lock:
            if job.item is not None:
                self.batcher.cancel(job.item)

    def load(self) -> LoadReport:
        """How busy the model is now."""
        with self._lock:
            return self.batcher.load(self._seconds())

    def has_news(self) -> bool:
        """Whether ``pace`` tells something else than when this was last asked."""
        with self._lock:
            return self.pace.look(self._seconds())

    def counted(self) -> Counts:
        """A copy of what was counted until now."""
        with self._lock:
            return deepcopy(self.counts)

    def _queue(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
            now = self._seconds()
            for each in arrived:
                each.job.result = self._add(each, now)
            refused = [each.job for each in arrived if each.job.item is None]
        self._wake(len(arrived) - len(refused))
        tell(refused)

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

    def _take(self) -> tuple[Batch | None, list[Job]]:
        """The batch that a free worker is to run now, if there is one, and who came too late."""
        now = self._seconds()
        late: list[Job] = [item.work for item in self.batcher.expire(now)]
        for job in late:
            job.item = None
            job.result = DeadlineExceeded("the deadline came while the request waited in the queue")
        return self.batcher.take(now), late

    def _delay(self) -> float | None:
        """How long to wait for a batch that the operator's ``max_queue_delay`` holds back."""
        ready = self.batcher.ready_at(self._seconds())
        return None if ready is None else max(0.0, ready - self._seconds())

    def _begin(self, batch: Batch, seconds: float) -> None:
        with self._lock:
            self.pace.begin(batch, batch.padded, self._seconds() + seconds)

    def _end(self, batch: Batch, begun: float, done: Executed) -> list[Job]:
        """Notes what came of ``batch``, which was begun then; its jobs."""
        ended = self._seconds()
        inferred = ended - done.finish
        infer = inferred - begun - done.prepare
        jobs: list[Job] = [item.work for item in batch.items]
        for job, item, result in zip(jobs, batch.items, done.results, strict=True):
            # Else the two would know each other, and be left to the garbage collector.
            job.item = None
            job.result = result
            job.times = Times(begun - item.added, done.prepare, infer, done.finish)
        is_good = not any(isinstance(result, Exception) for result in done.results)
        with self._lock:
            self.pace.end(batch, inferred, learn=is_good)
            self.batcher.done(batch, ended, learn=is_good)
            load = self.batcher.load(ended)
            times = [(job.times.total, job.times.queue) for job in jobs]
            self.counts.batch(batch.rows, done.prepare, infer, times)
        for job in jobs:
            job.load = load
        return jobs


def tell(jobs: list[Job]) -> None:
    """Tells these what came of them; on the reactor's thread."""
    for job in jobs:
        job.on_done(job)

# SPDX-License-Identifier: MIT
"""Which requests form the next batch, and why it was cut where it was.

The laws of the queue:

- A worker that is free takes a batch at once if anything waits: nothing waits beside an idle
  worker, unless the operator asked for it with ``max_queue_delay``.
- Among requests of one priority the earliest deadline goes first, and of two with the same
  deadline the one that came first. A smaller priority number goes before a larger one.
- A request has one row or several, and is never cut: sizes count rows. A batch is no larger than
  pays off by the learnt batch time, than its most urgent request can afford, and than its share
  where several workers are idle; a request that is larger by itself is a batch by itself. One
  that is not full has a round size (``round_size``) where its requests allow it.
- Every request leaves exactly once: in a batch, expired, or cancelled.
- The queue is bounded in requests and in bytes, and what has left it is not held on to.

Pure: ``now`` is handed in as seconds of a monotonic clock. Not safe for threads.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import Any

from attrs import define, field, frozen

from smls.wire import LoadReport
from smls_node.batchtime import BatchTime
from smls_node.settings import Limits

OVERHEAD = 0.05
"""A batch grows until its fixed cost is this part of its time; more wins next to nothing."""

PAIR, PAIR_SECONDS = 2, 0.5
"""Two rows that take no longer than that are worth a batch although runs alone do not show it:
decoding, between two runs, puts the network out of the caches, and the second row finds it there
again. Three and more win no more and take more memory. Who waits for the other row of a slower
one would notice."""

LEFT_BEHIND = 64
"""Cancelled entries that a heap may hold beyond as many as wait in it. With more it is built
anew, from fewer than it drops: that costs a cancellation O(1)."""


class Cut(Enum):
    """Why a batch has the size that it has."""

    FULL = "full"
    IDLE_WORKER = "idle worker"
    DEADLINE = "deadline"
    ROUND_SIZE = "round size"
    NO_MORE = "no more"


@define(eq=False)
class Item:
    """One request in the queue; ``deadline`` and ``added`` are moments, in seconds."""

    work: Any
    deadline: float
    priority: int
    size_bytes: int
    rows: int
    added: float
    waiting: bool = field(default=True, init=False)


@frozen(eq=False)
class Batch:
    """Items to run together, their rows padded to ``padded``, and why there are not more."""

    items: tuple[Item, ...]
    rows: int
    padded: int
    cut: Cut


def round_size(size: int) -> int:
    """The largest of 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, … that is not above ``size``.

    TensorFlow prepares its kernels for each size that it meets and keeps them: few sizes are
    prepared soon, and take little memory.
    """
    power = 1 << (size.bit_length() - 1)
    return power + power // 2 if size >= power + power // 2 else power


class QueueFull(Exception):
    """The queue holds as many requests, or bytes, as it may."""


class Batcher:
    """The queue of one model, which ``workers`` workers take batches from.

    ``pays`` is the size above which batches were measured to win nothing, if there is one. It
    bounds those of several requests unless the operator has set a bound.
    """

    def __init__(
        self, limits: Limits, time: BatchTime, workers: int, pays: int | None = None
    ) -> None:
        self.limits = limits
        self.pays = pays
        self.time = time
        self.workers = workers
        self.waiting = 0
        self.waiting_rows = 0
        self.waiting_bytes = 0
        self._running: dict[Batch, float] = {}
        self._heaps: dict[int, list[tuple[float, int, Item]]] = {}
        self._levels: Counter[int] = Counter()
        self._rows: Counter[int] = Counter()
        self._sequence = 0

    @property
    def running(self) -> int:
        """How many rows are in batches that run."""
        return sum(batch.rows for batch in self._running)

    @property
    def idle(self) -> int:
        """How many workers run nothing."""
        return self.workers - len(self._running)

    def add(
        self,
        work: Any,
        now: float,
        *,
        deadline: float,
        priority: int,
        size_bytes: int,
        rows: int = 1,
    ) -> Item:
        """Queues ``work``.

        :raises QueueFull: where the queue is at its bound of requests or bytes.
        """
        if self.waiting >= self.limits.max_queue_size or (
            self.waiting and self.waiting_bytes + size_bytes > self.limits.max_queue_bytes
        ):
            raise QueueFull
        item = Item(work, deadline, priority, size_bytes, rows, now)
        self._sequence += 1
        heap = self._heaps.setdefault(priority, [])
        heapq.heappush(heap, (deadline, self._sequence, item))
        self._levels[priority] += 1
        self._rows[priority] += rows
        self.waiting += 1
        self.waiting_rows += rows
        self.waiting_bytes += size_bytes
        return item

    def cancel(self, item: Item) -> bool:
        """Takes a waiting item out; says whether it was still waiting."""
        if not item.waiting:
            return False
        self._leave(item)
        item.work = None
        heap = self._heaps[item.priority]
        if len(heap) > 2 * self._levels[item.priority] + LEFT_BEHIND:
            heap[:] = [entry for entry in heap if entry[2].waiting]
            heapq.heapify(heap)
        return True

    def expire(self, now: float) -> list[Item]:
        """Takes out those whose deadline has come, or comes before they could be answered.

        The last one that waits is left its chance: what was learnt may be wrong.
        """
        expired: list[Item] = []
        soonest = self.time.seconds(1)
        for heap in self._heaps.values():
            while heap and (
                not heap[0][2].waiting
                or heap[0][0] <= now
                or (self.waiting > 1 and heap[0][0] < now + soonest)
            ):
                item = heapq.heappop(heap)[2]
                if item.waiting:
                    self._leave(item)
                    expired.append(item)
        return expired

    def ahead_of(self, priority: int) -> int:
        """How many rows wait that may go before a new request of ``priority``."""
        return sum(rows for level, rows in self._rows.items() if level <= priority)

    def largest(self) -> int:
        """The largest batch that is cut: the bound, or what pays off by the learnt time."""
        least = PAIR if self.time.seconds(PAIR) <= PAIR_SECONDS else 1
        most = self.limits.bound or max(least, self.pays or self.limits.largest)
        useful = max(min(least, most), self.time.useful_size(most, OVERHEAD))
        return useful if useful == most else round_size(useful)

    def until_free(self, now: float) -> float:
        """Seconds until the first worker is expected to be free.

        A batch that is late is expected to take as long again as it is late.
        """
        if self.idle > 0:
            return 0.0
        ends = [
            started + self.time.seconds(batch.padded) for batch, started in self._running.items()
        ]
        return min(abs(end - now) for end in ends)

    def load(self, now: float) -> LoadReport:
        """How busy the model is."""
        running = self.running
        return LoadReport(
            in_flight=self.waiting_rows + running,
            queue=self.waiting_rows,
            busy_ms=self.until_free(now) * 1000,
            a_ms=self.time.a * 1000,
            b_ms=self.time.b * 1000,
            batch_max=self.largest(),
            runs=self.workers,
        )

    def ready_at(self, now: float) -> float | None:
        """The moment at which ``take`` gives a batch: now, later by ``max_queue_delay``, or
        never while nothing waits."""
        if self.waiting == 0:
            return None
        if self.limits.max_queue_delay == 0 or self.waiting_rows >= self.largest():
            return now
        oldest = min(item.added for _, _, item in self._queued())
        return max(now, oldest + self.limits.max_queue_delay)

    def take(self, now: float) -> Batch | None:
        """The batch that a free worker is to run now, if there is one; ``done`` ends it."""
        ready = self.ready_at(now)
        if ready is None or ready > now:
            return None
        largest = self.largest()
        share = -(-self.waiting_rows // max(1, self.idle))
        size, cut = largest, Cut.FULL
        if share < largest:
            size = round_size(share)
            cut = Cut.ROUND_SIZE if share == self.waiting_rows else Cut.IDLE_WORKER
            if size == self.waiting_rows:
                cut = Cut.NO_MORE
        items: list[Item] = []
        rows = 0
        earliest = float("inf")
        while rows < size and self.waiting:
            head = self._head()
            if items and rows + head.rows > size:
                break
            earliest = min(earliest, head.deadline)
            if items and now + self.time.seconds(rows + head.rows) > earliest:
                cut = Cut.DEADLINE
                break
            self._leave(head)
            items.append(head)
            rows += head.rows
        batch = Batch(tuple(items), rows, self.limits.padded(rows), cut)
        self._running[batch] = now
        return batch

    def done(self, batch: Batch, now: float, *, learn: bool = True) -> None:
        """Ends ``batch``; its time is learnt unless it failed."""
        started = self._running.pop(batch)
        if learn:
            self.time.learn(batch.padded, now - started)

    def _head(self) -> Item:
        for level in sorted(self._heaps):
            heap = self._heaps[level]
            while heap and not heap[0][2].waiting:
                heapq.heappop(heap)
            if heap:
                return heap[0][2]
        raise AssertionError("something waits")

    def _leave(self, item: Item) -> None:
        item.waiting = False
        self._levels[item.priority] -= 1
        self._rows[item.priority] -= item.rows
        self.waiting -= 1
        self.waiting_rows -= item.rows
        self.waiting_bytes -= item.size_bytes

    def _queued(self) -> Iterator[tuple[float, int, Item]]:
        for heap in self._heaps.values():
            yield from (entry for entry in heap if entry[2].waiting)

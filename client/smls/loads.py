# SPDX-License-Identifier: MIT
"""What a client knows of one node, and what it expects of requests there; ``smls.ect`` picks by it.

From the node's last report, the time since, and what this client sent there meanwhile. Pure.
"""

from __future__ import annotations

from math import inf

from attrs import define, evolve, field, frozen

from smls.balancer import Attempt
from smls.wire import LoadReport

CHANGED = 1.5
"""A capacity that changes by more than this factor is news of a node's pace: nodes tell of twice
as much, and what they tell is rounded."""

WAY_WEIGHT = 0.02
"""How much one answer counts in what the way to a node takes. Links are shared unevenly: with
more, nodes on equal links look different, and get all or nothing."""

CROWD_WEIGHT = 0.08
"""How much one report counts in the mean of what a node has in flight. A batch of answers brings
as many equal reports, hence not more."""


@frozen
class Promise:
    """What was expected of a request when it was sent: that it waits for the node's ``work``, one
    full batch of it taking ``full``, and for the way there, which takes ``way`` for each request
    that shares it. ``allowed`` is how much longer it may take, ``shared`` what ``Load`` says, and
    ``rows`` what it is counted as.
    """

    work: float = inf
    full: float = inf
    way: float = 0.0
    sharing: int = 1
    shared: float = 0.0
    allowed: float = 1.0
    rows: int = 1

    def seconds(self, sharing: float) -> float:
        """What the answer takes, where so many share the way."""
        return self.work + self.way * sharing

    def unit(self, sharing: float) -> float:
        """What its lateness is counted in: a full batch, and the way there."""
        return self.full + self.way * sharing

    def longest(self, sharing: float) -> float:
        """After how many seconds it is late."""
        return self.seconds(sharing) + self.allowed * self.unit(sharing)


@define(eq=False)
class Load:
    """What is known of one node; moments and times in seconds."""

    capacity: float
    turn: float
    told: float = 0.0
    """The capacity that its record tells, 0 where it tells none."""
    in_flight: int = 0
    rows: int = 0
    """How many rows the requests in flight have."""
    crowd: float = 0.0
    report: LoadReport | None = None
    heard_at: float = -inf
    queue: int = 0
    """How many rows wait for the batches that start at ``free_at`` and after it."""
    free_at: float = 0.0
    run: float = 0.0
    """How long a batch takes that one more row joins."""
    each: float = 0.0
    """How much longer it takes for each row more."""
    backlog: float = 0.0
    """How long the full batches take that run before it."""
    full: float = 0.0
    """How long a full batch takes."""
    pace: float = 0.0
    """Seconds a row, in full batches."""
    way: float = 0.0
    """Seconds that the way there takes for each request in flight."""
    ways: int = 0
    """From how many answers that is known."""
    floor: float = 0.0
    """What its last answer took, if since it was late none came about as fast as expected, with
    ``floor_sharing`` of this client's requests on the way."""
    floor_sharing: float = 1.0
    shared: float = 0.0
    """How long the way has been each request's so far, had each that was on it its equal part: a
    request has had what this has grown by since it was sent (processor sharing)."""
    shared_at: float = 0.0
    well_at: float = -inf
    """When the request was sent, of those that were answered in time, that was sent last."""
    late_at: float = inf
    promises: dict[Attempt, Promise] = field(factory=dict)
    """What is in flight, oldest first."""

    def hear(self, report: LoadReport, now: float) -> None:
        """Takes in what the node reports."""
        self.report, self.heard_at = report, now
        self.queue, self.free_at = report.queue, now + report.busy_ms / 1000
        self.crowd += CROWD_WEIGHT * (report.in_flight - self.crowd)
        self._work_out(report)

    def tell(self, capacity: float, now: float) -> None:
        """Takes in the capacity that the node's record tells."""
        times = self.told / capacity if self.told and capacity else 1.0
        self.told = capacity
        report = self.report
        if report is None or 1 / CHANGED <= times <= CHANGED:
            return
        self.report = evolve(report, a_ms=times * report.a_ms, b_ms=times * report.b_ms)
        self._work_out(self.report)
        if times > 1:
            self.floor, self.floor_sharing = max(self.floor, self.full), 1.0
        else:
            self.floor, self.heard_at = 0.0, now

    def advance(self, now: float) -> None:
        """Lets the batches begin that have begun by ``now``."""
        report = self.report
        while report is not None and self.queue and self.free_at < now:
            runs = max(1, report.runs)
            batch = min(self.queue, max(1, report.batch_max) * runs)
            self.queue -= batch
            self.free_at += (report.a_ms + report.b_ms * batch / runs) / 1000
            self._work_out(report)

    def join(self, now: float, rows: int) -> None:
        """A request of so many rows is on its way: it starts a batch where the node is free."""
        report = self.report
        if report is None:
            return
        self.advance(now)
        if self.free_at < now and self.in_flight <= report.runs:
            if self.in_flight == report.runs:
                self.free_at = now + (report.a_ms + report.b_ms * rows) / 1000
        else:
            self.queue += rows
        self._work_out(report)

    def share(self, now: float) -> None:
        """Brings ``shared`` up to ``now``, before a request joins or leaves the way."""
        if self.in_flight:
            self.shared += (now - self.shared_at) / self.in_flight
        self.shared_at = now

    def lateness(self) -> float:
        """Seconds that one more request takes at a node that was late: with less on the way to
        it, less in proportion, since what waited may have waited for each other."""
        return self.floor * min(1.0, (self.in_flight + 1) / self.floor_sharing)

    def promise(self, allowed: float, now: float, rows: int) -> Promise:
        """What is expected of a request that is sent now, and may be late by ``allowed`` units."""
        if self.report is None:
            return Promise(shared=self.shared, rows=rows)
        self.advance(now)
        own = self.run + (rows - 1) * self.each
        work = max(0.0, self.free_at - now) + self.backlog + own
        full = max(self.full, own)
        counted = self._counted(self.report, rows)
        return Promise(work, full, self.way, self.in_flight + 1, self.shared, allowed, counted)

    def watch(self) -> None:
        """Notes when the oldest request in flight will be late that none has overtaken."""
        self.late_at = inf
        for attempt, promise in self.promises.items():
            if attempt.sent_at >= self.well_at:
                self.late_at = self.late_from(attempt, promise)
                break

    def late_from(self, attempt: Attempt, promise: Promise) -> float:
        """The moment from which ``attempt`` is late; others may have come onto the way since it
        was sent, and slow it down."""
        return attempt.sent_at + promise.longest(max(promise.sharing, self.in_flight))

    def expected(self, now: float, rows: int = 1) -> float | None:
        """Seconds until it would answer one more request of so many rows; ``None`` before its
        first report."""
        if self.report is None:
            return None
        self.advance(now)
        wait = max(0.0, self.free_at - now) + self.backlog + (rows - 1) * self.each
        way = self.way * (self.in_flight + 1)
        return max(self.lateness(), wait + self.run + way) + max(0.0, now - self.late_at)

    def answered(self, seconds: float, sharing: float) -> None:
        """Learns from an answer how long the way takes: ``seconds`` for each of so many."""
        self.ways += 1
        self.way += max(WAY_WEIGHT, 1 / self.ways) * (seconds / sharing - self.way)

    def leave(self, rows: int) -> None:
        """A request of so many rows was not run after all."""
        self.queue = max(0, self.queue - rows)
        if self.report is not None:
            self._work_out(self.report)

    def _counted(self, report: LoadReport, rows: int) -> int:
        """As how many rows in full batches a request of ``rows`` keeps the node.

        With more than a batch has it is a batch by itself: of a model that takes no rows, all
        inputs are one.
        """
        size = max(1, report.batch_max)
        if rows <= size:
            return rows
        alone = (report.a_ms + report.b_ms * rows) / 1000
        return max(1, round(size * alone / self.full)) if self.full else rows

    def _work_out(self, report: LoadReport) -> None:
        a, b, size = report.a_ms / 1000, report.b_ms / 1000, max(1, report.batch_max)
        places = size * max(1, report.runs)
        self.full = a + b * size
        self.pace = self.full / places
        self.run = a + b * (self.queue % size + 1)
        self.each = b
        self.backlog = self.queue // places * self.full

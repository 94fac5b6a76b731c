# SPDX-License-Identifier: MIT
"""Simulated nodes: they batch as real ones do, and fail in the ways that real ones have.

What a batch takes they have to learn, as a real one does and with its own means: a node that
suddenly is slower tells so only after a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

from attrs import frozen

from smls.balancer import Outcome
from smls.wire import LoadReport, ModelRecord, NodeRecord
from smls_node.batchtime import BatchTime
from smls_node.pace import Pace
from tests.fleet.clock import Clock

Answer = Callable[[Outcome, LoadReport | None, float | None], None]
"""Takes an outcome, a report, and the seconds after which the node wants to be asked again."""

MODEL = "flowers"

LOOK_SECONDS = 0.025
"""How often a node looks whether its batches are late (``smls_node.service.PACE_SECONDS``)."""


@frozen
class Kind:
    """A machine: a batch of n takes ``a + b * n`` seconds, ``runs`` of at most ``size`` at once.

    One that is ``bounded`` pushes back where so many wait already.
    """

    a: float
    b: float
    size: int
    runs: int = 1
    bounded: int = 10**9

    def seconds(self, batch: int) -> float:
        """How long a batch of so many takes."""
        return self.a + self.b * batch

    @property
    def capacity(self) -> float:
        """Requests a second, in full batches."""
        return self.runs * self.size / self.seconds(self.size)


FAST = Kind(a=0.030, b=0.002, size=32)
SLOW = Kind(a=0.020, b=0.060, size=4)


class Mode(Enum):
    """How a node behaves."""

    WELL = "well"
    FAILING = "failing"
    """It answers 500 at once."""
    HANGING = "hanging"
    """It takes requests and never answers."""
    DRAINING = "draining"
    """It pushes new requests back and answers the others."""
    DOWN = "down"
    """It refuses connections; what it had is broken off."""


class Request:
    """One attempt as the node sees it."""

    __slots__ = ("answer", "cancelled")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.cancelled = False


@frozen(eq=False)
class _Run:
    batch: list[Request]
    started_at: float
    ends_at: float


class Node:
    """A node on ``clock``. ``reached`` counts the requests that got through to it; ``tell`` is
    called where its record has changed because its batches take longer than usual, or not."""

    def __init__(
        self, clock: Clock, number: int, kind: Kind, tell: Callable[[], None] = lambda: None
    ) -> None:
        self.kind = kind
        self.slowdown = 1.0
        self.mode = Mode.WELL
        self.reached = 0
        self._clock = clock
        self._tell = tell
        self._looking = False
        self._number = number
        self._starts = 0
        self._queue: deque[Request] = deque()
        self._runs: list[_Run] = []
        self._warm_up()
        self.record = self._announced()

    def set(self, mode: Mode) -> None:
        """Behaves so from now on; a node that comes up again has forgotten everything."""
        was, self.mode = self.mode, mode
        if mode is Mode.DOWN:
            lost = [*self._queue, *(request for run in self._runs for request in run.batch)]
            self._queue.clear()
            self._runs.clear()
            for request in lost:
                request.answer(Outcome.FAILED, None, None)
        elif was is Mode.DOWN:
            self._warm_up()
            self._starts += 1
            self.record = self._announced()

    def take(self, request: Request) -> None:
        """A request has come."""
        if self.mode is Mode.DOWN:
            request.answer(Outcome.REFUSED, None, None)
            return
        self.reached += 1
        if self.mode is Mode.FAILING:
            request.answer(Outcome.FAILED, None, None)
        elif self.mode is Mode.DRAINING:
            request.answer(Outcome.PUSHBACK, None, 1.0)
        elif len(self._queue) >= self.kind.bounded:
            request.answer(Outcome.PUSHBACK, self.report(), 1.0)
        else:
            self._queue.append(request)
            self._begin()

    def report(self) -> LoadReport:
        """What it says of its load, by what it has learnt."""
        kind, learnt = self.kind, self._time
        ends = [run.started_at + learnt.seconds(len(run.batch)) for run in self._runs]
        busy = max(0.0, min(ends) - self._clock.now) if len(ends) >= kind.runs else 0.0
        return LoadReport(
            in_flight=len(self._queue) + sum(len(run.batch) for run in self._runs),
            queue=len(self._queue),
            busy_ms=busy * 1000,
            a_ms=learnt.a * 1000,
            b_ms=learnt.b * 1000,
            batch_max=kind.size,
            runs=kind.runs,
        )

    def expected(self) -> float:
        """Seconds until one more request would be answered, as only the simulator knows it."""
        kind = self.kind
        busy = len(self._runs) >= kind.runs
        wait = min(run.ends_at for run in self._runs) - self._clock.now if busy else 0.0
        rounds, rest = divmod(len(self._queue), kind.size * kind.runs)
        own = kind.seconds(rest // kind.runs + 1)
        return wait + (rounds * kind.seconds(kind.size) + own) * self.slowdown

    def _begin(self) -> None:
        if self.mode is Mode.HANGING or len(self._runs) >= self.kind.runs:
            return
        batch: list[Request] = []
        while self._queue and len(batch) < self.kind.size:
            request = self._queue.popleft()
            if not request.cancelled:
                batch.append(request)
        if batch:
            seconds = self.kind.seconds(len(batch)) * self.slowdown
            run = _Run(batch, self._clock.now, self._clock.now + seconds)
            self._runs.append(run)
            self._pace.begin(run, len(batch), self._clock.now)
            self._clock.after(seconds, self._end, run)
            if not self._looking:
                self._looking = True
                self._clock.after(LOOK_SECONDS, self._look)

    def _end(self, run: _Run) -> None:
        if self.mode is Mode.HANGING or run not in self._runs:
            return
        self._runs.remove(run)
        self._pace.end(run, self._clock.now)
        self._time.learn(len(run.batch), run.ends_at - run.started_at)
        self._begin()
        report = self.report()
        for request in run.batch:
            request.answer(Outcome.ANSWERED, report, None)

    def _look(self) -> None:
        """Looks until it has nothing to do."""
        self._looking = bool(self._runs)
        if self._pace.look(self._clock.now):
            self.record = self._announced()
            self._tell()
        if self._looking:
            self._clock.after(LOOK_SECONDS, self._look)

    def _warm_up(self) -> None:
        self._time = BatchTime((size, self.kind.seconds(size)) for size in (1, self.kind.size))
        self._pace = Pace(self._time.usual)

    def _announced(self) -> NodeRecord:
        capacity = self.kind.capacity / self._pace.slowdown
        return NodeRecord(
            id=f"node-{self._number}-{self._starts}",
            address=f"node-{self._number}:12480",
            models=(ModelRecord(MODEL, capacity=capacity),),
        )

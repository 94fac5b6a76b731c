# SPDX-License-Identifier: MIT
"""What is counted while a model is served, as Prometheus takes it. Pure.

Plain numbers are counted, and made into metrics when they are asked for: an observation costs well
under a microsecond. Not safe for threads: a model's are counted under its queue's lock, but for
``outcomes``, which are the reactor's, and a port's in the thread that serves it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import accumulate

from attrs import define, field

SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
"""Bounds for times: from a tiny network's to the longest that a request usually may take."""

SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Bounds for numbers of rows."""

OK = "ok"
"""The outcome of a request that was answered; any other is an error's code."""

CANCELLED = "cancelled"
"""The outcome of a request whose client has left."""


@define
class Histogram:
    """How many observations were at most each of ``bounds``, and their sum."""

    bounds: tuple[float, ...]
    sum: float = 0.0
    _counts: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound as Prometheus writes it, and how many observations were at most that.

        >>> seen = Histogram((1.0, 2.0))
        >>> seen.observe(1.5)
        >>> seen.buckets()
        [('1.0', 0), ('2.0', 1), ('+Inf', 1)]
        """
        bounds = [*map(str, self.bounds), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True))


def _times() -> Histogram:
    return Histogram(SECONDS)


@define
class Counts:
    """A model's: outcomes of requests; the seconds of requests in all and in the queue, and of
    batches being decoded and run; the rows of batches."""

    outcomes: Counter[str] = field(factory=Counter)
    total: Histogram = field(factory=_times)
    queue: Histogram = field(factory=_times)
    decode: Histogram = field(factory=_times)
    infer: Histogram = field(factory=_times)
    rows: Histogram = field(factory=lambda: Histogram(SIZES))

    def batch(
        self, rows: int, decode: float, infer: float, requests: Iterable[tuple[float, float]]
    ) -> None:
        """Counts a batch; ``requests`` are each one's seconds in all and in the queue."""
        self.rows.observe(rows)
        self.decode.observe(decode)
        self.infer.observe(infer)
        for total, queue in requests:
            self.total.observe(total)
            self.queue.observe(queue)


@define
class Traffic:
    """A port's: answers by status, and the seconds from a request's headers to its answer;
    ``in_flight`` says how many are not answered yet."""

    in_flight: Callable[[], int]
    statuses: Counter[int | str] = field(factory=Counter)
    seconds: Histogram = field(factory=_times)

    def answered(self, status: int | str, seconds: float) -> None:
        """Counts an answer."""
        self.statuses[status] += 1
        self.seconds.observe(seconds)

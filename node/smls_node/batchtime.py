# SPDX-License-Identifier: MIT
"""How long a batch of n takes, learnt from the batches that were run: a + b·n seconds.

A least-squares line through (n, seconds) with weights that halve every ``HALF_LIFE`` batches, so
that it follows a machine whose load changes. The samples of the warm-up are kept as anchors of
full weight: they keep the line defined where all later batches have the same size.

A machine that becomes several times slower at once would be misjudged for many batches by this
alone. So where the last ``RECENT`` batches were off the line by more than ``OFF``, by their
median, the whole line is moved to where they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median

HALF_LIFE = 64
"""Batches after which a sample counts half: a fraction of a second to a few seconds of load."""

OUTLIER = 4.0
"""A batch that took longer than so many times what was expected counts as having taken that:
a page fault, a pause of the machine or a hang says nothing about the next batch."""

RECENT = 5
"""Batches whose median says how fast the machine is now: two of them may be outliers."""

OFF = 1.5
"""Batches scatter by less than this on a machine whose load stays as it is."""

_DECAY = 0.5 ** (1 / HALF_LIFE)


class BatchTime:
    """The line a + b·n; ``a`` and ``b`` are seconds, at least 0."""

    def __init__(self, anchors: Iterable[tuple[int, float]] = ()) -> None:
        """``anchors`` are pairs of a batch's size and its seconds, from the warm-up."""
        self.a = 0.0
        self.b = 0.0
        self._anchors = tuple(anchors)
        self._sums: tuple[float, ...] = (0.0,) * 5
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT)
        self._fit()
        self._warm = self.a, self.b

    def seconds(self, size: int) -> float:
        """What a batch of ``size`` is expected to take; 0 before anything was learnt."""
        return self.a + self.b * size

    def usual(self, size: int) -> float:
        """What a batch of ``size`` took at the warm-up; 0 where nothing was measured."""
        a, b = self._warm
        return a + b * size

    def learn(self, size: int, seconds: float) -> None:
        """Takes in that a batch of ``size`` took ``seconds``."""
        self._recent.append((size, seconds))
        expected = self.seconds(size)
        if expected > 0:
            seconds = min(seconds, OUTLIER * expected)
        self._sums = _added([total * _DECAY for total in self._sums], size, seconds)
        self._fit()
        self._keep_pace()

    def useful_size(self, most: int, overhead: float) -> int:
        """The smallest batch in which the fixed part takes at most ``overhead`` of the time.

        A larger one would win less than that in throughput and cost its requests latency.
        """
        if self.b <= 0:
            return most if self.a > 0 else 1
        # a / (a + b·n) = overhead, solved for n.
        return max(1, min(most, round(self.a * (1 / overhead - 1) / self.b)))

    def _fit(self) -> None:
        sums = self._sums
        for size, seconds in self._anchors:
            sums = _added(sums, size, seconds)
        weight, n, nn, t, nt = sums
        if weight == 0:
            return
        spread = weight * nn - n * n
        if spread > 1e-9 * weight * nn:
            self.b = max(0.0, (weight * nt - n * t) / spread)
            self.a = (t - self.b * n) / weight
        else:
            # One size alone was seen: keep the shape, and let the line pass through the mean.
            # With no shape yet, a larger batch may cost nothing more: so larger ones are tried.
            expected = self.a + self.b * n / weight
            scale = t / weight / expected if expected > 0 else 0.0
            self.a, self.b = (self.a * scale, self.b * scale) if scale else (t / weight, 0.0)
        if self.a < 0:
            self.a, self.b = 0.0, nt / nn

    def _keep_pace(self) -> None:
        """Moves the line to the last batches where they are far off; the sums follow by and by."""
        if len(self._recent) < RECENT or self.a + self.b <= 0:
            return
        pace = median(seconds / self.seconds(size) for size, seconds in self._recent)
        if not 1 / OFF <= pace <= OFF:
            self.a, self.b = self.a * pace, self.b * pace


def _added(sums: Iterable[float], size: int, seconds: float) -> tuple[float, ...]:
    sample = (1.0, size, size * size, seconds, size * seconds)
    return tuple(total + part for total, part in zip(sums, sample, strict=True))

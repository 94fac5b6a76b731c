# SPDX-License-Identifier: MIT
"""How many times as long as at its warm-up a model's batches take, as registries are told it. Pure.

What a node reports with its answers comes too late where it turns slow at once: each client finds
out by a late answer of its own. So it tells its registries, which tell all clients. The laws:

- A batch that runs for more than ``FACTOR`` times as long as usual, and ``LEAST_SECONDS`` longer,
  is late, and is expected to take as long again. It tells before it ends: the next ones wait.
- One batch that ends in time tells that the machine is well: none is fast by accident. But one
  that shares its cores scatters, and has such batches among slow ones: each time that it turns
  slow within ``MEMORY_SECONDS`` of having told that it is well, ``BACKOFF`` times as many batches
  in a row are wanted before it tells so again (hysteresis, with exponential backoff).
- News is what differs from what was told by more than ``FACTOR``, so a machine whose load
  scatters has none; and they are few (``NEWS``), so one that changes all the time is no burden
  to a registry and its watchers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable

FACTOR = 2.0
"""In the simulation clients lose the calls of a tenth of a second before they hear of it."""

LEAST_SECONDS = 0.05
"""What is over sooner is not worth a message, which travels for some 20 ms."""

NEWS = 4
"""A node that turns slow and well again twice tells each of it at once."""

NEWS_SECONDS = 40.0
"""There are no more than ``NEWS`` in so long: a thousand nodes that change all the time tell a
hundred changes a second together."""


BACKOFF = 4
"""Of MobileNetV2 under full load on two cores that two other processes use, 72 s were recorded:
were news not bounded, there would be 13, seven of them in the first 12 s; with 2 there are 21, and
with no backoff 467."""

MEMORY_SECONDS = 60.0
"""So long without news of being slow after it told that it is well, and a machine is trusted as it
was before; twice as long, and it is trusted more."""

MOST_BATCHES = 1024
"""Batches in a row that are wanted at most: a minute of a busy node."""


class Pace:
    """``slowdown`` is what was told last, 1 at first; ``usual`` gives the seconds that a batch of
    a size took at the warm-up, 0 where nothing was measured: then there are no news."""

    def __init__(self, usual: Callable[[int], float]) -> None:
        self.slowdown = 1.0
        self._usual = usual
        self._running: dict[Hashable, tuple[float, float]] = {}
        self._last = 1.0
        self._told: deque[float] = deque(maxlen=NEWS)
        self._wanted = 1
        self._row = 0
        """How many batches in a row took less than what was told, and the ``_longest`` of them."""
        self._longest = 1.0
        self._well_at: float | None = None
        """When it told that it is well; ``None`` where it has told since that it is slow."""

    def begin(self, run: Hashable, size: int, now: float) -> None:
        """A batch of ``size`` begins to run."""
        usual = self._usual(size)
        if usual > 0:
            self._running[run] = now, usual

    def end(self, run: Hashable, now: float, *, learn: bool = True) -> None:
        """The batch has ended; what failed says nothing of others."""
        begun = self._running.pop(run, None)
        if begun is None or not learn:
            return
        self._last = _times(now - begun[0], begun[1])
        if self._last * FACTOR < self.slowdown:
            self._row += 1
            self._longest = max(self._longest, self._last)
        else:
            self._start_over()

    def look(self, now: float) -> bool:
        """Whether there are news, which ``slowdown`` has from now on."""
        late = [_times(now - begun, usual) for begun, usual in self._running.values()]
        times = max([self._last, *(2 * each for each in late if each > 1)])
        is_slow = times > self.slowdown * FACTOR
        is_well = self._row >= self._wanted and times * FACTOR < self.slowdown
        if not (is_slow or is_well):
            return False
        if len(self._told) == NEWS and now - self._told[0] < NEWS_SECONDS:
            return False
        if is_slow:
            self._doubt(now)
        else:
            times, self._well_at = max(times, self._longest), now
        self._told.append(now)
        self.slowdown = times
        self._start_over()
        return True

    def _doubt(self, now: float) -> None:
        """Wants more batches in a row the sooner after it told that it is well it is slow."""
        if self._well_at is not None:
            minutes = min(MOST_BATCHES, int((now - self._well_at) / MEMORY_SECONDS))
            self._wanted = max(1, min(MOST_BATCHES, BACKOFF * self._wanted >> 2 * minutes))
            self._well_at = None

    def _start_over(self) -> None:
        self._row, self._longest = 0, 1.0


def _times(seconds: float, usual: float) -> float:
    """How many times as long as usual, 1 where it is not late."""
    return seconds / usual if seconds > max(FACTOR * usual, usual + LEAST_SECONDS) else 1.0

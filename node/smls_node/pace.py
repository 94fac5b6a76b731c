# SPDX-License-Identifier: MIT
"""How many times as long as at its warm-up a model's batches take, as registries are told it. Pure.

What a node reports with its answers comes too late where it turns slow at once: each client finds
out by a late answer of its own. So it tells its registries, which tell all clients. The laws:

- A batch that runs for more than ``FACTOR`` times as long as usual, and ``LEAST_SECONDS`` longer,
  is late, and is expected to take as long again. It tells before it ends: the next ones wait.
- One batch that ends in time tells that the machine is well: none is fast by accident.
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


class Pace:
    """``slowdown`` is what was told last, 1 at first; ``usual`` gives the seconds that a batch of
    a size took at the warm-up, 0 where nothing was measured: then there are no news."""

    def __init__(self, usual: Callable[[int], float]) -> None:
        self.slowdown = 1.0
        self._usual = usual
        self._running: dict[Hashable, tuple[float, float]] = {}
        self._last = 1.0
        self._told: deque[float] = deque(maxlen=NEWS)

    def begin(self, run: Hashable, size: int, now: float) -> None:
        """A batch of ``size`` begins to run."""
        usual = self._usual(size)
        if usual > 0:
            self._running[run] = now, usual

    def end(self, run: Hashable, now: float, *, learn: bool = True) -> None:
        """The batch has ended; what failed says nothing of others."""
        begun = self._running.pop(run, None)
        if begun is not None and learn:
            self._last = _times(now - begun[0], begun[1])

    def look(self, now: float) -> bool:
        """Whether there are news, which ``slowdown`` has from now on."""
        times = self._last
        for begun, usual in self._running.values():
            late = _times(now - begun, usual)
            if late > 1:
                times = max(times, 2 * late)
        if self.slowdown / FACTOR <= times <= self.slowdown * FACTOR:
            return False
        if len(self._told) == NEWS and now - self._told[0] < NEWS_SECONDS:
            return False
        self._told.append(now)
        self.slowdown = times
        return True


def _times(seconds: float, usual: float) -> float:
    """How many times as long as usual, 1 where it is not late."""
    return seconds / usual if seconds > max(FACTOR * usual, usual + LEAST_SECONDS) else 1.0
